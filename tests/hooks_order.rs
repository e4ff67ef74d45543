//! Where hooks stand is data: misorders are found when a run is built, and the error names both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use shanty::config::{Node, parse};
use shanty::hook::HookConfig;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::testing::toy_runner;

/// A hook that is nothing but its declarations.
#[derive(Default)]
struct Ordered(HookOrder);
impl Hook for Ordered {
    fn order(&self) -> HookOrder {
        self.0.clone()
    }
}

fn spec(text: &str) -> Spec<dyn Hook> {
    Spec::parse(text).unwrap()
}

/// What the build says of these hooks, beside the default ones or instead of them.
enum Line<'a> {
    /// Custom hooks of a config.
    Yaml(&'a [&'a str]),
    /// All hooks of a config.
    Only(&'a [&'a str]),
    /// Hooks in code: name, priority, declarations; beside the default ones.
    Code(Vec<(&'static str, u8, HookOrder)>),
}

fn build(line: &Line<'_>) -> Result<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = toy_runner(dir.path(), 1, 2)?;
    let mut cx = BuildCx::new(0);
    match line {
        Line::Yaml(specs) | Line::Only(specs) => {
            if matches!(line, Line::Only(_)) {
                builder = builder.without_default_hooks();
            }
            for text in *specs {
                let spec = spec(text);
                builder = builder.boxed_hook(spec.build(&mut cx)?, spec.name(), spec.extra.clone());
            }
        }
        Line::Code(hooks) => {
            for (name, priority, order) in hooks {
                let options = HookConfig { priority: Priority::new(*priority), ..HookConfig::default() };
                builder = builder.boxed_hook(Box::new(Ordered(order.clone())), name, options);
            }
        }
    }
    let runner = builder.build()?;
    Ok(runner.session().hooks.order().map(|(key, _)| key.to_owned()).collect())
}

fn order() -> HookOrder {
    HookOrder::default()
}

/// The line, and words of the error: the hooks that are named.
fn misorders() -> Vec<(&'static str, Line<'static>, [&'static str; 2])> {
    use Line::{Code, Only, Yaml};
    use Point::*;
    vec![
        (
            "the average after the checkpoint",
            Yaml(&["{type: EMAHook, priority: 95}"]),
            ["EMAHook", "CheckpointHook"],
        ),
        (
            "two averages in one model",
            Yaml(&["{type: EMAHook}", "{type: EMAHook, key: swa, ema_type: StochasticWeightAverage}"]),
            ["EMAHook", "swa"],
        ),
        (
            "precise statistics after the average",
            Yaml(&["{type: EMAHook}", "{type: PreciseBNHook, priority: 60}"]),
            ["PreciseBNHook", "EMAHook"],
        ),
        (
            "precise statistics after the checkpoint",
            Yaml(&["{type: PreciseBNHook, priority: LOWEST}"]),
            ["PreciseBNHook", "CheckpointHook"],
        ),
        (
            "the teacher after the checkpoint",
            Yaml(&["{type: MeanTeacherHook, priority: 99}"]),
            ["MeanTeacherHook", "CheckpointHook"],
        ),
        (
            "the logger before the values",
            Only(&["{type: RuntimeInfoHook}", "{type: LoggerHook, priority: 5}"]),
            ["LoggerHook", "RuntimeInfoHook"],
        ),
        (
            "the logger before the times",
            Only(&["{type: RuntimeInfoHook}", "{type: IterTimerHook}", "{type: LoggerHook, priority: 30}"]),
            ["LoggerHook", "IterTimerHook"],
        ),
        (
            "the values after the logger",
            Only(&["{type: RuntimeInfoHook, priority: 65}", "{type: LoggerHook}"]),
            ["LoggerHook", "RuntimeInfoHook"],
        ),
        (
            "the timer after the logger",
            Only(&["{type: IterTimerHook, priority: 61}", "{type: LoggerHook}"]),
            ["LoggerHook", "IterTimerHook"],
        ),
        (
            "the best of a metric that does not exist",
            Only(&["{type: CheckpointHook, save_best: accuracy/top5}"]),
            ["CheckpointHook", "accuracy/top5"],
        ),
        (
            "the best of a misspelt metric",
            Only(&["{type: CheckpointHook, save_best: acuracy/top1}"]),
            ["CheckpointHook", "did you mean `accuracy/top1`?"],
        ),
        (
            "stopping by a metric that does not exist",
            Yaml(&["{type: EarlyStoppingHook, monitor: loss}"]),
            ["EarlyStoppingHook", "loss"],
        ),
        (
            "clipping after the step",
            Code(vec![("Clip", 50, order().writes(AfterTrainIter, "gradients"))]),
            ["Clip", "the optimizer takes them at the end of after_backward"],
        ),
        (
            "augmenting the batch after it was used",
            Code(vec![("Mixup", 50, order().writes(AfterBackward, "batch"))]),
            ["Mixup", "the model takes them at the end of before_train_iter"],
        ),
        (
            "changing a checkpoint that is written",
            Code(vec![("Stamp", 50, order().writes(AfterSaveCheckpoint, "checkpoint"))]),
            ["Stamp", "the disk takes them at the end of before_save_checkpoint"],
        ),
        (
            "a cycle of two",
            Code(vec![("A", 50, order().before("B")), ("B", 50, order().before("A"))]),
            ["`A`", "`B`"],
        ),
        (
            "a cycle of three",
            Code(vec![
                ("A", 50, order().after("C")),
                ("B", 50, order().after("A")),
                ("C", 50, order().after("B")),
            ]),
            ["`A` before `B`", "`C`"],
        ),
        (
            "a priority against a declaration",
            Code(vec![("Late", 10, order().after("LoggerHook"))]),
            ["LoggerHook", "Late"],
        ),
        (
            "a declaration in the config against a priority",
            Yaml(&["{type: CheckInvalidLossHook, priority: 20, after: IterTimerHook}"]),
            ["IterTimerHook", "CheckInvalidLossHook"],
        ),
        (
            "reading a scalar before its only writer",
            Code(vec![
                ("Reader", 40, order().reads(AfterTrainIter, "train/noise")),
                ("Writer", 45, order().writes(AfterTrainIter, "train/noise")),
            ]),
            ["Reader", "Writer"],
        ),
        (
            "reading the time that is left before it is known",
            Code(vec![("Bar", 20, order().reads(AfterTrainIter, "eta"))]),
            ["Bar", "IterTimerHook"],
        ),
        (
            "reading the message hub's metrics before they are there",
            Code(vec![("Plotter", 5, order().reads(AfterValEpoch, "val"))]),
            ["Plotter", "RuntimeInfoHook"],
        ),
        (
            "a place beside a hook that does not exist",
            Code(vec![("Lost", 50, order().before("CheckpontHook"))]),
            ["Lost", "did you mean `CheckpointHook`?"],
        ),
    ]
}

#[test]
fn misorders_are_found_when_the_run_is_built() {
    let all = misorders();
    assert!(all.len() >= 20);
    for (what, line, names) in all {
        let error = match build(&line) {
            Ok(order) => panic!("{what}: was built as {order:?}"),
            Err(error) => error,
        };
        assert_eq!(error.exit_code(), 2, "{what}: {error}");
        for name in names {
            assert!(error.to_string().contains(name), "{what}: `{name}` is not in: {error}");
        }
    }
}

/// Without a priority of its own in the config a hook goes where it must, as near to its place as it can.
#[test]
fn declarations_move_hooks_that_nobody_pinned() {
    let order = build(&Line::Yaml(&["{type: CheckInvalidLossHook, after: LoggerHook}"])).unwrap();
    let at = |name: &str| order.iter().position(|k| k == name).unwrap();
    assert_eq!(at("CheckInvalidLossHook"), at("LoggerHook") + 1, "{order:?}");
    let order = build(&Line::Yaml(&["{type: ProfilerHook, before: [IterTimerHook, LoggerHook]}"])).unwrap();
    assert_eq!(order[1..3], ["ProfilerHook", "IterTimerHook"], "{order:?}");
}

/// HKP-01: ties in order of registration; numbers and names in any case; everything else is refused.
#[test]
fn ties_keep_their_order_and_priorities_have_names() {
    let line = [
        "{type: EmptyCacheHook, priority: NORMAL}",
        "{type: SyncBuffersHook, priority: normal}",
        "{type: DistSamplerSeedHook, priority: 49}",
    ];
    let order = build(&Line::Only(&line)).unwrap();
    assert_eq!(order, ["DistSamplerSeedHook", "EmptyCacheHook", "SyncBuffersHook"]);
    for wrong in ["101", "-1", "FOO"] {
        let text = format!("{{type: EmptyCacheHook, priority: {wrong}}}");
        let error = Spec::<dyn Hook>::parse(&text).unwrap_err().to_string();
        assert!(error.contains("VERY_HIGH (10)") || error.contains("must be at"), "{wrong}: {error}");
    }
}

/// The end of the line as the start of the log shows it.
#[test]
fn the_log_shows_the_resolved_order() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("{type: CheckInvalidLossHook, after: LoggerHook}");
    let hook = spec.build(&mut BuildCx::new(0)).unwrap();
    let runner = toy_runner(dir.path(), 1, 2)
        .unwrap()
        .boxed_hook(hook, spec.name(), spec.extra.clone())
        .build()
        .unwrap();
    let state = &runner.session().state;
    let log = std::fs::read_to_string(state.dirs.log.join(format!("{}.log", state.info.timestamp))).unwrap();
    let at = |name: &str| log.find(name).unwrap_or_else(|| panic!("{name} is not in {log}"));
    assert!(at("(BELOW_NORMAL) LoggerHook") < at("(NORMAL      ) CheckInvalidLossHook"));
}

#[test]
fn the_run_of_a_config_says_it_with_its_exit_code() {
    let text = "
model: {type: ToyModel}
train_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [3, 1, 1], classes: 2}}
train_cfg: {by_epoch: true, max_epochs: 1}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
custom_hooks: [{type: EMAHook, priority: 95}]
";
    let dir = tempfile::tempdir().unwrap();
    let node: Node = parse("run.yaml", &format!("{text}work_dir: {}\n", dir.path().display())).unwrap();
    let error = shanty::run::Runner::from_config(&node, None).err().unwrap().to_string();
    let text = "hook `EMAHook` must come before `CheckpointHook`, but its priority 95 puts it behind (priority VERY_LOW)";
    assert!(error.starts_with(&format!("error: {text}\n --> run.yaml:6:")), "{error}");
}
