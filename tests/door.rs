//! The front door: a run put together in Rust.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::hook::Event;
use shanty::ndarray::{Array1, Array2};
use shanty::optim::OptimWrapper;
use shanty::params::StateDict;
use shanty::prelude::*;

fn dataset() -> ArrayDataset {
    let x = Array2::from_shape_fn((48, 2), |(n, k)| ((n * 13 + k * 7) % 17) as f32 / 17.0);
    let y = Array1::from_shape_fn(48, |n| (n % 3) as i64);
    ArrayDataset::new("inputs", x).unwrap().with("target", y).unwrap()
}

fn network() -> Sequential {
    Sequential::new()
        .with(Linear::new(2, 8))
        .with(ReLU::new())
        .with(Dropout::new(0.5))
        .with(Linear::new(8, 3))
}

fn builder(dir: &Path) -> RunnerBuilder {
    let data = DataLoader::new(dataset()).batch_size(8);
    Runner::builder(Supervised::new(network(), CrossEntropyLoss::default()))
        .train(data.clone().shuffle(true), EpochBasedTrainLoop::new(2), Adam::new(0.01))
        .val(data, Accuracy::default())
        .work_dir(dir)
}

/// A run with this seed: the samples in their order, the first weights, and the last.
fn trained(change: impl FnOnce(RunnerBuilder) -> RunnerBuilder) -> (Vec<u64>, StateDict, StateDict) {
    let dir = tempfile::tempdir().unwrap();
    let ids = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ids);
    let mut runner = change(builder(dir.path()))
        .on(Point::BeforeTrainIter, move |_, event| {
            if let Event::BeforeTrainIter(batch) = event {
                noted.lock().unwrap().extend(&batch.ids);
            }
            Ok(())
        })
        .build()
        .unwrap();
    let first = StateDict::of(runner.model().unwrap()).unwrap();
    runner.train().unwrap();
    let ids = ids.lock().unwrap().clone();
    (ids, first, StateDict::of(runner.model().unwrap()).unwrap())
}

/// The seed of a program reached its weights and hooks, and the order of the data stayed as it was.
#[test]
fn one_seed_reaches_data_weights_and_dropout() {
    let of = |seed| trained(|run| run.seed(seed));
    let (five, again, six) = (of(5), of(5), of(6));
    assert_eq!(five, again, "bit for bit");
    assert_ne!(five.0, six.0, "another order of the data");
    assert_ne!(five.1, six.1, "other initial weights");
    assert_ne!(five.2, six.2);
    // Nobody gave one: each run draws its own.
    assert_ne!(trained(|run| run).1, trained(|run| run).1);
}

/// A loader that has a seed of its own keeps its order, whatever that of the run is.
#[test]
fn a_loader_may_have_a_seed_of_its_own() {
    let of = |seed| {
        let data = DataLoader::new(dataset()).batch_size(8).shuffle(true).seed(1);
        trained(|run| run.train(data, EpochBasedTrainLoop::new(2), Adam::new(0.01)).seed(seed))
    };
    let (five, six) = (of(5), of(6));
    assert_eq!(five.0, six.0);
    assert_ne!(five.1, six.1);
}

/// The log of a run that is resumed.
fn resumed(first: u64, second: impl FnOnce(RunnerBuilder) -> RunnerBuilder) -> (String, u64) {
    let dir = tempfile::tempdir().unwrap();
    builder(dir.path()).seed(first).build().unwrap().train().unwrap();
    let longer = EpochBasedTrainLoop::new(3);
    let data = DataLoader::new(dataset()).batch_size(8).shuffle(true);
    let run = builder(dir.path()).train(data, longer, Adam::new(0.01)).resume(true);
    let mut runner = second(run).build().unwrap();
    runner.train().unwrap();
    let session = runner.session();
    let log = session.state.dirs.log.join(format!("{}.log", session.state.info.timestamp));
    (std::fs::read_to_string(log).unwrap(), session.state.info.seed)
}

/// The warning of a resume with another seed was not true of a program: its data came in the old order.
#[test]
fn a_resume_with_another_seed_says_what_changes() {
    let (log, _) = resumed(5, |run| run.seed(6));
    assert!(log.contains("the seed was 5 and is 6 now: the order of the data changes"), "{log}");
    let in_order = DataLoader::new(dataset()).batch_size(8);
    let (log, _) =
        resumed(5, |run| run.train(in_order, EpochBasedTrainLoop::new(3), Adam::new(0.01)).seed(6));
    assert!(
        log.contains("the seed was 5 and is 6 now") && log.contains("the order of the data does not"),
        "{log}"
    );
    // Without one, the seed of the run that is resumed.
    let (log, seed) = resumed(5, |run| run);
    assert!(!log.contains("the seed was"), "{log}");
    assert_eq!(seed, 5);
}

/// What does not fit together is told when the run is built, by the name of the part.
#[test]
fn parts_that_do_not_work_are_refused_when_the_run_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |run: RunnerBuilder| run.build().err().unwrap().to_string();
    let data = || DataLoader::new(dataset());
    let adam = || Adam::new(0.01);
    let run = builder(dir.path()).train(data().batch_size(0), EpochBasedTrainLoop::new(1), adam());
    let text = refused(run);
    assert!(text.contains("the training data: batch_size 0"), "{text}");
    let run =
        builder(dir.path()).train(data().batch_size(99).drop_last(true), EpochBasedTrainLoop::new(1), adam());
    assert!(refused(run).contains("no batch to load"));
    let text = refused(builder(dir.path()).val(data().batch_size(0), Accuracy::default()));
    assert!(text.contains("the validation data"), "{text}");
    let text = refused(builder(dir.path()).test(data(), (Accuracy::default(), Accuracy::default())));
    assert!(text.contains("two metrics give a value named accuracy/top1"), "{text}");
    let text = refused(builder(dir.path()).train(data(), EpochBasedTrainLoop::new(0), adam()));
    assert!(text.contains("no iteration"), "{text}");
    let nesterov = Sgd::new(0.1).nesterov(true);
    let text = refused(builder(dir.path()).train(data(), EpochBasedTrainLoop::new(1), nesterov));
    assert!(text.contains("nesterov"), "{text}");
    // A run that only evaluates says what it would need to train, and the other way round.
    let mut runner = Runner::builder(Supervised::new(network(), CrossEntropyLoss::default()))
        .val(data(), Accuracy::default())
        .work_dir(dir.path())
        .build()
        .unwrap();
    assert!(runner.train().unwrap_err().to_string().contains("`.train(data, loop, optimizer)`"));
    assert!(runner.test().unwrap_err().to_string().contains("`.test(data, metrics)`"));
    assert!(runner.val().unwrap().get("accuracy/top1").is_some());
}

/// One metric, a tuple, a list; an optimizer alone or in its wrapper.
#[test]
fn parts_are_given_without_ceremony() {
    let dir = tempfile::tempdir().unwrap();
    let data = || DataLoader::new(dataset()).batch_size(8);
    let metrics = |run: RunnerBuilder| run.build().unwrap().val().unwrap();
    let two = metrics(
        builder(&dir.path().join("a")).val(data(), (Accuracy::default(), ConfusionMatrix::default())),
    );
    assert!(two.get("accuracy/top1").is_some());
    let list: Vec<Box<dyn shanty::metric::Metric>> = vec![Box::new(Accuracy::default())];
    assert!(metrics(builder(&dir.path().join("b")).val(data(), list)).get("accuracy/top1").is_some());
    let wrapped = OptimWrapper::new(Sgd::new(0.1).momentum(0.9).nesterov(true)).accumulate(2);
    let run =
        builder(&dir.path().join("c")).train(data(), IterBasedTrainLoop::new(7).val_interval(3), wrapped);
    let mut runner = run.build().unwrap();
    runner.train().unwrap();
    assert_eq!(runner.session().state.progress.iter, 7);
}

/// `runner.model()` of a run with `load_from` predicted with untrained weights.
#[test]
fn the_model_of_a_runner_has_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = builder(&dir.path().join("first")).seed(1).build().unwrap();
    first.train().unwrap();
    let trained = StateDict::of(first.model().unwrap()).unwrap();
    let from = dir.path().join("first/epoch_2");
    let mut loaded = builder(&dir.path().join("loaded")).load_from(&from).build().unwrap();
    assert_eq!(StateDict::of(loaded.model().unwrap()).unwrap(), trained);
    let batch = Batch::unlabelled(Array2::zeros((3, 2)).into_dyn());
    let of = |runner: &mut Runner| runner.model().unwrap().eval_step(&batch).unwrap().scores().cloned();
    assert_eq!(of(&mut loaded), of(&mut first));
    // From a config too, of which the checkpoint is missing or of another model.
    let gone = builder(&dir.path().join("gone")).load_from(dir.path().join("nowhere")).build();
    assert!(gone.err().unwrap().to_string().contains("nowhere"));
    let other = Supervised::new(Linear::new(2, 3), CrossEntropyLoss::default());
    let mut other =
        Runner::builder(other).load_from(&from).work_dir(dir.path().join("other")).build().unwrap();
    assert!(other.model().err().unwrap().to_string().contains("network.weight"));
}

/// A hook that came later was put at the end of its priority, whatever it declares.
#[test]
fn add_hook_orders_and_checks_as_the_builder_does() {
    use shanty::hook::builtin::EarlyStoppingHook;
    use shanty::plugin::prelude::{Hook, HookOrder};

    struct First;
    impl Hook for First {
        fn order(&self) -> HookOrder {
            HookOrder::default().before("RuntimeInfoHook")
        }
    }
    struct Torn;
    impl Hook for Torn {
        fn order(&self) -> HookOrder {
            HookOrder::default().before("RuntimeInfoHook").after("CheckpointHook")
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut runner = builder(dir.path()).build().unwrap();
    let keys =
        |runner: &Runner| runner.session().hooks.keys().iter().map(|k| k.to_string()).collect::<Vec<_>>();
    let before = keys(&runner);
    let text = runner.add_hook(Torn).unwrap_err().to_string();
    assert!(text.contains("before `RuntimeInfoHook` writes it"), "{text}");
    let text = runner.add_hook(EarlyStoppingHook::new("accuracy/top5")).unwrap_err().to_string();
    assert!(text.contains("`accuracy/top5`") && text.contains("accuracy/top1"), "{text}");
    assert_eq!(keys(&runner), before, "nothing is left of them");
    runner.add_hook(First).unwrap();
    let now = keys(&runner);
    let at = |key: &str| now.iter().position(|k| k == key).unwrap();
    assert!(at("First") < at("RuntimeInfoHook"), "{now:?}");
    runner.train().unwrap();
}

/// A hook as a config writes it.
#[test]
fn hooks_are_given_as_yaml_too() {
    let dir = tempfile::tempdir().unwrap();
    let run = builder(dir.path()).hook_yaml("{type: EMAHook, momentum: 0.1, priority: LOW}").unwrap();
    let runner = run.build().unwrap();
    let order: Vec<_> = runner.session().hooks.order().map(|(key, p)| format!("{key} {p}")).collect();
    assert!(order.iter().any(|line| line == "EMAHook LOW"), "{order:?}");
    let text = builder(dir.path()).hook_yaml("{type: EMAHok}").err().unwrap().to_string();
    assert!(text.contains("EMAHook"), "{text}");
    let text = builder(dir.path()).hook_yaml("{type: EMAHook, momentom: 0.1}").err().unwrap().to_string();
    assert!(text.contains("momentum"), "{text}");
    // Against the length of the run, which is known when it is built.
    let late = builder(dir.path()).hook_yaml("{type: EMAHook, begin_epoch: 9}").unwrap();
    assert!(late.build().err().unwrap().to_string().contains("the run has 2 epochs"));
}

/// The keys of built-in hooks could only be given in YAML.
#[test]
fn built_in_hooks_are_configured_in_rust() {
    let dir = tempfile::tempdir().unwrap();
    let data = || DataLoader::new(dataset()).batch_size(8).shuffle(true);
    let run = |name: &str| builder(&dir.path().join(name)).without_default_hooks().seed(0);
    // Two of five periodic checkpoints, and the best.
    let mut runner = run("saves")
        .train(data(), EpochBasedTrainLoop::new(5), Adam::new(0.01))
        .hook(CheckpointHook::every(1).keep(2).best("accuracy/top1"))
        .build()
        .unwrap();
    runner.train().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(dir.path().join("saves"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("epoch_") || name.starts_with("best_"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("best_accuracy_top1_epoch_"), "{names:?}");
    assert_eq!(names[1..], ["epoch_4", "epoch_5"]);
    // No value is better by 1000: the run ends after the first, which is the best, and two more.
    let stopping = EarlyStoppingHook::new("val_loss").patience(2).min_delta(1000.0);
    let run_of_nine = run("stops").train(data(), EpochBasedTrainLoop::new(9), Adam::new(0.01)).hook(stopping);
    let mut runner = run_of_nine.build().unwrap();
    assert!(matches!(runner.train().unwrap(), Outcome::Stopped(_)));
    assert_eq!(runner.session().state.progress.epoch, 3);
    // A line each iteration.
    let mut runner = run("logs")
        .hook_yaml("{type: RuntimeInfoHook}")
        .unwrap()
        .hook_yaml("{type: IterTimerHook}")
        .unwrap()
        .hook(LoggerHook::every(1))
        .build()
        .unwrap();
    runner.train().unwrap();
    let scalars = runner.session().state.dirs.log.join("vis_data/scalars.json");
    let lines = shanty::vis::read_scalars(&scalars).unwrap();
    let steps = lines.iter().filter(|line| line.iter().any(|(name, _)| name == "loss")).count();
    assert_eq!(steps, 12, "{lines:?}");
    // What a config refuses is refused.
    for wrong in [
        CheckpointHook::every(0),
        CheckpointHook::every(1).keep(0),
        CheckpointHook::every(1).best("a").best("a"),
    ] {
        let mut runner = run("wrong").val(data(), Accuracy::default()).hook(wrong.clone()).build();
        let refused = match &mut runner {
            Ok(runner) => runner.train().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(refused.contains("CheckpointHook"), "{refused}");
    }
}

/// The training of the next test, in a process of its own.
#[test]
fn a_program_in_a_process() {
    let Some(dir) = std::env::var_os("SHANTY_DOOR_DIR") else { return };
    let kill = |cx: &mut shanty::hook::Ctx<'_>, _: &mut Event<'_>| {
        if cx.progress.iter == 3 {
            let own = std::process::id().to_string();
            std::process::Command::new("kill").args(["-TERM", &own]).status()?;
        }
        Ok(())
    };
    let data = DataLoader::new(dataset()).batch_size(8).shuffle(true);
    let mut runner = builder(Path::new(&dir))
        .train(data, EpochBasedTrainLoop::new(100_000), Adam::new(0.01))
        .on(Point::AfterTrainIter, kill)
        .log_to_console()
        .log_to_console()
        .handle_signals()
        .unwrap()
        .limits(Limits::default())
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Interrupted(shanty::run::ExitReason::Signal(15)));
}

/// A program printed nothing until one guessed env_logger, and died on SIGTERM without saving.
#[test]
#[cfg(unix)]
fn a_program_logs_to_the_console_and_saves_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_program_in_a_process", "--nocapture"])
        .env("SHANTY_DOOR_DIR", &work)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{log}");
    assert!(log.contains(" - shanty - INFO - ") && log.contains("SIGTERM: saving and leaving"), "{log}");
    let last = std::fs::read_to_string(work.join("last_checkpoint")).unwrap();
    assert!(work.join(last.trim()).join("manifest.json").exists());
}
