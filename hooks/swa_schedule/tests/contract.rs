//! The contract, and the learning rates by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::sync::{Arc, Mutex};

use shanty::config::parse;
use shanty::plugin::prelude::*;
use shanty::testing::toy_runner;
use swa_schedule::SwaSchedule;

shanty::testing::hook_contract!(SwaSchedule, "{swa_lr: 0.01, begin_epoch: 2, anneal_epochs: 1}");

fn rates(strategy: &str) -> Vec<f64> {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{{swa_lr: 0.02, begin_epoch: 2, anneal_epochs: 1, anneal_strategy: {strategy}}}");
    let hook: SwaSchedule = parse("hook", &text).unwrap().read().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let mut runner = toy_runner(dir.path(), 3, 4)
        .unwrap()
        .hook(hook)
        .on(Point::AfterBackward, move |cx, _| {
            noted.lock().unwrap().push(cx.optim.as_ref().unwrap().groups()[0].lr());
            Ok(())
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    assert_eq!(runner.session().state.optim.as_ref().unwrap().groups()[0].lr(), 0.1, "put back");
    let seen = seen.lock().unwrap();
    seen.iter().map(|lr| (lr * 1e6).round() / 1e6).collect()
}

/// 0.1 for four iterations; then a quarter of the way to 0.02 each; then 0.02.
#[test]
fn linear_by_hand() {
    assert_eq!(rates("linear"), [0.1, 0.1, 0.1, 0.1, 0.1, 0.08, 0.06, 0.04, 0.02, 0.02, 0.02, 0.02]);
}

/// At a quarter of the way the cosine is at (1 - cos 45°) / 2 = 0.1464.
#[test]
fn cosine_by_hand() {
    let rates = rates("cos");
    assert_eq!(rates[4..9], [0.1, 0.088284, 0.06, 0.031716, 0.02]);
}
