//! Numbers, metrics and weights that no run could use are told by `check` and by `train`, with their place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use shanty::base::Error;
use shanty::config::{Diags, Level, Node, load};
use shanty::run::{Runner, check};

/// The fixture with these changes, in a folder of its own.
fn config(overrides: &[&str], dir: &Path) -> Node {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wide.yaml");
    let mut set: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    set.push(format!("work_dir={}/work", dir.display()));
    load(&path, &set).unwrap()
}

fn of(diags: &Diags, level: Level) -> Vec<(String, String)> {
    let diags = diags.0.iter().filter(|diag| diag.level == level);
    diags.map(|diag| (diag.message.clone(), diag.at.as_ref().unwrap().text().to_owned())).collect()
}

/// Both refuse it with 2, with these words at this text.
fn both_refuse(overrides: &[&str], words: &str, at: &str) {
    let dir = tempfile::tempdir().unwrap();
    let node = config(overrides, dir.path());
    let checked = check(&node, Some("wide.yaml")).expect_err(&format!("check takes {overrides:?}"));
    let trained =
        Runner::from_config(&node, Some("wide.yaml")).and_then(|mut runner| runner.train().map(drop));
    for error in [checked, trained.expect_err(&format!("train takes {overrides:?}"))] {
        assert_eq!(error.exit_code(), 2, "{error}");
        let found = of(error.as_diags().unwrap_or_else(|| panic!("no place: {error}")), Level::Error);
        assert!(
            found.iter().any(|(text, place)| text.contains(words) && place == at),
            "{overrides:?}: {found:#?}"
        );
    }
}

fn warnings(node: &Node) -> Vec<(String, String)> {
    of(&check(node, Some("wide.yaml")).unwrap(), Level::Warning)
}

/// Networks and optimizers compute with 32 bits: a number that is infinite there, or 0, trained to NaN or did nothing.
#[test]
fn numbers_that_32_bits_do_not_hold() {
    let large = "which is what 32 bits hold";
    both_refuse(&["optim_wrapper.optimizer.lr=1.0e+300"], large, "1.0e+300");
    both_refuse(&["optim_wrapper.optimizer.eps=1.0e-60"], large, "1.0e-60");
    both_refuse(&["optim_wrapper.optimizer.weight_decay=1.0e+39"], large, "1.0e+39");
    both_refuse(&["optim_wrapper.clip_grad.max_norm=1.0e-50"], large, "1.0e-50");
    both_refuse(&["optim_wrapper.paramwise_cfg={custom_keys: {head: {lr_mult: 1.0e+40}}}"], large, "1.0e+40");
    both_refuse(&["model.init_cfg=[{type: Constant, layer: Conv2d, val: 1.0e+39}]"], large, "1.0e+39");
    both_refuse(&["model.backbone.layers.1.eps=1.0e-60"], large, "1.0e-60");
    both_refuse(&["model.head.loss.class_weight=[1.0, 1.0e+39, 1.0]"], large, "1.0e+39");
    both_refuse(&["model.data_preprocessor.std=[1.0e-46]"], large, "1.0e-46");
    both_refuse(&["train_dataloader.dataset.noise=1.0e-60"], large, "1.0e-60");
    let dir = tempfile::tempdir().unwrap();
    check(&config(&["optim_wrapper.optimizer.lr=1.0e-30"], dir.path()), None).unwrap();
}

/// A schedule may take a number where the optimizer does not go, at any time of the run.
#[test]
fn schedules_stay_within_what_the_optimizer_takes() {
    let only = |schedule: &str| format!("param_scheduler=[{schedule}]");
    both_refuse(&[&only("{type: CosineAnnealingMomentum, eta_min: 2}")], "and it must be less than 1", "2");
    let beta =
        "{type: LinearParamScheduler, param_name: beta2, start_factor: 0.5, end_factor: 1.0, begin: 1}";
    check(&config(&[&only(beta)], tempfile::tempdir().unwrap().path()), None).unwrap();
    let growing = "{type: StepLR, step_size: 1, by_epoch: false, gamma: 1.0e+9}";
    both_refuse(&[&only(growing)], "at most 3.4e38 in size", "1.0e+9");
    let scaled = "{custom_keys: {head: {lr_mult: 1.0e+38}}}";
    both_refuse(
        &[&format!("optim_wrapper.paramwise_cfg={scaled}"), "optim_wrapper.optimizer.lr=100.0"],
        "the group `head` would begin with lr 1e+40",
        "{",
    );
}

#[test]
fn an_uniform_distribution_needs_its_bounds_in_order() {
    for name in ["Uniform", "UniformInit"] {
        let init = format!("model.init_cfg=[{{type: {name}, layer: Conv2d, a: 0.5, b: -0.5}}]");
        both_refuse(&[&init], "greater than `b`", "0.5");
    }
}

/// `auto` goes by the first number of a validation, and there was none, or its name was too long for a file.
#[test]
fn best_checkpoints_need_a_number_and_a_name_that_fits() {
    let auto = ["default_hooks.checkpoint.save_best=auto", "custom_hooks=[]"];
    let long = format!("val_evaluator=[{{type: Accuracy, prefix: {}}}]", "x".repeat(300));
    both_refuse(&[auto[0], auto[1], &long], "it is too long", "auto");
    let unknown = "val_evaluator=[{type: ConfusionMatrix}]";
    let dir = tempfile::tempdir().unwrap();
    let node = config(&[auto[0], auto[1], unknown], dir.path());
    let trained = Runner::from_config(&node, None).and_then(|mut runner| runner.train().map(drop));
    // The loss of the validation is a number too.
    assert_eq!(check(&node, None).is_ok(), trained.is_ok(), "{trained:?}");
}

/// A prefix with a line separator broke a line of the log in two, for all that break lines there.
#[test]
fn a_prefix_of_a_metric_is_a_part_of_one_line() {
    for odd in [r"\u2028", r"\u2029", r"\u0085", r"\n", r"\u200b", r"\u202e", r"\ufeff"] {
        let metric = format!(r#"val_evaluator=[{{type: Accuracy, prefix: "a{odd}b"}}]"#);
        both_refuse(&[&metric], "a prefix is a part of a name in one line", &format!(r#""a{odd}b""#));
    }
}

/// A file of NaN fits every model, and nothing can be learned from it.
#[test]
fn weights_that_are_not_finite_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::from_config(&config(&[], dir.path()), None).unwrap();
    runner.train().unwrap();
    let from = dir.path().join("work/epoch_4/model.safetensors");
    let mut bytes = fs::read(&from).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[header..].as_chunks_mut::<4>().0.iter_mut().for_each(|word| *word = f32::NAN.to_le_bytes());
    let nan = dir.path().join("nan.safetensors");
    fs::write(&nan, bytes).unwrap();
    let hooks = "custom_hooks=[]";
    let given = format!("load_from={}", nan.display());
    let other = tempfile::tempdir().unwrap();
    let told = warnings(&config(&[&given, hooks], other.path()));
    let about = told.iter().find(|(text, _)| text.contains("are not finite"));
    assert_eq!(about.map(|(_, at)| at.as_str()), Some(nan.to_str().unwrap()), "{told:?}");
    let fine = warnings(&config(&[&format!("load_from={}", from.display()), hooks], other.path()));
    assert!(!fine.iter().any(|(text, _)| text.contains("finite")), "{fine:?}");
}

fn shanty(args: &[&str], dir: &Path) -> (Output, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap();
    let text = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    (out, text)
}

const MODEL: &str = "model: {type: ImageClassifier, backbone: {type: Sequential, layers: [{type: Flatten}]}, head: {type: LinearClsHead, \
                     num_classes: 3, in_channels: 64}}\n";
const SET: &str = "{type: Synthetic, n: 8, shape: [1, 8, 8], classes: 3}";

/// `check` said that all was fine, and `train` refused.
#[test]
fn a_config_without_training_says_what_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.yaml"), MODEL).unwrap();
    for command in ["check", "train"] {
        let (out, text) = shanty(&[command, "model.yaml"], dir.path());
        assert!(out.status.code() == Some(2) && text.contains("nothing to train"), "{command}: {text}");
    }
    let test = format!(
        "{MODEL}test_dataloader: {{batch_size: 4, dataset: {SET}}}\ntest_cfg: {{}}\ntest_evaluator: {{type: Accuracy}}\n"
    );
    fs::write(dir.path().join("test.yaml"), test).unwrap();
    let (out, text) = shanty(&["check", "test.yaml"], dir.path());
    assert!(
        out.status.success() && text.contains("nothing to train: this config is for `shanty test`"),
        "{text}"
    );
    let (out, text) = shanty(&["train", "test.yaml"], dir.path());
    assert!(out.status.code() == Some(2) && text.contains("nothing to train"), "{text}");
}

/// It looked at the samples alone.
#[test]
fn check_with_data_finds_what_check_finds() {
    let dir = tempfile::tempdir().unwrap();
    let wide = include_str!("fixtures/wide.yaml");
    fs::write(dir.path().join("c.yaml"), wide.replacen("num_features: 4", "num_features: 5", 1)).unwrap();
    let (plain, told) = shanty(&["check", "c.yaml"], dir.path());
    let (data, text) = shanty(&["check", "c.yaml", "--data"], dir.path());
    assert_eq!((plain.status.code(), data.status.code()), (Some(2), Some(2)), "{text}");
    assert!(
        text.contains("train_dataloader: 12 samples, all can be read") && text.contains("c.yaml:9:16"),
        "{told}{text}"
    );
    fs::write(dir.path().join("c.yaml"), wide).unwrap();
    let (data, text) = shanty(&["check", "c.yaml", "--data"], dir.path());
    assert!(
        data.status.success() && text.contains("two schedules move lr") && text.contains("is fine"),
        "{text}"
    );
    let (missing, text) = shanty(
        &["check", "--data", "c.yaml", "val_dataloader.dataset={type: MNIST, data_root: no/where}"],
        dir.path(),
    );
    assert!(missing.status.code() == Some(1) && text.contains("no/where"), "{text}");
}

/// A small stack was overrun before anything was read.
#[cfg(unix)]
#[test]
fn a_small_stack_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), include_str!("fixtures/wide.yaml")).unwrap();
    let script = format!("ulimit -s 64; '{}' check c.yaml", env!("CARGO_BIN_EXE_shanty"));
    let out = Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
}

#[test]
fn a_file_of_other_shapes_is_not_to_be_renamed() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::from_config(&config(&[], dir.path()), None)?;
    runner.train()?;
    let from = format!("load_from={}", dir.path().join("work/epoch_4").display());
    let head = [
        "model.head.in_channels=5",
        "model.backbone.layers.0.out_channels=5",
        "model.backbone.layers.1.num_features=5",
    ];
    let other = tempfile::tempdir().unwrap();
    let node = config(&[&from, head[0], head[1], head[2]], other.path());
    let error = check(&node, None).expect_err("they do not fit").to_string();
    assert!(error.contains("do not fit the model") && !error.contains("revise_keys"), "{error}");
    Ok(())
}
