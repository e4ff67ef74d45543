//! What a failing hook means for the run: `on_error: abort | warn | retry(n)`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shanty::data::DataLoader;
use shanty::hook::HookConfig;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::LoopTotals;
use shanty::run::{Outcome, RunnerBuilder, Session, TrainLoop};
use shanty::testing::toy_runner;

/// Fails while `fails` says so, in each iteration; counts its calls.
#[derive(Clone, Default)]
struct Flaky {
    calls: Arc<AtomicU64>,
    put_back: Arc<AtomicU64>,
    good_after: u64,
    panics: bool,
}

impl Hook for Flaky {
    fn after_train_iter(&mut self, _cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call > self.good_after {
            return Ok(());
        }
        if self.panics {
            panic!("no wind");
        }
        Err(format!("no wind in call {call}").into())
    }
    fn on_error(&mut self, _cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        self.put_back.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn with(dir: &Path, hook: &Flaky, policy: OnError) -> RunnerBuilder {
    let options = HookConfig { on_error: Some(policy), ..HookConfig::default() };
    toy_runner(dir, 3, 5).unwrap().boxed_hook(Box::new(hook.clone()), "Flaky", options)
}

#[test]
fn a_warned_hook_is_disabled_after_ten_failures_in_a_row() {
    for panics in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let hook = Flaky { good_after: u64::MAX, panics, ..Flaky::default() };
        let mut runner = with(dir.path(), &hook, OnError::Warn).build().unwrap();
        assert_eq!(runner.train().unwrap(), Outcome::Finished, "the run goes on");
        assert_eq!(hook.calls.load(Ordering::SeqCst), 10, "of 15 iterations");
        assert_eq!(hook.put_back.load(Ordering::SeqCst), 1, "it may put back what it holds");
        let report = runner.session().hooks.failures();
        let last = if panics { "panicked: no wind" } else { "no wind in call 10" };
        assert_eq!(
            report,
            [format!("hook `Flaky` failed 10 times and was disabled at iteration 10: {last}")]
        );
        let state = &runner.session().state;
        let log =
            std::fs::read_to_string(state.dirs.log.join(format!("{}.log", state.info.timestamp))).unwrap();
        assert!(log.trim_end().ends_with(&report[0]), "the end of the run says so: {log}");
        assert!(log.contains("WARNING - hook `Flaky` in after_train_iter, epoch 1, iteration 7"), "{log}");
    }
}

#[test]
fn nine_failures_are_forgiven() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Flaky { good_after: 9, ..Flaky::default() };
    let mut runner = with(dir.path(), &hook, OnError::Warn).build().unwrap();
    runner.train().unwrap();
    assert_eq!(hook.calls.load(Ordering::SeqCst), 15);
    assert_eq!(hook.put_back.load(Ordering::SeqCst), 0);
    assert_eq!(runner.session().hooks.failures(), ["hook `Flaky` failed 9 times: no wind in call 9"]);
}

#[test]
fn retries_are_counted_for_each_call() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Flaky { good_after: 2, ..Flaky::default() };
    with(dir.path(), &hook, OnError::Retry(2)).build().unwrap().train().unwrap();
    assert_eq!(hook.calls.load(Ordering::SeqCst), 17, "15 and two more");
    let dir = tempfile::tempdir().unwrap();
    let hook = Flaky { good_after: 2, ..Flaky::default() };
    let error = with(dir.path(), &hook, OnError::Retry(1)).build().unwrap().train().unwrap_err();
    assert_eq!(
        error.to_string(),
        "hook `Flaky` in after_train_iter, epoch 0, iteration 1: no wind in call 2"
    );
    assert_eq!(hook.put_back.load(Ordering::SeqCst), 1);
}

#[test]
fn abort_is_the_default_and_yaml_says_otherwise() {
    let policy = |text: &str| Spec::<dyn Hook>::parse(text).map(|spec| spec.extra.on_error);
    assert_eq!(policy("{type: LoggerHook}").unwrap(), None);
    assert_eq!(policy("{type: LoggerHook, on_error: warn}").unwrap(), Some(OnError::Warn));
    assert_eq!(policy("{type: LoggerHook, on_error: retry(3)}").unwrap(), Some(OnError::Retry(3)));
    let error = policy("{type: LoggerHook, on_error: ignore}").unwrap_err().to_string();
    assert!(error.contains("`ignore` is no failure policy: give `abort`, `warn` or `retry(n)`"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let hook = Flaky { good_after: 1, ..Flaky::default() };
    let error = with(dir.path(), &hook, OnError::default()).build().unwrap().train().unwrap_err().to_string();
    assert!(error.contains("hook `Flaky` in after_train_iter, epoch 0, iteration 1"), "{error}");
}

/// A loop of one's own: the epoch loop, backwards in nothing but its name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Laps {
    /// Batches of the run.
    #[schemars(range(min = 1))]
    laps: u64,
}

impl TrainLoop for Laps {
    fn totals(&self, _: u64) -> LoopTotals {
        LoopTotals { epochs: 1, iters: self.laps, by_epoch: false }
    }
    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()> {
        s.enter(Phase::Train);
        s.fire(Event::BeforeTrain)?;
        for batch in data.batches(s.state.progress.iter, Some(self.laps)) {
            s.fire(Event::OnCustom("lap", &mut ()))?;
            s.train_iter(batch?)?;
        }
        s.fire(Event::AfterTrain)
    }
}

register! {
    /// Batch after batch, with a point of its own before each.
    dyn TrainLoop, "Laps" => Laps
}

#[test]
fn a_loop_of_ones_own_is_named_in_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let run = |train_cfg: &str| {
        let text = format!(
            "{{model: {{type: ToyModel}}, train_cfg: {train_cfg}, work_dir: {}, \
             optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}, train_dataloader: {{batch_size: 4, \
             dataset: {{type: Synthetic, n: 8, shape: [3, 1, 1], classes: 2}}}}}}",
            dir.path().display()
        );
        shanty::run::Runner::from_config(&shanty::config::parse("run.yaml", &text)?, None)
    };
    let mut runner = run("{type: Laps, laps: 5}").unwrap();
    let laps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&laps);
    struct Count(Arc<AtomicU64>);
    impl Hook for Count {
        fn on_custom(&mut self, _: &mut Ctx<'_>, name: &str, _: &mut dyn std::any::Any) -> HookResult {
            assert_eq!(name, "lap");
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }
    runner.add_hook(Count(counted)).unwrap();
    runner.train().unwrap();
    assert_eq!((runner.session().state.progress.iter, laps.load(Ordering::SeqCst)), (5, 5));
    let error = run("{type: Laps, lap: 5}").err().unwrap().to_string();
    assert!(error.contains("unknown key `lap`"), "{error}");
    let error = run("{type: Laps, laps: 0}").err().unwrap().to_string();
    assert!(error.contains("laps"), "{error}");
    let error = run("{type: Lapse, laps: 1}").err().unwrap().to_string();
    assert!(error.contains("Lapse"), "{error}");
}
