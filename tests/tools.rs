//! `shanty ckpt`, `replay` and `verify-resume`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Command;

use shanty::checkpoint::{read_tensors, write_tensors};
use shanty::params::{Role, StateDict, StateTensor};

const CONFIG: &str = "\
model:
  type: ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 3}]}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader:
  batch_size: 4
  dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}
  sampler: {type: DefaultSampler, shuffle: true}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1, momentum: 0.9}}
train_cfg: {by_epoch: true, max_epochs: 2}
custom_hooks: [{type: CheckInvalidLossHook, interval: 1}]
";

/// Exit code and standard output.
fn shanty(dir: &Path, args: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap();
    (out.status.code().unwrap(), text)
}

fn with_config() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("run.yaml"), CONFIG).unwrap();
    dir
}

#[test]
fn checkpoints_are_inspected_compared_and_converted() {
    let dir = with_config();
    for work in ["a", "b"] {
        let seed = format!("randomness.seed={}", work.len());
        let (code, text) = shanty(dir.path(), &["train", "run.yaml", "--work-dir", work, "--set", &seed]);
        assert_eq!(code, 0, "{text}");
    }
    let (code, text) = shanty(dir.path(), &["ckpt", "inspect", "a/epoch_2"]);
    assert_eq!(code, 0);
    for says in [
        "epoch 2, iteration 8, seed 1",
        "backbone.1.weight",
        "[3, 12]",
        "2 tensors, 39 numbers",
        "optimizer: 2 tensors",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let digest = |path: &str| shanty(dir.path(), &["ckpt", "digest", path]).1;
    assert_eq!(digest("a/epoch_2"), digest("b/epoch_2"), "two runs of one config and seed");
    assert_ne!(digest("a/epoch_1"), digest("a/epoch_2"));
    assert_eq!(shanty(dir.path(), &["ckpt", "diff", "a/epoch_2", "b/epoch_2"]), (0, "equal\n".into()));
    let (code, text) = shanty(dir.path(), &["ckpt", "diff", "a/epoch_1", "a/epoch_2"]);
    assert_eq!(code, 1);
    assert!(text.contains("model/backbone.1.bias differs, by up to"), "{text}");
    let (code, _) = shanty(dir.path(), &["ckpt", "convert", "a/epoch_2", "out.safetensors"]);
    assert_eq!(code, 0);
    let model = |path: &str| read_tensors(&dir.path().join(path)).unwrap();
    assert_eq!(model("out.safetensors"), model("a/epoch_2"));
    let (code, text) = shanty(dir.path(), &["ckpt", "inspect", "nothing"]);
    assert_eq!(code, 1);
    assert!(text.contains("there is no such checkpoint"), "{text}");
}

#[test]
fn an_average_is_a_mean_of_weights_with_the_last_counters() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, weight: [f32; 2], count: f32| {
        let weight = ndarray::arr1(&weight).into_dyn().mapv(|v| v as shanty::base::Elem);
        let count = ndarray::arr0(count as shanty::base::Elem).into_dyn();
        let state = StateDict(vec![
            ("w".into(), StateTensor { role: Role::Weight, value: weight }),
            ("n".into(), StateTensor { role: Role::Counter, value: count }),
        ]);
        fs::write(dir.path().join(name), write_tensors(&state).unwrap()).unwrap();
    };
    file("a.safetensors", [1.0, -2.0], 3.0);
    file("b.safetensors", [2.0, 2.0], 4.0);
    file("c.safetensors", [6.0, 3.0], 5.0);
    let args =
        ["ckpt", "average", "a.safetensors", "b.safetensors", "c.safetensors", "--out", "mean.safetensors"];
    assert_eq!(shanty(dir.path(), &args).0, 0);
    let mean = read_tensors(&dir.path().join("mean.safetensors")).unwrap();
    assert_eq!(mean.get("w").unwrap().value, ndarray::arr1(&[3.0, 1.0]).into_dyn());
    assert_eq!(mean.get("n").unwrap().value, ndarray::arr0(5.0).into_dyn());
}

#[test]
fn a_config_proves_that_it_resumes() {
    let dir = with_config();
    let (code, text) =
        shanty(dir.path(), &["verify-resume", "run.yaml", "--cuts", "2", "--set", "digest_interval=3"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        text.lines().filter(|l| l.starts_with("cut after") && l.ends_with("of 8: equal")).count(),
        2,
        "{text}"
    );
    assert!(!dir.path().join("work_dirs").exists(), "it leaves nothing behind");
}

#[test]
fn a_bad_step_is_repeated_in_one_command() {
    let dir = with_config();
    let args = ["train", "run.yaml", "--work-dir", "w", "--set", "optim_wrapper.optimizer.lr=1e38"];
    let (code, text) = shanty(dir.path(), &args);
    assert_eq!(code, 1, "{text}");
    let at = text.find("shanty replay ").expect(&text) + "shanty replay ".len();
    let bundle = text[at..].split('`').next().unwrap();
    let (code, text) = shanty(dir.path(), &["replay", bundle]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("in the run: `loss` became") && text.contains("now:        `loss` became"),
        "{text}"
    );
}

#[test]
fn a_time_limit_and_a_stop_file_have_an_exit_code_of_their_own() {
    let dir = with_config();
    let (code, text) = shanty(dir.path(), &["train", "run.yaml", "--work-dir", "w", "--max-time", "0s"]);
    assert_eq!(code, 75, "{text}");
    assert!(
        text.contains("interrupted (the time is up; `--resume` goes on) after 0 epochs, 1 iteration,"),
        "{text}"
    );
    fs::write(dir.path().join("stop"), "").unwrap();
    let (code, text) = shanty(dir.path(), &["train", "run.yaml", "--work-dir", "w", "--stop-file", "stop"]);
    assert_eq!(code, 2, "{text}");
    let (code, _) = shanty(dir.path(), &["train", "run.yaml", "--work-dir", "w", "--resume"]);
    assert_eq!(code, 0);
}

/// Weights with the batch norms in them score as the checkpoint does, in the same config, and are not trained.
#[test]
fn fused_weights_are_read_by_the_same_config() {
    let dir = tempfile::tempdir().unwrap();
    let backbone = "[{type: Flatten}, {type: Linear, in_features: 12, out_features: 8, bias: false}, \
            {type: BatchNorm1d, num_features: 8}, {type: ReLU}, {type: Linear, in_features: 8, out_features: 3}]";
    let plain = "[{type: Flatten}, {type: Linear, in_features: 12, out_features: 3}]";
    let config = CONFIG.replace(plain, backbone);
    assert_ne!(config, CONFIG);
    fs::write(dir.path().join("run.yaml"), config).unwrap();
    let run = |args: &[&str]| shanty(dir.path(), args);
    let (code, text) = run(&["train", "run.yaml", "--work-dir", "a"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&["ckpt", "fuse", "run.yaml", "a/epoch_2", "fused.safetensors"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("1 batch norm in the weights before them") && text.contains("4 tensors in"),
        "{text}"
    );
    let names = read_tensors(&dir.path().join("fused.safetensors")).unwrap();
    let names: Vec<_> = names.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["backbone.1.bias", "backbone.1.weight", "backbone.4.bias", "backbone.4.weight"]);

    let predict = |weights: &str, out: &str, more: &[&str]| {
        let args = [&["predict", "run.yaml", weights, "--out", out], more].concat();
        let (code, text) = run(&args);
        assert_eq!(code, 0, "{text}");
        let text = fs::read_to_string(dir.path().join(out)).unwrap();
        let numbers = text.lines().skip(1).flat_map(|line| line.split(','));
        numbers.filter_map(|cell| cell.parse::<f64>().ok()).collect::<Vec<_>>()
    };
    let fused = ["load_options.fused=true"];
    let (a, b) = (predict("a/epoch_2", "a.csv", &[]), predict("fused.safetensors", "b.csv", &fused));
    assert!(a.len() == b.len() && a.len() > 20, "{a:?}");
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");

    let (code, text) = run(&["predict", "run.yaml", "fused.safetensors", "--out", "c.csv"]);
    assert_eq!(code, 1);
    assert!(text.contains("`load_options: {fused: true}`"), "{text}");
    let (code, text) = run(&["train", "run.yaml", "load_from=fused.safetensors", fused[0], "work_dir=c"]);
    assert_ne!(code, 0);
    assert!(text.contains("there are no batch norms left to train"), "{text}");
}

/// What a layer gives is written in place of predictions; a layer that there is not is told with one that there is.
#[test]
fn features_of_a_layer_are_written() {
    let dir = with_config();
    let (code, text) = shanty(dir.path(), &["train", "run.yaml", "--work-dir", "a"]);
    assert_eq!(code, 0, "{text}");
    let features = |layer: &str, out: &str| {
        shanty(dir.path(), &["predict", "run.yaml", "a/epoch_2", "--out", out, "--features", layer])
    };
    let (code, text) = features("backbone.0", "flat.csv");
    assert!(code == 0 && text.contains("16 feature vectors in flat.csv"), "{text}");
    let table = fs::read_to_string(dir.path().join("flat.csv")).unwrap();
    let header: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    assert_eq!((header.len(), header[1], header[12]), (13, "backbone.0_0", "backbone.0_11"));
    assert_eq!(table.lines().count(), 17);
    let (code, text) = features("backbone.9", "none.csv");
    assert!(code == 2 && text.contains("no module `backbone.9`") && text.contains("did you mean"), "{text}");
}
