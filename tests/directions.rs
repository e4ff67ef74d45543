//! A metric says which way it is better, and its failures carry its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use shanty::data::{Batch, Dataset, Sample, Sampler};
use shanty::metric::{Direction, Evaluator, Metric, Predictions, SingleLabelMetric};
use shanty::optim::{Optimizer, ParamStep, Schedule};
use shanty::plugin::prelude::*;
use shanty::run::EpochBasedTrainLoop;
use shanty::run::LoopTotals;
use shanty::run::Runner;
use shanty::testing::toy_optim;
use shanty::testing::toy_runner_of;

/// A metric whose values a config writes, by validation; or which panics.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Told {
    /// Its name.
    name: String,
    /// One for each validation.
    values: Vec<f64>,
    /// Whether less is better; null says nothing.
    less: Option<bool>,
    /// Where it panics: `process` or `compute`.
    panics: String,
    #[serde(skip)]
    at: usize,
}

impl Metric for Told {
    fn name(&self) -> &str {
        "Told"
    }
    fn direction(&self, _name: &str) -> Option<Direction> {
        self.less.map(|less| if less { Direction::Less } else { Direction::Greater })
    }
    fn process(&mut self, _: &Predictions<'_>) -> Result<()> {
        assert!(self.panics != "process", "no rope");
        if self.panics == "error" { Err(Error::invalid("no wind")) } else { Ok(()) }
    }
    fn compute(&self) -> Result<Vec<(String, f64)>> {
        assert!(self.panics != "compute", "no sail");
        Ok(vec![(self.name.clone(), self.values.get(self.at).copied().unwrap_or_default())])
    }
    fn reset(&mut self) {
        self.at += 1;
    }
    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

register! {
    /// Gives the values of its config.
    dyn Metric, "Told" => Told
}

fn config(dir: &Path, metric: &str, hooks: &str) -> String {
    let data = "batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [3, 1, 1], classes: 2}";
    let other = data.replace("n: 8", "n: 8, seed: 1");
    format!(
        "
model: {{type: ToyModel}}
train_dataloader: {{{data}, sampler: {{type: DefaultSampler, shuffle: true}}}}
val_dataloader: {{{other}}}
val_evaluator: {metric}
val_cfg: {{}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}
train_cfg: {{by_epoch: true, max_epochs: 3}}
randomness: {{seed: 1}}
default_hooks: {{{hooks}}}
work_dir: {}
",
        dir.display()
    )
}

fn runner(dir: &Path, metric: &str, hooks: &str) -> Result<Runner> {
    let node = shanty::config::parse("test", &config(dir, metric, hooks))?;
    let mut runner = Runner::from_config(&node, Some("test.yaml"))?;
    // `Told` tells its values in turn: the first one is for the first epoch.
    runner.skip_sanity_check();
    Ok(runner)
}

fn best(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    all.filter(|name| name.starts_with("best_")).collect()
}

/// `top5_error` 40, 30, 35: the best is the second, whatever words are in its name.
#[test]
fn the_best_is_what_the_metric_says_is_better() {
    let values = "name: top5_error, values: [40, 30, 35]";
    let save_best = "checkpoint: {type: CheckpointHook, interval: 9, save_best: top5_error}";
    let auto = "checkpoint: {type: CheckpointHook, interval: 9, save_best: auto}";
    let rule = "checkpoint: {type: CheckpointHook, interval: 9, save_best: top5_error, rule: less}";
    for (metric, hook, epoch) in [
        (format!("{{type: Told, {values}, less: true}}"), save_best, 2),
        (format!("{{type: Told, {values}, less: true}}"), auto, 2),
        (format!("{{type: Told, {values}}}"), rule, 2),
        (format!("{{type: Told, {values}, less: false}}"), save_best, 1),
        // The config's own words come first.
        (format!("{{type: Told, {values}, less: false}}"), rule, 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        runner(dir.path(), &metric, hook).unwrap().train().unwrap();
        assert_eq!(best(dir.path()), [format!("best_top5_error_epoch_{epoch}")], "{metric}, {hook}");
    }
    let dir = tempfile::tempdir().unwrap();
    let error =
        runner(dir.path(), &format!("{{type: Told, {values}}}"), save_best).err().unwrap().to_string();
    assert!(error.contains("words of both kinds") && error.contains("`rule`"), "{error}");
}

/// EarlyStoppingHook too: an error that falls is getting better.
#[test]
fn early_stopping_goes_by_the_metric() {
    let hook = "stop: {type: EarlyStoppingHook, monitor: top5_error, patience: 1}";
    let run = |less: bool| {
        let dir = tempfile::tempdir().unwrap();
        let metric = format!("{{type: Told, name: top5_error, values: [40, 30, 20], less: {less}}}");
        let mut runner = runner(dir.path(), &metric, hook).unwrap();
        runner.train().unwrap();
        runner.session().state.progress.epoch
    };
    assert_eq!((run(true), run(false)), (3, 2));
}

#[test]
fn what_names_and_metrics_tell() {
    use shanty::metric::Direction::{Greater, Less};
    for (name, direction) in [
        ("accuracy/top1", Greater),
        ("single-label/f1-score", Greater),
        ("single-label/recall", Greater),
        ("loss", Less),
        ("val/loss", Less),
        ("error_rate", Less),
    ] {
        assert_eq!(Direction::infer(name, None, None), Ok(direction), "{name}");
    }
    for both in ["top5_error", "loss_acc", "precision_error", "topological_loss"] {
        assert!(Direction::infer(both, None, None).unwrap_err().contains("both kinds"), "{both}");
    }
    let single =
        SingleLabelMetric::new(vec![Some(0.0)], vec![shanty::metric::Item::F1Score], None, None).unwrap();
    let evaluator = Evaluator::from(single);
    assert_eq!(evaluator.direction("single-label/f1-score_classwise/2"), Some(Greater));
    assert_eq!(evaluator.direction("accuracy/top1"), None);
}

/// A panic of a metric ends the run with exit code 1 and names metric, epoch and iteration; so does its error.
#[test]
fn a_metric_that_fails_is_named_with_its_place() {
    for (panics, point, text) in [
        ("process", "process", "panicked: no rope"),
        ("compute", "compute", "panicked: no sail"),
        ("error", "process", "no wind"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let metric = format!("{{type: Told, name: a, panics: {panics}}}");
        let error = runner(dir.path(), &metric, "").unwrap().train().unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let error = error.to_string();
        assert!(error.contains("metric `Told`") && error.contains(text), "{error}");
        assert!(error.contains(&format!("in {point}, epoch 1, iteration 2")), "{error}");
    }
}

/// Panics of other people's code.
#[derive(Clone)]
struct Broken;

impl Sampler for Broken {
    fn pass_len(&self, len: usize) -> usize {
        len
    }
    fn draw(&self, _len: usize, _seed: u64, _pass: u64) -> Vec<usize> {
        panic!("no compass")
    }
}

impl Dataset for Broken {
    fn len(&self) -> usize {
        8
    }
    fn get(&self, _: usize, _: &mut shanty::base::Rng) -> Result<Sample> {
        panic!("no hold")
    }
}

impl Schedule for Broken {
    fn at(&self, _: f64, _: f64, t: u64, _: u64) -> f64 {
        assert!(t < 2, "no chart");
        1.0
    }
}

impl Optimizer for Broken {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        Vec::new()
    }
    fn step(&self, _: ParamStep<'_>) -> Result<()> {
        panic!("no rudder")
    }
}

impl shanty::run::TrainLoop for Broken {
    fn totals(&self, epoch_len: u64) -> LoopTotals {
        LoopTotals { epochs: 1, iters: epoch_len, by_epoch: true }
    }
    fn run(&self, _: &mut shanty::run::Session, _: &shanty::data::DataLoader) -> Result<()> {
        panic!("no captain")
    }
}

impl HostParams for Broken {
    fn visit(&self, _: &mut dyn FnMut(ParamRef<'_>)) {}
    fn visit_mut(&mut self, _: &mut dyn FnMut(ParamMut<'_>)) {}
}

impl Model for Broken {
    fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn eval_step(&mut self, _: &Batch) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        panic!("no anchor")
    }
}

register! {
    /// Panics when it is built.
    dyn Metric, "Unbuildable" => fn without_a_keel
}

fn without_a_keel(_: Told, _: &mut BuildCx) -> Result<Told> {
    panic!("no keel")
}

#[test]
fn panics_of_any_part_are_errors_that_name_it() {
    use shanty::data::{DataLoader, Synthetic};
    use shanty::optim::{OptimWrapper, ScheduledParam};
    use shanty::testing::toy_runner;

    let dir = tempfile::tempdir().unwrap();
    let mut runs = 0;
    let mut toy = || {
        runs += 1;
        toy_runner(&dir.path().join(runs.to_string()), 2, 2).unwrap()
    };
    let set = || DataLoader::new(Synthetic::new(8, [3, 1, 1], 2, 0)).batch_size(4);
    let two = || EpochBasedTrainLoop::new(2);
    let schedule = ScheduledParam::new(Broken, 0, 4, false);
    let cases = [
        (toy().train(set().sampler(Broken), two(), toy_optim()), "the sampler panicked: no compass"),
        (
            toy().train(DataLoader::new(Broken).batch_size(4), two(), toy_optim()),
            "the data set panicked: no hold",
        ),
        (toy().train(set(), two(), toy_optim().schedule(schedule)), "panicked: no chart"),
        (
            toy().train(set(), two(), OptimWrapper::new(Broken)),
            "the optimizer `Broken` in update, epoch 0, iteration 0: panicked: no rudder",
        ),
        (toy().train(set(), Broken, toy_optim()), "the training loop panicked: no captain"),
        (
            toy_runner_of(&dir.path().join("model"), Broken, set(), two(), toy_optim()).unwrap(),
            "the model's init_weights panicked: no anchor",
        ),
    ];
    for (builder, says) in cases {
        let error = builder.build().unwrap().train().unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = runner(dir.path(), "{type: Unbuildable}", "").err().unwrap().to_string();
    assert!(error.contains("cannot build `Unbuildable`") && error.contains("no keel"), "{error}");
}

/// One tag, one unit: a validation's times do not mix with those of training, nor its loss.
#[test]
fn scalars_of_a_validation_do_not_share_a_tag_with_training() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = runner(
        dir.path(),
        "[{type: Told, name: loss, values: [3, 2, 1]}, {type: Told, name: other, values: [7, 8, 9]}]",
        "logger: {type: LoggerHook, interval: 1}",
    )
    .unwrap();
    runner.train().unwrap();
    let log = runner.session().state.dirs.log.join("vis_data/scalars.json");
    let lines = shanty::vis::read_scalars(&log).unwrap();
    let steps = |tag: &str| -> Vec<f64> {
        let of = |line: &Vec<(String, f64)>| {
            let step = line.iter().find(|(name, _)| name == "step").map(|(_, step)| *step);
            line.iter().any(|(name, _)| name == tag).then_some(step).flatten()
        };
        lines.iter().filter_map(of).collect()
    };
    let (iterations, epochs) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0]);
    for (tag, expected) in [
        ("time", &iterations[..]),
        ("data_time", &iterations),
        ("memory", &iterations),
        ("loss", &iterations),
        ("val/time", &epochs),
        ("val/data_time", &epochs),
        ("val/loss", &epochs),
        ("other", &epochs),
    ] {
        assert_eq!(steps(tag), expected, "{tag}");
    }
}

/// What a config means otherwise than in MMEngine is said by `check`.
#[test]
fn differences_from_mmengine_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let warnings = |replace: &[(&str, &str)], hooks: &str| {
        let mut text = config(dir.path(), "{type: Told, name: a}", hooks);
        replace.iter().for_each(|(a, b)| text = text.replace(a, b));
        let node = shanty::config::parse("test", &text).unwrap();
        let found = shanty::run::check::check(&node, None).unwrap();
        found.0.iter().map(|diag| diag.render(false)).collect::<Vec<_>>().join("\n")
    };
    let iters = ("by_epoch: true, max_epochs: 3", "by_epoch: false, max_iters: 6");
    let schedule = |keys: &str| {
        format!("randomness: {{seed: 1}}\nparam_scheduler: {{type: MultiStepLR, milestones: [2]{keys}}}")
    };
    let plain = schedule("");
    let text = warnings(&[iters, ("randomness: {seed: 1}", &plain)], "checkpoint: {type: CheckpointHook}");
    assert!(text.contains("MultiStepLR without `by_epoch` counts iterations"), "{text}");
    assert!(text.contains("CheckpointHook without `by_epoch` counts iterations"), "{text}");
    assert!(text.contains("CheckpointHook without `interval` saves after each pass"), "{text}");
    let told = schedule(", by_epoch: false");
    let hook = "checkpoint: {type: CheckpointHook, interval: 2, by_epoch: false}";
    assert_eq!(warnings(&[iters, ("randomness: {seed: 1}", &told)], hook), "");
    assert_eq!(
        warnings(
            &[("randomness: {seed: 1}", &plain)],
            hook.split(", by").next().map(|h| format!("{h}}}")).as_deref().unwrap()
        ),
        ""
    );
}

/// Two iterations an epoch in windows of three: each epoch ends its window, and the run says so.
#[test]
fn windows_that_do_not_divide_an_epoch_are_told() {
    let run = |k: u64| {
        let dir = tempfile::tempdir().unwrap();
        let text = config(dir.path(), "{type: Told, name: a}", "")
            .replace("lr: 0.1}", &format!("lr: 0.1}}, accumulative_counts: {k}"));
        let node = shanty::config::parse("test", &text).unwrap();
        let runner = Runner::from_config(&node, Some("test.yaml")).unwrap();
        let dirs = &runner.session().state.dirs;
        let log = std::fs::read_dir(&dirs.log).unwrap().map(|e| e.unwrap().path());
        let log = log.into_iter().find(|p| p.extension().is_some_and(|e| e == "log")).unwrap();
        std::fs::read_to_string(log).unwrap()
    };
    let text = run(3);
    assert!(text.contains("`accumulative_counts: 3` does not divide the 2 iterations of an epoch"), "{text}");
    assert!(!run(2).contains("does not divide"));
}

/// Weights of torchvision were trained on smoothed pictures; without `backend` a transform means cv2, which does not
/// smooth.
#[test]
fn a_resize_that_does_not_suit_weights_of_torchvision_is_told_once() {
    let told = |overrides: &[&str]| -> Vec<(String, usize)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/finetune_resnet18.yaml");
        let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
        let node = shanty::config::load(&path, &overrides).unwrap();
        let found = shanty::run::check(&node, None).unwrap();
        let shown = found.to_string();
        let own = found.0.into_iter().filter(|d| d.message.contains("without `backend`"));
        let own =
            own.map(|d| (d.message.split(' ').next().unwrap().to_owned(), d.at.unwrap().line_column().0));
        let own: Vec<_> = own.collect();
        assert_eq!(
            own.is_empty(),
            !shown.contains("say `backend: pillow` for weights of torchvision"),
            "{shown}"
        );
        own
    };
    let train = "train_dataloader.dataset.pipeline=[{type: LoadImageFromFile}, {type: mmpretrain.RandomResizedCrop, scale: 224}]";
    let val = "val_dataloader.dataset.pipeline=[{type: LoadImageFromFile}, {type: ResizeEdge, scale: 256, edge: short}]";
    let names = |overrides: &[&str]| told(overrides).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(told(&[]), []);
    assert_eq!(names(&[train]), ["RandomResizedCrop"]);
    assert_eq!(names(&[train, val]), ["RandomResizedCrop", "ResizeEdge"]);
    // Said in so many words, or not a difference: weights of MMPretrain, or none.
    assert_eq!(told(&[&train.replace("224", "224, backend: cv2")]), []);
    assert_eq!(told(&[train, "model.backbone.init_cfg.prefix=backbone"]), []);
    assert_eq!(told(&[train, "model.backbone.init_cfg=null"]), []);
    // What is no picture does not shrink.
    assert_eq!(told(&[&train.replace("{type: LoadImageFromFile}, ", "")]), []);
}
