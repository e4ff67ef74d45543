//! Numbers that stay on a device until a hook reads them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::base::{Error, Result};
use shanty::hook::builtin::{CheckInvalidLossHook, LoggerHook};
use shanty::hook::{History, MessageHub};
use shanty::model::Late;
use shanty::optim::ClipGrad;
use shanty::plugin::prelude::*;
use shanty::run::{EpochBasedTrainLoop, Runner, RunnerBuilder};
use shanty::testing::{ToyModel, toy_data, toy_optim, toy_runner_of};

/// When the numbers of which iteration came down: both counted from 1, the one that was under way or done first.
type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

/// The toy, on a device.
struct Device {
    toy: ToyModel,
    now: Arc<Mutex<u64>>,
    seen: Seen,
    /// In this iteration the loss is no number, or the device is lost.
    nan: u64,
    lost: u64,
}

impl HostParams for Device {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        self.toy.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.toy.visit_mut(f);
    }
}

impl Model for Device {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        let loss = self.toy.train_step(batch, cx)?.loss().unwrap();
        let iter = cx.iter + 1;
        *self.now.lock().unwrap() = iter;
        let (loss, lost) = (if self.nan == iter { f64::NAN } else { loss }, self.lost == iter);
        let (now, seen) = (Arc::clone(&self.now), Arc::clone(&self.seen));
        Ok(Outputs::late(Late::new(["loss".into(), "twice".into()], move || {
            seen.lock().unwrap().push((*now.lock().unwrap(), iter));
            if lost { Err(Error::invalid("the bus is gone")) } else { Ok(vec![loss, 2.0 * loss]) }
        })))
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.toy.eval_step(batch)
    }
    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.toy.init_weights(seed)
    }
}

fn device(nan: u64, lost: u64) -> (Device, Seen) {
    let seen = Seen::default();
    (Device { toy: ToyModel::new(3), now: Arc::default(), seen: Arc::clone(&seen), nan, lost }, seen)
}

/// The same numbers at once.
struct Host {
    device: Device,
}

shanty::forward_params!(Host, device);

impl Model for Host {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        let mut outputs = self.device.train_step(batch, cx)?;
        outputs.settle().map(|()| outputs)
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.device.eval_step(batch)
    }
    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.device.init_weights(seed)
    }
}

/// Two epochs of twelve iterations, a line of the log every five, gradients clipped.
fn run(dir: &Path, model: impl Model) -> RunnerBuilder {
    let optim = toy_optim().clip(ClipGrad::by_norm(0.5));
    let data = toy_data(12, true).unwrap();
    let runner = toy_runner_of(dir, model, data, EpochBasedTrainLoop::new(2), optim).unwrap();
    runner.hook(LoggerHook::every(5).ignore_last(true))
}

/// What is known of each number but the times.
fn known(hub: &MessageHub) -> Vec<(String, History)> {
    let scalars = hub.scalars(Mode::Train).filter(|(name, _)| !name.contains("time"));
    scalars.map(|(name, history)| (name.to_owned(), history.clone())).collect()
}

fn trained(runner: RunnerBuilder) -> (Runner, Result<()>) {
    let mut runner = runner.build().unwrap();
    let done = runner.train().map(drop);
    (runner, done)
}

/// They come down where the log has a line, and where an epoch ends: once each, in their order, and to the same numbers
/// under the same names as those of a model that gives them at once.
#[test]
fn numbers_come_down_when_they_are_logged() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (model, seen) = device(0, 0);
    let (late, done) = trained(run(dirs[0].path(), model));
    done.unwrap();
    let (at_once, done) = trained(run(dirs[1].path(), Host { device: device(0, 0).0 }));
    done.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|(_, iter)| *iter).collect::<Vec<_>>(), (1..=24).collect::<Vec<_>>());
    // In the first iteration each hook is asked once, whatever it reads.
    let when: Vec<u64> = seen.iter().map(|(when, _)| *when).collect();
    assert_eq!(when[0], 1);
    assert_eq!(when[1..12], [5, 5, 5, 5, 10, 10, 10, 10, 10, 12, 12]);
    assert_eq!(when[12..], [17, 17, 17, 17, 17, 22, 22, 22, 22, 22, 24, 24]);
    let [late, at_once] = [late, at_once].map(|runner| known(&runner.session().state.message_hub));
    assert_eq!(late, at_once);
    let names: Vec<&str> = late.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["lr", "loss", "twice", "grad_norm"]);
    assert_eq!(late[1].1.count(), 24);
}

/// Whoever looks at a loss before the update has it then; the others wait.
#[test]
fn a_hook_that_judges_losses_has_them_before_the_update() {
    let dir = tempfile::tempdir().unwrap();
    let (model, seen) = device(0, 0);
    let check = CheckInvalidLossHook::default().interval(4);
    trained(run(dir.path(), model).hook(check)).1.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[1..8], [(4, 2), (4, 3), (4, 4), (5, 5), (8, 6), (8, 7), (8, 8)]);
}

/// A hook of one's own finds all numbers in each iteration, without a word on its part.
#[test]
fn a_hook_that_says_nothing_finds_all_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (model, seen) = device(0, 0);
    let noted = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&noted);
    let look = move |cx: &mut Ctx<'_>, event: &mut Event<'_>| {
        let Event::AfterTrainIter(step) = event else { return Ok(()) };
        let hub = cx.message_hub.scalar(Mode::Train, "twice").unwrap();
        assert_eq!((hub.count(), hub.current()), (cx.progress.iter, step.outputs.get("twice")));
        all.lock()
            .unwrap()
            .push(step.outputs.vars.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>());
        Ok(())
    };
    trained(run(dir.path(), model).on(Point::AfterTrainIter, look)).1.unwrap();
    let noted = noted.lock().unwrap();
    assert_eq!(noted.len(), 24);
    assert!(noted.iter().all(|names| *names == ["loss", "twice", "grad_norm"]), "{noted:?}");
    assert!(seen.lock().unwrap().iter().all(|(when, iter)| when == iter));
}

/// The first loss that is no number is told with its own iteration, however late it came down; also in the last one.
#[test]
fn a_nan_is_told_with_its_iteration() {
    for nan in [1, 3, 5, 12, 13, 24] {
        let dir = tempfile::tempdir().unwrap();
        let (runner, done) = trained(run(dir.path(), device(nan, 0).0));
        done.unwrap();
        let told = runner.session().state.log.warnings();
        let text = format!("the loss is NaN in iteration {nan}: ");
        assert_eq!(told.iter().filter(|(told, _)| told.starts_with(&text)).count(), 1, "{told:?}");
        assert_eq!(told.iter().filter(|(told, _)| told.starts_with("the loss is")).count(), 1, "{told:?}");
    }
}

/// A device that is lost ends the run with its words, and what came before is in the checkpoint.
#[test]
fn a_device_that_is_lost_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (runner, done) = trained(run(dir.path(), device(0, 14).0));
    let why = done.unwrap_err().to_string();
    assert!(why.contains("the numbers of a step cannot be read: the bus is gone"), "{why}");
    let hub = &runner.session().state.message_hub;
    assert_eq!(hub.scalar(Mode::Train, "loss").unwrap().count(), 13);
    assert!(dir.path().join("epoch_1/model.safetensors").exists());
}
