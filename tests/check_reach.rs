//! How far `check` looks: at networks that would take minutes to compute, at labels and tokens that come late, at samplers
//! of evaluations; and that the commands beside it tell what it tells.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod said;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ndarray::ArrayD;
use said::Said;
use shanty::base::shapes_only;
use shanty::config::Level;
use shanty::data::Batch;
use shanty::model::{Model, StepCx};
use shanty::params::{Info, Role, Set};
use shanty::registry::{BuildCx, Spec};

const LARGE: &str = "\
model:
  type: ImageClassifier
  backbone: {type: ResNet, depth: 50}
  neck: {type: GlobalAveragePooling}
  head: {type: LinearClsHead, num_classes: 10, in_channels: 2048}
train_dataloader: {batch_size: 2, dataset: {type: Synthetic, n: 4, shape: [3, 512, 512], classes: 10}}
val_dataloader: {batch_size: 2, dataset: {type: Synthetic, n: 4, shape: [3, 512, 512], classes: 10, seed: 7}}
val_evaluator: [{type: Accuracy}]
val_cfg: {}
train_cfg: {by_epoch: true, max_epochs: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.01}}
randomness: {seed: 1}
";

/// Whether one complaint of this level has these words, and a place.
fn told(said: &Said, level: Level, words: &str) {
    let found =
        said.all.iter().any(|(own, text, at)| *own == level && text.contains(words) && !at.is_empty());
    assert!(found, "{words:?}: {:#?}", said.all);
}

/// The most memory that this process has had.
#[cfg(target_os = "linux")]
fn most_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Two pictures of 512 × 512 pixels through ResNet-50 are 43 G multiply-adds forward, and 1 GB of activations: the check
/// of such a network took minutes and gigabytes without optimisation.
#[test]
fn a_large_network_is_tried_by_its_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let fine = Said::of(LARGE, dir.path());
    let by_shapes = "the layers were tried by their shapes alone, their numbers not";
    assert!(
        !fine.refused && fine.all.iter().any(|(_, text, _)| text.starts_with(by_shapes)),
        "{:?}",
        fine.all
    );
    // What does not fit is found all the same, behind all of the layers.
    let wrong = Said::of(&LARGE.replace("in_channels: 2048", "in_channels: 2000"), dir.path());
    assert!(wrong.refused && wrong.all.iter().any(|(_, text, _)| text.contains("2048")), "{:?}", wrong.all);
    let labels = Said::of(&LARGE.replace("num_classes: 10", "num_classes: 9"), dir.path());
    assert!(labels.refused, "{:?}", labels.all);
    // Weights of more than 256 MiB are not drawn.
    let wide = Said::of(&wide(152), dir.path());
    assert!(
        !wide.refused && wide.all.iter().any(|(_, text, _)| text.contains("are not drawn")),
        "{:?}",
        wide.all
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    #[cfg(target_os = "linux")]
    assert!(most_bytes() < 2 << 30, "{}", most_bytes());
}

/// A network of so many layers, whose weights take more than a check draws.
fn wide(depth: u32) -> String {
    LARGE
        .replace("depth: 50", &format!("depth: {depth}"))
        .replace("ResNet,", "ResNet, base_channels: 96,")
        .replace("in_channels: 2048", "in_channels: 3072")
}

/// Of a large network, or one whose data are elsewhere, nobody looked at what its weights begin with, and of a large one
/// nobody asked the hooks: the check said that all is fine, and the training began with an error.
#[test]
fn what_the_weights_begin_with_is_read_for_a_large_network_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(at("garbage.pth"), "no weights").unwrap();
    fs::write(at("other.yaml"), "a: 1").unwrap();
    fs::create_dir(at("empty")).unwrap();
    for name in ["garbage.pth", "other.yaml", "empty", "missing.pth"] {
        let said = Said::of(&format!("{}load_from: {}\n", wide(152), at(name)), dir.path());
        told(&said, Level::Error, name);
    }
    let small = LARGE.replace("512, 512", "32, 32").replace("depth: 50", "depth: 18");
    fs::write(at("small.yaml"), small.replace("2048", "512") + "work_dir: small\n").unwrap();
    let (code, text) = shanty(&["train", "small.yaml"], dir.path());
    assert_eq!(code, 0, "{text}");
    let another = format!("{}load_from: {}\n", wide(152), at("small/epoch_2"));
    for text in [another.clone(), another + "resume: true\nallow_data_changes: true\n"] {
        told(&Said::of(&text, dir.path()), Level::Error, "its weights do not fit the model");
    }
    let file =
        format!("base_channels: 96, init_cfg: {{type: Pretrained, checkpoint: {}}},", at("missing.pth"));
    let begun = wide(101).replace("base_channels: 96,", &file);
    told(&Said::of(&begun, dir.path()), Level::Error, "missing.pth");
}

/// What hooks ask of the model in the first iteration needs no numbers.
#[test]
fn the_hooks_of_a_large_network_are_asked() {
    let dir = tempfile::tempdir().unwrap();
    let with = |hook: &str| Said::of(&format!("{}custom_hooks: [{hook}]\n", wide(152)), dir.path());
    told(&with("{type: FreezeHook, modules: [backbone.nothing]}"), Level::Error, "backbone.nothing");
    told(&with("{type: MeanTeacherHook}"), Level::Error, "no weights below `teacher`");
    let fine = with("{type: FreezeHook, modules: [backbone.layer1]}");
    assert!(!fine.refused, "{:#?}", fine.all);
}

/// Nor does it need the data to read a checkpoint; that the hooks were not asked is said.
#[test]
fn what_the_weights_begin_with_is_read_without_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let here = "{type: Synthetic, n: 4, shape: [3, 32, 32], classes: 10}";
    let small = LARGE.replace("512, 512", "32, 32").replace("depth: 50", "depth: 18").replace("2048", "512");
    assert!(small.contains(here));
    let gone =
        "{type: ImageFolder, data_root: no/where, pipeline: [{type: LoadImageFromFile}, {type: PackInputs}]}";
    let absent = small.replace(here, gone);
    let fine = Said::of(&absent, dir.path());
    assert!(!fine.refused, "{:#?}", fine.all);
    // Weights may be where the data are; what is here and no weights is a mistake.
    let from = |path: &Path| Said::of(&format!("{absent}load_from: '{}'\n", path.display()), dir.path());
    let elsewhere = from(&dir.path().join("nowhere.pth"));
    told(&elsewhere, Level::Warning, "nowhere.pth");
    assert!(!elsewhere.refused);
    let address = "https://example.org/none-of-the-cache.pth";
    let fetched = Said::of(&format!("{absent}load_from: {address}\n"), dir.path());
    told(&fetched, Level::Warning, address);
    assert!(!fetched.refused);
    // It is not by the words of the message that one is told from the other.
    for name in ["torn.pth", "No such file.pth", "there is no such checkpoint"] {
        fs::write(dir.path().join(name), "no weights").unwrap();
        let torn = from(&dir.path().join(name));
        told(&torn, Level::Error, name);
        assert!(torn.refused, "{name}");
    }
    let begun = |file: &str| {
        let init = format!("depth: 18, init_cfg: {{type: Pretrained, checkpoint: '{file}'}}");
        Said::of(&absent.replace("depth: 18", &init), dir.path())
    };
    for file in [address, "nowhere.pth"] {
        let elsewhere = begun(file);
        told(&elsewhere, Level::Warning, file);
        assert!(!elsewhere.refused, "{file}");
    }
    told(&begun(&dir.path().join("torn.pth").display().to_string()), Level::Error, "torn.pth");
    let hook = "custom_hooks: [{type: FreezeHook, modules: [backbone.nothing]}]\n";
    told(
        &Said::of(&(absent + hook), dir.path()),
        Level::Warning,
        "what the hooks do in a training was not tried",
    );
}

/// A network of a few layers is computed: what its numbers would refuse is known before a training.
#[test]
fn a_small_network_is_computed() {
    let dir = tempfile::tempdir().unwrap();
    let small = LARGE.replace("512, 512", "32, 32");
    assert!(Said::of(&small, dir.path()).all.iter().all(|(_, text, _)| !text.contains("shapes alone")));
}

fn model(backbone: &str, neck: &str, features: usize) -> Box<dyn Model> {
    let head = format!("head: {{type: LinearClsHead, num_classes: 10, in_channels: {features}}}");
    let text = format!("{{type: ImageClassifier, backbone: {backbone}, {neck}{head}}}");
    Spec::<dyn Model>::parse(&text).unwrap().build(&mut BuildCx::new(0)).unwrap()
}

/// Whatever is left out, each module has the output and the work of a real pass, losses are finite, and each parameter
/// that is trained has a gradient.
#[test]
fn shapes_and_work_are_those_of_a_real_pass() {
    let pool = "neck: {type: GlobalAveragePooling}, ";
    let cases = [
        ("{type: ResNet, depth: 18}", pool, 512, 96),
        ("{type: EfficientNet, arch: b0}", pool, 1280, 96),
        ("{type: ConvNeXt, arch: atto}", "", 320, 96),
        (
            "{type: SwinTransformer, arch: {embed_dims: 24, depths: [2, 2, 2, 2], num_heads: [1, 2, 4, 8]}}",
            pool,
            192,
            224,
        ),
        ("{type: ShuffleNetV2}", pool, 1024, 96),
        ("{type: DenseNet, arch: '121'}", pool, 1024, 64),
    ];
    for (backbone, neck, features, side) in cases {
        let pixels = ArrayD::from_shape_fn(vec![2, 3, side, side], |i| (i[2] + 2 * i[3] + i[1]) as f32 % 7.0);
        let batch = Batch::new(pixels, vec![3, 7]);
        let traced = |shapes: bool| {
            let mut model = model(backbone, neck, features);
            let traced = shapes_only(shapes, || model.trace(&batch)).unwrap();
            let of = |m: &shanty::nn::Traced| {
                (m.path.clone(), m.output.as_ref().map(|y| y.shape().to_vec()), m.work)
            };
            traced.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(traced(true), traced(false), "{backbone}");
        let mut model = model(backbone, neck, features);
        let step = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };
        let loss = shapes_only(true, || model.train_step(&batch, &step)).unwrap().loss().unwrap();
        assert!(loss.is_finite(), "{backbone}");
        let (mut trained, mut reached) = (Vec::new(), Vec::new());
        model.infos(&mut |info| {
            if matches!(info.role, Role::Weight | Role::Bias) {
                trained.push((info.name.to_owned(), info.shape.to_vec()));
            }
        });
        let all = |_: &Info<'_>| true;
        model
            .read(Set::Grads, &all, &mut |p, grad| reached.push((p.name.to_owned(), grad.shape().to_vec())))
            .unwrap();
        assert_eq!(trained, reached, "{backbone}");
    }
}

fn shanty(args: &[&str], dir: &Path) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (out.status.code().unwrap(), said)
}

/// An array as NumPy saves it.
fn npy(path: &Path, kind: &str, shape: &str, bytes: &[u8]) {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    fs::write(
        path,
        [b"\x93NUMPY\x01\x00".as_slice(), &118u16.to_le_bytes(), header.as_bytes(), bytes].concat(),
    )
    .unwrap();
}

const ARRAYS: &str = "\
model:
  type: Supervised
  network:
    - {type: Embedding, num_embeddings: 10, embedding_dim: 4}
    - {type: Flatten}
    - {type: Linear, in_features: 12, out_features: 5}
  loss: {type: CrossEntropyLoss}
train_dataloader: {batch_size: 4, dataset: {type: Npy, files: {inputs: tokens.npy, target: labels.npy}}}
train_cfg: {by_epoch: true, max_epochs: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.01}}
randomness: {seed: 1}
work_dir: w
";

/// Labels and tokens that the model does not know came late in the data: the look at all of them counted them and said
/// that all is fine, and the training broke off in its first epoch.
#[test]
fn labels_and_tokens_beyond_the_model_are_found_in_all_of_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let write = |token: i64, label: i64| {
        let tokens = (0..3000i64).map(|i| if i == 2500 { token } else { i % 10 });
        let labels = (0..1000i64).map(|i| if i == 700 { label } else { i % 5 });
        let bytes = |all: &mut dyn Iterator<Item = i64>| all.flat_map(i64::to_le_bytes).collect::<Vec<u8>>();
        npy(&dir.path().join("tokens.npy"), "<i8", "(1000, 3)", &bytes(&mut { tokens }));
        npy(&dir.path().join("labels.npy"), "<i8", "(1000,)", &bytes(&mut { labels }));
    };
    fs::write(dir.path().join("c.yaml"), ARRAYS).unwrap();
    write(3, 4);
    let (code, said) = shanty(&["check", "c.yaml", "--data"], dir.path());
    assert!(code == 0 && said.contains("c.yaml is fine"), "{said}");
    // A row of the batch that is tried says nothing of the place in the data.
    for (token, label, wrong, sample) in
        [(3, 5, "5", "700"), (3, -7, "-7", "700"), (10, 4, "10", "833"), (-1, 4, "-1", "833")]
    {
        write(token, label);
        let (code, said) = shanty(&["check", "c.yaml", "--data"], dir.path());
        assert!(code == 2 && said.contains("c.yaml:") && said.contains(wrong), "{token} {label}: {said}");
        assert!(said.contains("1000 samples, all can be read") && said.contains(sample), "{said}");
    }
}

/// What is measured over samples that are drawn is no mean over the data.
#[test]
fn samplers_of_evaluations_that_repeat_samples_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let with = |sampler: &str| {
        let small = LARGE.replace("512, 512", "32, 32");
        let (train, val) = small.split_once("val_dataloader: {").unwrap();
        Said::of(
            &format!("{train}val_dataloader: {{sampler: {sampler}, {}", val.replace("n: 4", "n: 5")),
            dir.path(),
        )
    };
    let several = "comes to some samples several times, and to";
    let sampler = "{type: WeightedRandomSampler, weights: balanced}";
    told(&with(sampler), Level::Warning, several);
    told(&with("{type: InfiniteSampler, shuffle: false}"), Level::Warning, "has no end: the last batch");
    for sampler in ["{type: DefaultSampler, shuffle: true}", "{type: SequentialSampler}"] {
        let said = with(sampler);
        assert!(
            !said.refused && said.all.iter().all(|(_, text, _)| !text.contains("the sampler of")),
            "{:?}",
            said.all
        );
    }
}

/// The summary of a network whose layers do not fit had no place, and the exit status of a failure.
#[test]
fn a_summary_tells_what_check_tells() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), LARGE.replace("in_channels: 2048", "in_channels: 2000")).unwrap();
    let (code, said) = shanty(&["summary", "c.yaml"], dir.path());
    let (checked, told) = shanty(&["check", "c.yaml"], dir.path());
    assert!(code == 2 && checked == 2 && said.contains(" --> c.yaml:"), "{said}");
    let first = said.lines().next().unwrap();
    assert!(first.contains("2048") && told.contains(first), "{said}{told}");
}

/// The product of a layer whose weight is that of another one was counted as the other one's.
#[test]
fn a_layer_with_the_weight_of_another_one_has_a_row_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let network = "network:\n    type: Sequential\n    layers:\n      \
                   tokens: {type: Embedding, num_embeddings: 7, embedding_dim: 12}\n      \
                   flat: {type: Flatten}\n      \
                   scores: {type: Linear, in_features: 12, out_features: 7, bias: false}\n  \
                   tie_weights: [[network.scores.weight, network.tokens.weight]]\n  loss";
    let (head, rest) = ARRAYS.split_once("network:").unwrap();
    let text = format!("{head}{network}{}", rest.split_once("loss").unwrap().1);
    fs::write(dir.path().join("c.yaml"), &text).unwrap();
    let tokens: Vec<u8> = (0..20i64).flat_map(|i| (i % 7).to_le_bytes()).collect();
    npy(&dir.path().join("tokens.npy"), "<i8", "(20,)", &tokens);
    npy(&dir.path().join("labels.npy"), "<i8", "(20,)", &tokens);
    let (code, said) = shanty(&["summary", "c.yaml", "--format", "json"], dir.path());
    assert!(code == 0, "{said}");
    let found: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let of = |path: &str| {
        let all = found["modules"].as_array().unwrap();
        let module =
            all.iter().find(|module| module["path"] == path).unwrap_or_else(|| panic!("{path}: {said}"));
        (module["parameters"].as_u64().unwrap(), module["multiply_adds"].as_u64().unwrap())
    };
    // A token of 12 numbers is compared with 7.
    assert_eq!((of("network.tokens"), of("network.scores")), ((84, 0), (0, 12 * 7)));
}

/// What `train` refuses, a proof that begins with a training refuses too, before it trains.
#[test]
fn a_proof_refuses_what_a_training_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let small = LARGE.replace("512, 512", "32, 32");
    for (from, to) in [
        ("in_channels: 2048", "in_channels: 2000"),
        ("type: Accuracy", "type: Accuracy, topk: 11"),
        ("randomness:", "load_from: nowhere.pth\nrandomness:"),
    ] {
        fs::write(dir.path().join("c.yaml"), small.replace(from, to)).unwrap();
        let (trained, told) = shanty(&["train", "c.yaml"], dir.path());
        let (proved, said) = shanty(&["verify-resume", "c.yaml"], dir.path());
        // The folder in which a checkpoint is looked for is another one.
        let words = |line: &str| line.split(", and none").next().map(str::to_owned);
        let first = |text: &str| text.lines().find(|line| line.starts_with("error")).and_then(words);
        assert!(trained == proved && trained != 0 && first(&told) == first(&said), "{to}: {told}{said}");
    }
}

/// The error of a builder within a builder that collects them had no place.
#[test]
fn errors_that_are_collected_have_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let with = |cfg: &str| {
        let small = LARGE.replace("512, 512", "32, 32");
        Said::of(&small.replace("  neck:", &format!("  train_cfg: {cfg}\n  neck:")), dir.path())
    };
    with("{augments: [{type: Mixup, alpha: 1}], probs: [0.5, 0.4]}").has(
        Level::Error,
        "cannot build `ImageClassifier`: `probs` has 2 numbers for 1 `augments`",
        "[",
    );
    with("{augments: {type: Mixup, alpha: 1}, probs: 1.5}").has(Level::Error, "sum to 1 at most", "1.5");
}
