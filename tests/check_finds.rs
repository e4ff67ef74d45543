//! What is known before the first iteration is told by `check`, with its place, and refused by `train`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::{Error, Result, Rng};
use shanty::config::{Diags, Level, Node, load};
use shanty::data::{Dataset, Sample};
use shanty::run::{Runner, check, plan};
use shanty::testing::reseal;

/// Pictures of 8 × 8, of which some cannot be read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Spoilt {
    /// Those.
    bad: Vec<usize>,
}

impl Dataset for Spoilt {
    fn len(&self) -> usize {
        12
    }
    fn get(&self, index: usize, _: &mut Rng) -> Result<Sample> {
        if self.bad.contains(&index) {
            return Err(Error::invalid("it is spoilt"));
        }
        Ok(Sample::new(ndarray::Array3::from_elem((1, 8, 8), index as f32), (index % 3) as i64))
    }
}

shanty::register! {
    /// Pictures of which some cannot be read.
    dyn Dataset, "Spoilt" => Spoilt
}

/// The fixture with these changes, in a folder of its own.
fn config(overrides: &[&str], dir: &Path) -> Node {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wide.yaml");
    let mut set: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    set.push(format!("work_dir={}/work", dir.display()));
    load(&path, &set).unwrap()
}

/// The complaints of `check`, each with the text that it points at.
fn told(node: &Node) -> Vec<(Level, String, String)> {
    let diags: Diags = match check(node, Some("wide.yaml")) {
        Ok(warnings) => warnings,
        Err(error) => error.diags().unwrap(),
    };
    let at = |diag: &shanty::config::Diag| {
        diag.at.as_ref().unwrap_or_else(|| panic!("no place: {diags}")).text().to_owned()
    };
    diags.0.iter().map(|diag| (diag.level, diag.message.clone(), at(diag))).collect()
}

fn errors(node: &Node) -> Vec<(String, String)> {
    let errors = told(node).into_iter().filter(|(level, ..)| *level == Level::Error);
    errors.map(|(_, message, at)| (message, at)).collect()
}

/// What a training says.
fn trained(node: &Node) -> Result<u64> {
    let mut runner = Runner::from_config(node, Some("wide.yaml"))?;
    let ended = runner.train().map(drop);
    let iter = runner.session().state.progress.iter;
    match ended {
        Err(error) if iter > 0 => panic!("refused after {iter} iterations: {error}"),
        Err(error) => Err(error),
        Ok(()) => Ok(iter),
    }
}

/// Both refuse it, with these words; `check` at this text.
fn both_refuse(overrides: &[&str], words: &str, at: &str) {
    let dir = tempfile::tempdir().unwrap();
    let node = config(overrides, dir.path());
    let found = errors(&node);
    assert!(
        found.iter().any(|(text, place)| text.contains(words) && place == at),
        "{overrides:?}: {found:#?}"
    );
    assert_eq!(found.len(), 1, "{overrides:?}: {found:#?}");
    let error = trained(&node).expect_err(&format!("{overrides:?}")).to_string();
    assert!(error.contains(words), "{overrides:?}: {error}");
}

/// Both take it.
fn both_take(overrides: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let node = config(overrides, dir.path());
    let found = errors(&node);
    assert!(found.is_empty(), "{overrides:?}: {found:#?}");
    trained(&node).unwrap_or_else(|error| panic!("{overrides:?}: {error}"));
}

/// A hook passed over what it wants of the model in every dry run, the rehearsal included.
#[test]
fn hooks_that_want_parts_which_the_model_lacks() {
    both_refuse(&["custom_hooks=[{type: MeanTeacherHook}]"], "no weights below `teacher`", "MeanTeacherHook");
    let warmup = |module: &str| {
        format!(
            "custom_hooks=[{{type: WarmupParamHook, param_name: p, module_name: {module}, warmup_epochs: 1}}]"
        )
    };
    both_refuse(&[&warmup("backbone.9")], "the model has no number `p` in `backbone.9`", "p");
    both_take(&[&warmup("backbone.4")]);
    let dir = tempfile::tempdir().unwrap();
    plan(&config(&[&warmup("backbone.4")], dir.path()), None).unwrap();
}

/// They met in a batch after some iterations, or in the first one, as the order would have it.
#[test]
fn sets_whose_samples_do_not_fit_together() {
    let joined = |second: &str| {
        format!(
            "train_dataloader.dataset={{type: ConcatDataset, datasets: [{{type: Synthetic, n: 12, shape: [1, 8, 8], classes: 3}}, \
             {second}]}}"
        )
    };
    for shape in ["[1, 8, 9]", "[3, 8, 8]"] {
        let second = format!("{{type: Synthetic, n: 9, shape: {shape}, classes: 3}}");
        let dir = tempfile::tempdir().unwrap();
        let node = config(&[&joined(&second)], dir.path());
        let found = errors(&node);
        assert!(found.len() == 1 && found[0].0.contains("shape"), "{found:?}");
        assert!(trained(&node).is_err());
    }
    both_refuse(
        &[&joined("{type: Synthetic, n: 9, shape: [1, 8, 8], classes: 2}")],
        "different classes",
        "ConcatDataset",
    );
    let alike = joined("{type: Synthetic, n: 9, shape: [1, 8, 8], classes: 3}");
    both_take(&[&alike]);
    // Batches of one, and batches that end where the first set ends, mix nothing.
    let other = joined("{type: Synthetic, n: 8, shape: [1, 9, 9], classes: 3}");
    both_take(&[&other, "train_dataloader.sampler.shuffle=false"]);
}

#[test]
fn weights_that_cannot_be_loaded() {
    both_refuse(&["load_from=nope"], "nope", "nope");
    both_refuse(&["load_from=nope", "resume=true"], "nope", "nope");
    both_refuse(&["load_options.revise_keys=[['(', '']]"], "`revise_keys` has a bad pattern `(`", "'('");
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("weights.txt");
    fs::write(&text, "no weights").unwrap();
    let path = text.to_string_lossy().into_owned();
    both_refuse(&[&format!("load_from={path}")], "weights.txt", &path);
    both_refuse(&[&format!("load_from={path}"), "resume=true"], "weights.txt", &path);
    let pretrained = "model.backbone.init_cfg={type: Pretrained, checkpoint: no/such.safetensors}";
    both_refuse(&[pretrained], "no/such.safetensors", "no/such.safetensors");
}

/// A checkpoint that is there is read, and put into the model that would be trained.
#[test]
fn a_checkpoint_that_is_there_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    trained(&config(&[], dir.path())).unwrap();
    let from = format!("load_from={}", dir.path().join("work/epoch_4").display());
    both_take(&[&from]);
    let other = "model.head.num_classes=4";
    both_refuse(
        &[&from, other, "model.head.loss.class_weight=null"],
        "do not fit the model",
        &from["load_from=".len()..],
    );
    let none = "load_options={strict: false, revise_keys: [['^', 'other.']]}";
    both_refuse(&[&from, none], "do not fit the model", &from["load_from=".len()..]);
}

/// Its last batch had a single sample, and the norm refused it at the end of the first epoch.
#[test]
fn a_last_batch_of_one_sample_is_known_before_the_first() {
    let norm = "model.neck=[{type: GlobalAveragePooling}, {type: BatchNorm1d, num_features: 4}]";
    let thirteen = "train_dataloader.dataset.n=13";
    let all = "train_dataloader.drop_last=false";
    both_refuse(&[norm, thirteen, all], "a batch of the first pass will have one sample", "BatchNorm1d");
    both_take(&[norm, thirteen]);
    both_take(&[norm, all]);
    both_take(&[thirteen, all]);
    let excluded = "exclude_samples=[0, 1, 2]";
    both_refuse(
        &[norm, "train_dataloader.sampler.shuffle=false", excluded],
        "a batch of the first pass will have one sample",
        "BatchNorm1d",
    );
}

/// The pictures of a later epoch met the model when that epoch began.
#[test]
fn a_later_pipeline_is_tried_before_the_first_epoch() {
    let flat =
        ["model.neck={type: Flatten}", "model.head.in_channels=64", "train_dataloader.dataset.pipeline=[]"];
    let recipe = |scale: usize| {
        format!(
            "custom_hooks=[{{type: SwitchRecipeHook, schedule: [{{action_epoch: 3, train_pipeline: [{{type: Resize, scale: {scale}}}]}}]}}]"
        )
    };
    let switch = |scale: usize| {
        format!(
            "custom_hooks=[{{type: PipelineSwitchHook, switch_epoch: 3, switch_pipeline: [{{type: Resize, scale: {scale}}}]}}]"
        )
    };
    for hook in [recipe(16), switch(16)] {
        let set = [&flat[..], &[&hook]].concat();
        both_refuse(&set, "the pipeline from epoch", "[");
    }
    for hook in [recipe(8), switch(8)] {
        both_take(&[&flat[..], &[&hook]].concat());
    }
    // What averages over all places takes any size.
    both_take(&[&recipe(16)]);
    let crop = "custom_hooks=[{type: PipelineSwitchHook, switch_epoch: 3, switch_pipeline: [{type: RandomCrop, crop_size: 99}]}]";
    both_refuse(&[crop], "`switch_pipeline.0`", "RandomCrop");
}

#[test]
fn a_trace_that_could_not_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, file) = (dir.path().join("folder"), dir.path().join("file"));
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "").unwrap();
    let hook =
        |path: &Path| format!("custom_hooks=[{{type: ProfilerHook, json_trace_path: {}}}]", path.display());
    both_refuse(&[&hook(&folder)], "is a folder", &folder.to_string_lossy());
    both_refuse(&[&hook(&file.join("x/t.json"))], "is a file", &file.join("x/t.json").to_string_lossy());
    let new = folder.join("made/for/it/trace.json");
    both_take(&[&hook(&new)]);
    assert!(new.exists());
}

#[test]
fn scores_and_classes_are_compared_before_the_first_epoch() {
    let wide = [
        "model.head={type: ClsHead}",
        "val_evaluator=[{type: Accuracy}]",
        "custom_hooks=[]",
        "model.init_cfg=null",
        "default_hooks.checkpoint.save_best=null",
    ];
    let neck = |n: usize| {
        format!(
            "model.neck=[{{type: GlobalAveragePooling}}, {{type: Linear, in_features: 4, out_features: {n}}}]"
        )
    };
    both_take(&[&wide[..], &[&neck(4)]].concat());
    both_refuse(
        &[&wide[..], &[&neck(4), "custom_hooks=[{type: NumClassCheckHook}]"]].concat(),
        "the model scores 4 classes, but the data set has 3",
        "NumClassCheckHook",
    );
    let narrow = neck(2);
    let few = [&wide[..], &[&narrow, "val_dataloader=null", "val_cfg=null", "val_evaluator=null"]].concat();
    both_refuse(&few, "the model gives 2 scores, the training data have 3 classes", "ImageClassifier");
}

#[test]
fn validation_and_test_data_are_tried() {
    let pipeline = "val_dataloader.dataset.pipeline=[{type: RandomCrop, crop_size: 99}]";
    both_refuse(&[pipeline], "99", "RandomCrop");
    let dir = tempfile::tempdir().unwrap();
    let test = [
        "test_dataloader={batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [1, 8, 8], classes: 3, pipeline: [{type: Resize, \
         scale: 8}, {type: Pad, padding: 30000}]}}",
        "test_cfg={}",
        "test_evaluator={type: Accuracy}",
    ];
    let found = errors(&config(&test, dir.path()));
    assert!(found.len() == 1 && found[0].1 == "Pad", "{found:?}");
}

/// The rehearsal read the first two samples, whatever the run would leave out.
#[test]
fn samples_that_a_run_leaves_out_are_not_asked_for() {
    let bad = "train_dataloader.dataset={type: Spoilt, bad: [0, 1, 2, 3, 4]}";
    let order = "train_dataloader.sampler.shuffle=false";
    both_refuse(&[bad, order], "it is spoilt", "Spoilt");
    both_take(&[bad, order, "exclude_samples=[0, 1, 2, 3, 4]"]);
    both_take(&[bad, order, "train_dataloader.max_bad_samples=5"]);
    // One of the first batch, but not of its first two.
    both_refuse(&["train_dataloader.dataset={type: Spoilt, bad: [3]}", order], "sample 3", "Spoilt");
}

#[test]
fn a_transform_that_refuses_is_pointed_at() {
    let pad = "train_dataloader.dataset.pipeline=[{type: Resize, scale: 8}, {type: Pad, padding: 30000}]";
    both_refuse(&[pad], "", "Pad");
    let inner = "train_dataloader.dataset={type: RepeatDataset, times: 2, dataset: {type: ConcatDataset, datasets: [{type: \
        Synthetic, n: 12, shape: [1, 8, 8], classes: 3}, {type: Synthetic, n: 12, shape: [1, 8, 8], classes: 3, pipeline: [{type: \
        Resize, scale: 8}, {type: Compose, transforms: [{type: RandomCrop, crop_size: 77}]}]}]}}";
    both_refuse(&[inner], "77", "RandomCrop");
}

#[test]
fn all_samples_left_out_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let found = errors(&config(&["exclude_samples=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"], dir.path()));
    assert!(found.iter().any(|(text, _)| text.contains("all training samples are left out")), "{found:?}");
}

#[test]
fn a_module_to_freeze_that_is_not_there_has_its_place() {
    both_refuse(&["model.frozen=[backbone.nowhere]"], "`frozen`", "backbone.nowhere");
}

#[test]
fn a_plan_beyond_its_patience_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = plan(&config(&["train_cfg.max_epochs=1000001"], dir.path()), None).unwrap_err().to_string();
    assert!(error.contains("3000003 iterations") && error.contains("through 3000000 at most"), "{error}");
}

/// A complaint of one part hid those of all others.
#[test]
fn mistakes_of_reading_and_of_building_are_told_together() {
    let dir = tempfile::tempdir().unwrap();
    let found = errors(&config(
        &[
            "model.head.topkk=[1]",
            "model.backbone=[{type: ResNet, depth: 9}]",
            "optim_wrapper.optimizer={type: SGD, lr: 0.1, nesterov: true}",
            "train_dataloader.shuffle=true",
            "default_hooks.checkpoint.interval=0",
            "val_evaluator.0={type: Acuracy}",
        ],
        dir.path(),
    ));
    let has = |words: &str| found.iter().filter(|(text, _)| text.contains(words)).count() == 1;
    assert!(has("`topkk`") && has("depth: 9") && has("`nesterov: true`") && has("`shuffle`"), "{found:#?}");
    assert!(has("`Acuracy`"), "{found:#?}");
    let found = errors(&config(&["colour=red", "default_hooks.checkpoint.interval=0"], dir.path()));
    assert!(found.len() == 2 && found[1].0.contains("`interval: 0`"), "{found:#?}");
    let absent = told(&config(
        &[
            "train_dataloader.dataset={type: MNIST, data_prefix: no/such}",
            "model.backbone=[{type: ResNet, depth: 9}]",
        ],
        dir.path(),
    ));
    assert!(
        absent.iter().any(|(level, text, _)| *level == Level::Error && text.contains("depth: 9")),
        "{absent:#?}"
    );
    assert!(
        absent.iter().any(|(level, text, _)| *level == Level::Warning && text.contains("no/such")),
        "{absent:#?}"
    );
}

/// A value that could not be read was taken for one that is missing.
#[test]
fn one_mistake_is_one_complaint() {
    let dir = tempfile::tempdir().unwrap();
    for one in [
        "optim_wrapper.clip_grad={max_norm: x}",
        "model.backbone.layers.0.kernel_size=x",
        "train_dataloader.dataset={type: Nope}",
        "train_dataloader.batch_size=x",
        "train_dataloader.batch_size=0",
        "visualizer={type: Nope}",
        "model.init_cfg=[{type: TruncNormal, layer: Linear, stdd: 0.1}]",
        "model.init_cfg.0.b=1",
    ] {
        let found = errors(&config(&[one], dir.path()));
        assert_eq!(found.len(), 1, "{one}: {found:#?}");
    }
}

/// A checkpoint that says it stands behind the end of its epoch: the rest of the epoch was counted below zero.
#[test]
fn a_checkpoint_beyond_its_epoch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    trained(&config(&[], dir.path())).unwrap();
    let home = dir.path().join("work/epoch_2");
    let file = home.join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    state["meta"]["batch"] = 7.into();
    fs::write(file, state.to_string()).unwrap();
    reseal(&home, |_| {}).unwrap();
    let from = home.display().to_string();
    both_refuse(&[&format!("load_from={from}"), "resume=true"], "batch", &from);
}

/// The pool panicked.
#[cfg(all(feature = "cli", target_os = "linux"))]
#[test]
fn no_thread_to_be_had_is_an_error() {
    let script = "ulimit -v 1500000; exec \"$0\" check configs/digits_lenet.yaml";
    let check = || {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_shanty")]).env("RAYON_NUM_THREADS", "3000");
        let out = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    // The standard library aborts where a thread still gets its stack, and no memory for its signals is left.
    let (code, text) = (0..5).map(|_| check()).find(|(code, _)| code.is_some()).unwrap();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no threads can be started") && text.contains("RAYON_NUM_THREADS"), "{text}");
}

/// It was a line of a log, with the time of day.
#[cfg(feature = "cli")]
#[test]
fn what_the_initialisation_finds_odd_is_a_plain_warning_of_check() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shanty"));
    command.args(["check", "configs/digits_lenet.yaml", "model.init_cfg=[{type: Kaiming, layer: Conv3d}]"]);
    let out = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(
        text.starts_with("warning: `ImageClassifier` has no layer `Conv3d`")
            && text.contains("--> command line"),
        "{text}"
    );
}

/// A table with less rows than the text has tokens was met when the first sample with the last token came, epochs later.
#[test]
fn a_vocabulary_larger_than_its_table_is_known_before_the_first_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let of = |config: &str, rows: usize| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(config);
        let set =
            [format!("model.network.0.num_embeddings={rows}"), format!("work_dir={}", dir.path().display())];
        load(&path, &set).unwrap()
    };
    for (config, rows) in
        [("words_lstm.yaml", 17), ("words_transformer.yaml", 17), ("sums_language_model.yaml", 22)]
    {
        assert_eq!(errors(&of(config, rows)), [], "{config}");
        let less = rows - 1;
        let found = errors(&of(config, less));
        let wanted = format!("{less} at [0, 0] is none of {less} embeddings");
        assert!(found.iter().any(|(said, _)| said.contains(&wanted)), "{config}: {found:?}");
    }
}
