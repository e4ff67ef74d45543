//! `docs/events.md` is what runs do: each trace in it is recorded here and compared.
//!
//! `SHANTY_BLESS=1 cargo test --test events` writes the traces anew; read them before you commit them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;

use shanty::base::Error;
use shanty::hook::Event;
use shanty::plugin::prelude::*;
use shanty::run::{IterBasedTrainLoop, Outcome};
use shanty::testing::toy_optim;
use shanty::testing::{Recorder, toy_data, toy_runner};

/// Compares the trace with the fenced block below `## title` in docs/events.md.
fn check(title: &str, lines: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md");
    let text = fs::read_to_string(&path).unwrap();
    let heading = format!("## {title}\n");
    let section = text.find(&heading).unwrap_or_else(|| panic!("docs/events.md has no section `{title}`"));
    let open = section + text[section..].find("```text\n").unwrap() + "```text\n".len();
    let close = open + text[open..].find("```").unwrap();
    let recorded = lines.join("\n") + "\n";
    if std::env::var_os("SHANTY_BLESS").is_some() {
        fs::write(&path, format!("{}{recorded}{}", &text[..open], &text[close..])).unwrap();
        return;
    }
    assert_eq!(&text[open..close], recorded, "docs/events.md, section `{title}`");
}

#[test]
fn train_and_validate() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner = toy_runner(dir.path(), 2, 3).unwrap().hook(recorder).build().unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    check("Two epochs of three iterations, validated", &trace.lines());
}

#[test]
fn iteration_mode() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let train_loop = IterBasedTrainLoop::new(4).val_interval(2);
    let mut runner = toy_runner(dir.path(), 1, 3)
        .unwrap()
        .train(toy_data(3, true).unwrap(), train_loop, toy_optim())
        .hook(recorder)
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    check("Four iterations, validated every two", &trace.lines());
}

#[test]
fn a_stop_in_an_iteration_ends_the_epoch_uncounted() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner = toy_runner(dir.path(), 2, 3)
        .unwrap()
        .on(Point::AfterTrainIter, |cx, _| {
            if cx.progress.iter == 2 {
                cx.stop("two are enough");
            }
            Ok(())
        })
        .hook(recorder)
        .build()
        .unwrap();
    let Outcome::Stopped(stop) = runner.train().unwrap() else { panic!("the hook asked to stop") };
    assert_eq!((stop.by.as_str(), stop.reason.as_str()), ("ClosureHook", "two are enough"));
    check("A stop asked for in iteration 2", &trace.lines());
}

#[test]
fn early_stopping_ends_the_run_after_the_validation() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let text = "{type: EarlyStoppingHook, monitor: acc, patience: 1, min_delta: 0}";
    let spec = shanty::registry::Spec::<dyn Hook>::parse(text).unwrap();
    let scripted = shanty::testing::Scripted::new("acc", &[0.5, 0.4, 0.9]);
    let mut runner = toy_runner(dir.path(), 3, 1)
        .unwrap()
        .val(toy_data(1, false).unwrap(), scripted)
        // The script has a value for each validation.
        .sanity_check(false)
        .boxed_hook(spec.build(&mut BuildCx::new(0)).unwrap(), spec.name(), spec.extra.clone())
        .hook(recorder)
        .build()
        .unwrap();
    let Outcome::Stopped(stop) = runner.train().unwrap() else { panic!("the metric fell") };
    assert_eq!(stop.by, "EarlyStoppingHook");
    check("Early stopping after epoch 2 of 3", &trace.lines());
}

#[test]
fn a_failing_hook_ends_the_run_and_all_hooks_hear_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner =
        toy_runner(dir.path(), 2, 3)
            .unwrap()
            .on(Point::AfterTrainIter, |cx, _| {
                if cx.progress.iter == 2 { Err("out of cheese".into()) } else { Ok(()) }
            })
            .hook(recorder)
            .build()
            .unwrap();
    let error = runner.train().unwrap_err();
    assert_eq!(
        error.to_string(),
        "hook `ClosureHook` in after_train_iter, epoch 0, iteration 2: out of cheese"
    );
    check("A hook that fails in iteration 2", &trace.lines());
}

#[test]
fn a_panic_is_an_error_with_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner = toy_runner(dir.path(), 1, 3)
        .unwrap()
        .on(Point::AfterBackward, |_, _| panic!("out of cheese"))
        .hook(recorder)
        .build()
        .unwrap();
    let error = runner.train().unwrap_err();
    assert_eq!(
        error.to_string(),
        "hook `ClosureHook` in after_backward, epoch 0, iteration 0: panicked: out of cheese"
    );
    assert!(trace.lines().last().unwrap().starts_with("on_error"));
}

#[test]
fn skip_update_leaves_the_weights_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner = toy_runner(dir.path(), 1, 3)
        .unwrap()
        .on(Point::AfterBackward, |cx, _| {
            cx.skip_update("not today");
            Ok(())
        })
        .hook(recorder)
        .build()
        .unwrap();
    runner.train().unwrap();
    let mut weights = Vec::new();
    runner
        .model()
        .unwrap()
        .read(Set::Values, &shanty::params::all, &mut |_, value| weights.extend(value.iter().copied()))
        .unwrap();
    let mut fresh = shanty::testing::ToyModel::new(3);
    fresh.init_weights(0).unwrap();
    assert_eq!(weights, fresh.weight.to_vec(), "no update, no change");
    check("Every update skipped", &trace.lines());
}

#[test]
fn resumed_runs_owe_the_validation_of_their_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    toy_runner(dir.path(), 1, 3).unwrap().build().unwrap().train().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner = toy_runner(dir.path(), 2, 3).unwrap().resume(true).hook(recorder).build().unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    check("Resumed after epoch 1 of 2", &trace.lines());
}

#[test]
fn test_only() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let accuracy = shanty::metric::Accuracy::new(vec![1], vec![None]).unwrap();
    let mut runner = shanty::run::Runner::builder(shanty::testing::ToyModel::new(3))
        .test(toy_data(2, false).unwrap(), accuracy)
        .hook(recorder)
        .work_dir(dir.path())
        .build()
        .unwrap();
    runner.test().unwrap();
    check("A test alone", &trace.lines());
}

#[test]
fn a_hook_leaves_the_points_that_it_does_not_override() {
    struct Idle(std::sync::Arc<std::sync::atomic::AtomicU64>);
    impl Hook for Idle {
        fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            event.call(self, cx)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let calls = std::sync::Arc::default();
    let mut runner =
        toy_runner(dir.path(), 3, 5).unwrap().hook(Idle(std::sync::Arc::clone(&calls))).build().unwrap();
    runner.train().unwrap();
    let points = Point::ALL.len() as u64;
    assert!(calls.load(std::sync::atomic::Ordering::SeqCst) <= points, "at most once a point");
}

#[test]
fn an_error_in_on_error_does_not_keep_others_from_hearing() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner = toy_runner(dir.path(), 1, 3)
        .unwrap()
        .on(Point::BeforeTrain, |_, _| Err("first".into()))
        .on(Point::OnError, |_, _| panic!("second"))
        .hook(recorder)
        .build()
        .unwrap();
    assert!(matches!(runner.train().unwrap_err(), Error::Run { .. }));
    assert!(trace.lines().last().unwrap().starts_with("on_error"));
}

/// MMEngine's own trace of one epoch of two batches and one validation batch under its default hooks: its points with
/// the hooks that it calls there, in order; of our points the two that it does not have are left out.
const REFERENCE: [(&str, &[&str]); 16] = [
    // CheckpointHook is ours: it forgets the run before.
    ("before_run", &["RuntimeInfoHook", "LoggerHook", "CheckpointHook"]),
    ("before_train", &["RuntimeInfoHook", "IterTimerHook", "CheckpointHook"]),
    ("before_train_epoch", &["RuntimeInfoHook", "IterTimerHook", "DistSamplerSeedHook"]),
    ("before_train_iter", &["RuntimeInfoHook", "IterTimerHook"]),
    ("after_train_iter", &TRAIN_ITER),
    ("before_train_iter", &["RuntimeInfoHook", "IterTimerHook"]),
    ("after_train_iter", &TRAIN_ITER),
    ("after_train_epoch", &["IterTimerHook", "ParamSchedulerHook", "CheckpointHook"]),
    ("before_save_checkpoint", &[]),
    ("before_val", &["RuntimeInfoHook"]),
    ("before_val_epoch", &["IterTimerHook"]),
    ("before_val_iter", &["IterTimerHook"]),
    ("after_val_iter", &["IterTimerHook", "LoggerHook"]),
    (
        "after_val_epoch",
        &["RuntimeInfoHook", "IterTimerHook", "LoggerHook", "ParamSchedulerHook", "CheckpointHook"],
    ),
    // IterTimerHook is ours: a validation between two iterations is nobody's data time.
    ("after_val", &["RuntimeInfoHook", "IterTimerHook"]),
    ("after_train", &["RuntimeInfoHook", "CheckpointHook"]),
];
const TRAIN_ITER: [&str; 5] =
    ["RuntimeInfoHook", "IterTimerHook", "LoggerHook", "ParamSchedulerHook", "CheckpointHook"];

#[test]
fn one_epoch_is_the_reference_point_by_point() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let mut runner = toy_runner(dir.path(), 1, 2).unwrap().hook(recorder).record_calls().build().unwrap();
    runner.train().unwrap();
    let ours: Vec<String> = trace
        .lines()
        .iter()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|point| !["after_backward", "after_save_checkpoint"].contains(&point.as_str()))
        .collect();
    let reference: Vec<&str> = REFERENCE.iter().map(|(point, _)| *point).chain(["after_run"]).collect();
    assert_eq!(ours, reference);
    // Who acts at a point is one of those that the reference calls there, in its order.
    let session = runner.session();
    let keys = session.hooks.keys();
    for point in Point::ALL {
        let Some((_, line)) = REFERENCE.iter().find(|(name, _)| *name == point.name()) else { continue };
        let acting = session.state.profile.calls().iter().filter(|c| c.point == *point && c.hook < 6);
        let places: Vec<_> = acting
            .map(|call| {
                let key = &*keys[call.hook];
                let place = line.iter().position(|name| *name == key);
                (call.iter, place.unwrap_or_else(|| panic!("{key} acts in {}", point.name())))
            })
            .collect();
        assert!(places.is_sorted(), "{}: {places:?}", point.name());
    }
}
