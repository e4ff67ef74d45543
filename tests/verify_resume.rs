//! Every registered optimizer, schedule, loop and stateful hook: cut, resumed, compared step by step.
//!
//! In short every optimizer meets every loop and hook, and every schedule too; `SHANTY_FULL=1` takes the whole product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::optim::{OptimWrapper, Optimizer, ParamStep};
use shanty::plugin::prelude::*;
use shanty::registry;
use shanty::run::EpochBasedTrainLoop;
use shanty::run::verify::{Difference, random_cuts, verify};
use shanty::run::{Limits, RunnerBuilder};
use shanty::testing::{STOCHASTIC_NET, toy_data, toy_runner};

/// What a type needs besides its defaults.
fn optimizer(name: &str) -> String {
    format!("{{type: {name}, lr: 0.01}}")
}

fn schedule(name: &str) -> String {
    let shape = ["LR", "Momentum", "ParamScheduler"].iter().find_map(|family| name.strip_suffix(family));
    let more = match shape.unwrap_or(name) {
        "MultiStep" => ", milestones: [1, 2]",
        "Step" => ", step_size: 1",
        "Exponential" => ", gamma: 0.9",
        "CosineRestart" => ", periods: [6, 6], restart_weights: [1, 0.5], eta_min: 0.001",
        "OneCycle" => ", eta_max: 0.05, total_steps: 12",
        "ReduceOnPlateau" => ", monitor: accuracy/top1, patience: 0",
        "WarmupStableDecay" => ", warmup: 1, decay: 1",
        "Expression" => ", expression: 'value * (1 - t / (2 * T))'",
        _ => "",
    };
    let number = if name.ends_with("ParamScheduler") { ", param_name: weight_decay" } else { "" };
    format!("{{type: {name}{more}{number}}}")
}

/// Muon takes no biases, and the first two have no momentum to move.
fn fit(optimizer: &str, schedule: &str) -> bool {
    optimizer != "Muon" && !(["Adagrad", "Adadelta"].contains(&optimizer) && schedule.ends_with("Momentum"))
}

/// Hooks that keep state or change what is trained, and a run that keeps them busy.
const HOOKS: &[&str] = &[
    "{type: CheckInvalidLossHook, action: rollback, check: all}",
    "{type: CheckInvalidLossHook, action: skip}",
    "{type: DigestHook, interval: 2}",
    "{type: EMAHook, momentum: 0.1}",
    "{type: EarlyStoppingHook, monitor: accuracy/top1, patience: 50}",
    "{type: PreciseBNHook, num_samples: 12}",
];

fn config(dir: &Path, resume: bool, optimizer: &str, schedule: &str, by_epoch: bool, hook: &str) -> String {
    let length = if by_epoch {
        "by_epoch: true, max_epochs: 3"
    } else {
        "by_epoch: false, max_iters: 12, val_interval: 3"
    };
    format!(
        "
{STOCHASTIC_NET}
train_dataloader: &data
  batch_size: 6
  dataset: {{type: Synthetic, n: 24, shape: [3, 2, 2], classes: 3}}
  sampler: {{type: DefaultSampler, shuffle: true}}
val_dataloader: {{batch_size: 6, dataset: {{type: Synthetic, n: 12, shape: [3, 2, 2], classes: 3}}, sampler: {{type: DefaultSampler, shuffle: false}}}}
val_evaluator: {{type: Accuracy, topk: [1]}}
val_cfg: {{}}
optim_wrapper: {{optimizer: {optimizer}, accumulative_counts: 2, clip_grad: {{max_norm: 1.0}}}}
param_scheduler: {schedule}
train_cfg: {{{length}}}
randomness: {{seed: 5}}
custom_hooks: [{hook}]
work_dir: {}
resume: {resume}
",
        dir.display()
    )
}

fn equal(optimizer: &str, schedule: &str, by_epoch: bool, hook: &str, seed: u64) {
    let make = |dir: &Path, resume: bool, limits: Limits| {
        let text = config(dir, resume, optimizer, schedule, by_epoch, hook);
        RunnerBuilder::from_config(&shanty::config::parse("test", &text)?, Some("test.yaml"))?
            .limits(limits)
            .build()
    };
    let scratch = tempfile::tempdir().unwrap();
    let what = format!("{optimizer}, {schedule}, by_epoch {by_epoch}, {hook}");
    let cuts = random_cuts(12, 1, seed);
    for cut in verify(&make, |_| cuts, scratch.path(), &mut |_| ()).unwrap_or_else(|e| panic!("{what}: {e}"))
    {
        assert_eq!(cut.difference, None, "{what}, cut after {}", cut.at);
    }
}

fn names(kind: &str) -> Vec<&'static str> {
    let mut names: Vec<_> = registry::entries(kind).map(|entry| entry.name).collect();
    names.sort_unstable();
    assert!(!names.is_empty());
    names
}

#[test]
fn every_optimizer_schedule_loop_and_stateful_hook() {
    let (optimizers, schedules) = (names("optimizer"), names("param_scheduler"));
    let full = std::env::var_os("SHANTY_FULL").is_some();
    let mut count = 0;
    for (o, opt) in optimizers.iter().enumerate() {
        for (s, sched) in schedules.iter().enumerate() {
            for (h, hook) in HOOKS.iter().enumerate() {
                for by_epoch in [true, false] {
                    // Each optimizer with each loop and hook, each schedule with each loop.
                    let chosen =
                        s == (o + h) % schedules.len() || (o == s % optimizers.len() && h == s % HOOKS.len());
                    if (full || chosen) && fit(opt, sched) {
                        count += 1;
                        equal(&optimizer(opt), &schedule(sched), by_epoch, hook, count);
                    }
                }
            }
        }
    }
    println!("{count} combinations: all equal");
}

/// SGD with momentum, which it keeps behind the back of the framework.
#[derive(Clone, Default)]
struct Forgetful {
    lr: f64,
    momentum: Arc<Mutex<Vec<Elem>>>,
}

impl Optimizer for Forgetful {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![("lr", &mut self.lr)]
    }
    fn step(&self, p: ParamStep<'_>) -> Result<()> {
        let mut momentum = self.momentum.lock().unwrap();
        momentum.resize(p.value.len(), 0.0);
        for ((value, grad), m) in p.value.iter_mut().zip(p.grad).zip(&mut *momentum) {
            *m = 0.9 * *m + grad;
            *value -= self.lr as Elem * *m;
        }
        Ok(())
    }
}

#[test]
fn an_optimizer_that_forgets_is_caught_and_named() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |dir: &Path, resume: bool, limits: Limits| {
        let optim = OptimWrapper::new(Forgetful { lr: 0.1, ..Forgetful::default() });
        toy_runner(dir, 2, 4)?
            .train(toy_data(4, true)?, EpochBasedTrainLoop::new(2), optim)
            .resume(resume)
            .limits(limits)
            .build()
    };
    let cuts = verify(&make, |_| vec![3], scratch.path(), &mut |_| ()).unwrap();
    let expected = Difference { iter: 4, part: "model/toy.weight".into() };
    assert_eq!(cuts[0].difference, Some(expected), "the first step that needed the momentum");
}
