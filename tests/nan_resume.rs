//! A run that met NaN and infinity, cut after every one of its iterations: it goes on as if it had not been cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::checkpoint::{digest, load};
use shanty::metric::{Metric, Predictions};
use shanty::plugin::prelude::*;
use shanty::run::verify::verify;
use shanty::run::{Limits, Runner, RunnerBuilder};

/// NaN, infinity and minus zero, after every validation.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct OddMetric {}

impl Metric for OddMetric {
    fn process(&mut self, _predictions: &Predictions<'_>) -> Result<()> {
        Ok(())
    }
    fn compute(&self) -> Result<Vec<(String, f64)>> {
        let values = [("nan", f64::NAN), ("inf", f64::NEG_INFINITY), ("zero", -0.0)];
        Ok(values.map(|(name, value)| (name.to_owned(), value)).into())
    }
    fn reset(&mut self) {}
    fn names(&self) -> Vec<String> {
        ["nan", "inf", "zero"].map(String::from).into()
    }
}

register! {
    /// Gives NaN, infinity and minus zero.
    dyn Metric, "OddMetric" => OddMetric
}

/// The inputs of these samples are that number, each time they are met; one gradient is infinite although its loss is
/// not.
struct Poison {
    samples: Vec<(u64, Elem)>,
    gradient_at: u64,
}

impl Hook for Poison {
    fn priority(&self) -> Priority {
        Priority::HIGHEST
    }
    fn before_train_iter(&mut self, _cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        for (row, id) in batch.ids.clone().iter().enumerate() {
            if let Some((_, value)) = self.samples.iter().find(|(bad, _)| bad == id) {
                batch.inputs_mut().unwrap().index_axis_mut(ndarray::Axis(0), row).fill(*value);
            }
        }
        Ok(())
    }
    fn after_backward(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if cx.progress.iter + 1 == self.gradient_at {
            let mut first = true;
            cx.model.edit(Set::Grads, &shanty::params::all, &mut |_, mut grad| {
                if std::mem::take(&mut first) {
                    grad.fill(Elem::INFINITY);
                }
            })?;
        }
        Ok(())
    }
}

/// The iterations that ended in an update, whose norm is told.
#[derive(Clone, Default)]
struct Updates(Arc<Mutex<Vec<u64>>>);

impl Hook for Updates {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        if step.outputs.has("grad_norm") {
            self.0.lock().unwrap().push(cx.progress.iter);
        }
        Ok(())
    }
}

/// Sixty iterations of a network with batch norm, dropout and momentum, validated after each of its six epochs.
struct Case {
    hook: &'static str,
    optim: &'static str,
    poison: Vec<(u64, Elem)>,
    /// A hook that counts more than the model does.
    more: &'static str,
    exclude: Vec<u64>,
    gradient_at: u64,
    train_cfg: &'static str,
}

const EPOCHS: &str = "by_epoch: true, max_epochs: 6";

impl Case {
    fn new(hook: &'static str) -> Self {
        Self {
            hook,
            optim: "",
            poison: vec![(17, Elem::NAN), (3, Elem::INFINITY)],
            more: "",
            exclude: vec![],
            gradient_at: 23,
            train_cfg: EPOCHS,
        }
    }

    fn config(&self, dir: &Path, resume: bool) -> String {
        let data = "batch_size: 4, dataset: {type: Synthetic, n: 40, shape: [3, 2, 2], classes: 3}";
        let Self { hook, optim, more, exclude, train_cfg, .. } = self;
        format!(
            "
model:
  type: ImageClassifier
  backbone:
    type: Sequential
    layers:
      - {{type: Flatten}}
      - {{type: Linear, in_features: 12, out_features: 6}}
      - {{type: BatchNorm1d, num_features: 6}}
      - {{type: ReLU}}
      - {{type: Dropout, p: 0.2}}
      - {{type: Linear, in_features: 6, out_features: 3}}
  head: {{type: ClsHead, loss: {{type: CrossEntropyLoss}}}}
train_dataloader: {{{data}, sampler: {{type: DefaultSampler, shuffle: true}}}}
val_dataloader: {{{data}, sampler: {{type: DefaultSampler, shuffle: false}}}}
val_evaluator: [{{type: Accuracy}}, {{type: OddMetric}}]
val_cfg: {{}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.05, momentum: 0.9}}, clip_grad: {{max_norm: 5.0}}{optim}}}
param_scheduler: {{type: CosineAnnealingLR, by_epoch: false}}
train_cfg: {{{train_cfg}}}
randomness: {{seed: 5}}
default_hooks: {{logger: {{type: LoggerHook, interval: 1}}, checkpoint: {{type: CheckpointHook, max_keep_ckpts: 2}}}}
custom_hooks: [{more}{{type: CheckInvalidLossHook, bundle: false, {hook}}}]
exclude_samples: {exclude:?}
work_dir: {}
resume: {resume}
",
            dir.display()
        )
    }

    fn runner(&self, dir: &Path, resume: bool, limits: Limits) -> Result<Runner> {
        let node = shanty::config::parse("test", &self.config(dir, resume))?;
        let mut runner = RunnerBuilder::from_config(&node, Some("test.yaml"))?.limits(limits).build()?;
        runner.add_hook(Poison { samples: self.poison.clone(), gradient_at: self.gradient_at }).unwrap();
        Ok(runner)
    }

    fn holds_at_every_cut(&self) {
        let scratch = tempfile::tempdir().unwrap();
        let make = |dir: &Path, resume: bool, limits: Limits| self.runner(dir, resume, limits);
        for cut in verify(&make, |total| (1..total).collect(), scratch.path(), &mut |_| ()).unwrap() {
            assert_eq!(cut.difference, None, "{}, {}, cut after {}", self.hook, self.optim, cut.at);
        }
    }
}

/// One NaN and one infinite loss, one infinite gradient norm and metrics that are no numbers are in the records of this
/// run.
#[test]
fn a_run_that_skipped_bad_updates_resumes_exactly_at_every_cut() {
    Case::new("action: skip, patience: 50").holds_at_every_cut();
}

/// The window that was open when the run was cut has a bad batch in it, and buffers to be put back.
#[test]
fn a_run_that_skips_windows_resumes_exactly_at_every_cut() {
    let case =
        Case { optim: ", accumulative_counts: 3", ..Case::new("action: skip, check: all, patience: 50") };
    case.holds_at_every_cut();
}

/// The state that it goes back to is in the checkpoint: it goes back to the same iteration as the run that was not cut.
#[test]
fn a_run_that_rolls_back_resumes_exactly_at_every_cut() {
    for hook in [
        "action: rollback, check: all, rollback_steps: 7",
        "action: rollback, check: all, rollback_steps: 10",
        "action: rollback, check: all",
    ] {
        Case { more: "{type: EMAHook, momentum: 0.1}, ", ..Case::new(hook) }.holds_at_every_cut();
    }
}

#[test]
fn a_loop_of_iterations_that_rolls_back_resumes_exactly_at_every_cut() {
    let train_cfg = "by_epoch: false, max_iters: 60, val_interval: 9";
    let hook = "action: rollback, check: all, rollback_steps: 8";
    Case { train_cfg, ..Case::new(hook) }.holds_at_every_cut();
}

#[test]
fn a_run_that_rolls_back_in_a_window_resumes_exactly_at_every_cut() {
    let hook = "action: rollback, check: all, rollback_steps: 10";
    Case { optim: ", accumulative_counts: 3", ..Case::new(hook) }.holds_at_every_cut();
}

/// Samples that are bad whenever they are met leave nothing behind, however far the way back is.
#[test]
fn rolled_back_the_run_ends_like_one_that_never_had_the_samples() {
    for steps in [1, 10, 50] {
        let (bad, clean) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hook: &'static str = match steps {
            1 => "action: rollback, check: all, rollback_steps: 1",
            10 => "action: rollback, check: all, rollback_steps: 10",
            _ => "action: rollback, check: all, rollback_steps: 50",
        };
        let case = Case { gradient_at: 0, ..Case::new(hook) };
        case.runner(bad.path(), false, Limits::default()).unwrap().train().unwrap();
        let case = Case { exclude: vec![17, 3], ..case };
        case.runner(clean.path(), false, Limits::default()).unwrap().train().unwrap();
        let end = |dir: &Path| load(&dir.join("epoch_6")).unwrap();
        let (mut a, mut b) = (end(bad.path()), end(clean.path()));
        // It knows how often it went back.
        for c in [&mut a, &mut b] {
            c.hooks.remove("CheckInvalidLossHook");
            c.rollback = None;
        }
        assert_eq!(digest::first_difference(&a, &b), None, "{steps} steps");
        assert_eq!(a.meta.excluded, [3, 17]);
    }
}

/// A window that ended the run is not in the checkpoint of its end: a run that goes on would add to infinity.
#[test]
fn a_bad_window_that_ended_the_run_is_left_behind() {
    for (hook, gradient_at, poison) in [
        ("action: rollback, patience: 0, check: grads", 23, vec![]),
        ("action: skip, patience: 0, check: grads", 23, vec![]),
        // The statistics of the batch norm are NaN then, and are put back.
        ("action: skip, patience: 0, check: all", 0, vec![(17, Elem::NAN)]),
    ] {
        for optim in ["", ", accumulative_counts: 3"] {
            let bad = Case { optim, poison: poison.clone(), gradient_at, ..Case::new(hook) };
            let good = Case { optim, poison: vec![], gradient_at: 0, ..Case::new(hook) };
            let dir = tempfile::tempdir().unwrap();
            let error = bad.runner(dir.path(), false, Limits::default()).unwrap().train().unwrap_err();
            assert!(error.to_string().contains("patience ended after 0 times"), "{error}");
            let names = std::fs::read_dir(dir.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<String> = names.filter(|name| name.starts_with("emergency_iter_")).collect();
            assert_eq!(left.len(), 1, "{hook}{optim}");
            let at: u64 = left[0].rsplit('_').next().unwrap().parse().unwrap();
            // The NaN is met within a window.
            assert!(poison.is_empty() || optim.is_empty() || !(at % 10).is_multiple_of(3), "{at}");
            let left = load(&dir.path().join(&left[0])).unwrap();
            let sums = left.optimizer.unwrap().tensors.into_keys().filter(|key| key.starts_with("grad"));
            assert_eq!(sums.count(), 0, "{hook}{optim}");
            // Nor does the hook drop the first window of the run that goes on, which may end with an epoch.
            let mut resumed = good.runner(dir.path(), true, Limits::default()).unwrap();
            let updates = Updates::default();
            resumed.add_hook(updates.clone()).unwrap();
            resumed.train().unwrap();
            let first = if optim.is_empty() { at + 1 } else { (at + 3).min((at / 10 + 1) * 10) };
            assert_eq!(updates.0.lock().unwrap().first(), Some(&first), "{hook}{optim}");
            let end = load(&dir.path().join("epoch_6")).unwrap();
            assert!(end.model.0.iter().all(|(_, t)| t.value.iter().all(|v| v.is_finite())), "{hook}{optim}");
        }
    }
}

/// The action `stop`: whatever was saved before the bad step resumes, and comes to the same end.
#[test]
fn a_run_that_was_stopped_by_nan_resumes_to_the_same_error_and_on_without_the_sample() {
    let case = Case { poison: vec![(17, Elem::NAN)], ..Case::new("interval: 1") };
    let whole = tempfile::tempdir().unwrap();
    let error = case.runner(whole.path(), false, Limits::default()).unwrap().train().unwrap_err().to_string();
    assert!(error.contains("`loss` became NaN"), "{error}");
    let bad: u64 = error.split("iteration ").nth(2).unwrap().split(';').next().unwrap().parse().unwrap();
    for cut in 1..bad {
        let dir = tempfile::tempdir().unwrap();
        let interrupt = shanty::run::Interrupt::default();
        struct CutAt(u64, shanty::run::Interrupt);
        impl Hook for CutAt {
            fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
                if cx.progress.iter == self.0 {
                    self.1.signal.store(15, std::sync::atomic::Ordering::Relaxed);
                }
                Ok(())
            }
        }
        let limits = Limits { interrupt: interrupt.clone(), ..Limits::default() };
        let mut first = case.runner(dir.path(), false, limits).unwrap();
        first.add_hook(CutAt(cut, interrupt)).unwrap();
        first.train().unwrap();
        let again =
            case.runner(dir.path(), true, Limits::default()).unwrap().train().unwrap_err().to_string();
        assert_eq!(again, error, "cut after {cut}");
        let cured = Case { poison: vec![], ..Case::new("interval: 1") };
        cured.runner(dir.path(), true, Limits::default()).unwrap().train().unwrap();
        let end = load(&dir.path().join("epoch_6")).unwrap();
        assert_eq!(end.meta.iter, 60);
    }
}
