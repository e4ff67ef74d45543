//! `shanty summary`: counts that papers publish, and shapes.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn shanty(config: &str, more: &[&str]) -> String {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(config);
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shanty"));
    let out = command.current_dir(dir.path()).arg("summary").arg(config).args(more).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a summary writes nothing");
    String::from_utf8(out.stdout).unwrap()
}

fn json(config: &str, more: &[&str]) -> Value {
    serde_json::from_str(&shanty(config, &[more, &["--format", "json"]].concat())).unwrap()
}

fn module<'a>(summary: &'a Value, path: &str) -> &'a Value {
    let modules = summary["modules"].as_array().unwrap();
    modules.iter().find(|module| module["path"] == path).unwrap()
}

/// LeNet-5 on 32 × 32 pixels: 28² · 6 · 25 + 10² · 16 · 150 + 120 · 400 + 120 · 84 + 84 · 10 multiply-adds.
#[test]
fn lenet5_has_the_published_counts() {
    let found = json("mnist_lenet5.yaml", &["--set", SYNTHETIC_1]);
    assert_eq!(found["parameters"], 61_706);
    assert_eq!(module(&found, "")["multiply_adds"], 416_520);
    assert_eq!(module(&found, "")["activations"], 28 * 28 * 6 + 10 * 10 * 16 + 120 + 84 + 10);
    let conv = module(&found, "backbone.features.0");
    assert_eq!((&conv["type"], &conv["output"]), (&"Conv2d".into(), &serde_json::json!([6, 28, 28])));
    assert_eq!(conv["parameters"], 156);
    let step = &found["step_bytes"];
    assert_eq!((&step["weights"], &step["gradients"]), (&(4 * 61_706).into(), &(4 * 61_706).into()));
    // The output of the first convolution alone, of every sample.
    let batch = step["batch_size"].as_u64().unwrap();
    assert!(step["activations"].as_u64().unwrap() > batch * 4 * 6 * 28 * 28);
}

const SYNTHETIC_1: &str =
    "train_dataloader.dataset={type: Synthetic, n: 40, shape: [1, 32, 32], classes: 10}";
const SYNTHETIC_3: &str =
    "train_dataloader.dataset={type: Synthetic, n: 4, shape: [3, 224, 224], classes: 10}";

/// torchvision's page says 11,689,512 parameters and 1.81 GFLOPS, which are 1,814,073,344 multiply-adds.
#[test]
fn resnet18_has_the_published_counts() {
    let more = [
        "--set",
        SYNTHETIC_3,
        "--set",
        "train_dataloader.batch_size=1",
        "--set",
        "model.backbone.init_cfg=null",
        "--set",
        "model.head.num_classes=1000",
    ];
    let found = json("finetune_resnet18.yaml", &more);
    assert_eq!(found["parameters"], 11_689_512);
    assert_eq!(module(&found, "")["multiply_adds"], 1_814_073_344u64);
    let conv = module(&found, "backbone.layer1.0.conv1");
    assert_eq!(conv["multiply_adds"], 56 * 56 * 64 * 64 * 9);
    assert_eq!(conv["output"], serde_json::json!([64, 56, 56]));
    assert_eq!(module(&found, "backbone.layer4")["parameters"], 8_393_728);
}

/// The maps between the layers are of bf16, half as large; the working memory of the ops and the classifier are not.
#[test]
fn a_step_is_measured_in_the_precision_of_its_training() {
    let bytes = |set: &[&str]| {
        let sets = [
            SYNTHETIC_3,
            "train_dataloader.batch_size=4",
            "model.backbone.init_cfg=null",
            "model.head.num_classes=10",
        ];
        let sets: Vec<&str> = sets.iter().chain(set).flat_map(|set| ["--set", set]).collect();
        json("finetune_resnet18.yaml", &sets)["step_bytes"]["activations"].as_u64().unwrap()
    };
    let (full, half) = (bytes(&[]), bytes(&["optim_wrapper.type=AmpOptimWrapper"]));
    assert!((full * 4 / 10..full * 7 / 10).contains(&half), "{half} of {full}");
}

#[test]
fn the_table_is_nested_and_as_deep_as_asked() {
    let text = shanty("parcels_two_inputs.yaml", &[]);
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap().to_owned();
    assert!(line("module ").contains("multiply-adds"), "{text}");
    assert!(line("  coarse: Sequential").contains("[N, 8, 12, 12]"), "{text}");
    assert!(line("  kind: Linear").contains("[N, 3]"), "{text}");
    assert!(text.contains("a training step of 16 samples takes"), "{text}");
    assert!(text.contains(" K multiply-adds a sample"), "{text}");
    let short = shanty("parcels_two_inputs.yaml", &["--depth", "1"]);
    assert!(short.contains("network: Sequential") && !short.contains("Conv2d"), "{short}");
}
