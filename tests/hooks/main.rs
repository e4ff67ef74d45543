//! The smaller built-in hooks, each by numbers that can be worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod begin;

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::data::{DataLoader, Pipeline, Sample, Synthetic, Transform};
use shanty::hook::builtin::*;
use shanty::model::tta::View;
use shanty::nn::{BatchNorm2d, Dropout, Flatten, Linear, Sequential};
use shanty::params::StateDict;
use shanty::plugin::prelude::*;
use shanty::run::{EpochBasedTrainLoop, Outcome, Runner, RunnerBuilder};
use shanty::testing::toy_optim;
use shanty::testing::toy_runner_of;
use shanty::testing::{Scripted, ToyModel, toy_data, toy_runner};

fn scripted(dir: &Path, epochs: u64, name: &str, values: &[f64]) -> RunnerBuilder {
    toy_runner(dir, epochs, 2)
        .unwrap()
        .sanity_check(false)
        .val(toy_data(1, false).unwrap(), Scripted::new(name, values))
}

fn early(text: &str) -> EarlyStoppingHook {
    shanty::config::parse("hook", text).unwrap().read().unwrap()
}

/// The validation at which the run stopped, with the reason; `None` if it did not.
fn stops_at(hook: EarlyStoppingHook, values: &[f64]) -> Option<(u64, String)> {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = scripted(dir.path(), values.len() as u64, "score", values).hook(hook).build().unwrap();
    match runner.train().unwrap() {
        Outcome::Finished => None,
        Outcome::Stopped(stop) => Some((runner.session().state.progress.epoch, stop.reason)),
        Outcome::Interrupted(leave) => panic!("nobody asked to leave: {leave:?}"),
    }
}

/// EST-01: best and patience survive a resume; a fresh run begins anew.
#[test]
fn patience_survives_a_resume() {
    let hook = || early("{monitor: score, rule: greater, min_delta: 0, patience: 3}");
    let dir = tempfile::tempdir().unwrap();
    scripted(dir.path(), 3, "score", &[0.9, 0.8, 0.8]).hook(hook()).build().unwrap().train().unwrap();
    // The resumed run owes the validation of epoch 3.
    let mut resumed =
        scripted(dir.path(), 9, "score", &[0.8, 0.8, 0.8, 0.8]).resume(true).hook(hook()).build().unwrap();
    let Outcome::Stopped(stop) = resumed.train().unwrap() else { panic!("it should have stopped") };
    assert_eq!(stop.by, "EarlyStoppingHook");
    assert_eq!(resumed.session().state.progress.epoch, 4);
    assert_eq!(resumed.hook::<EarlyStoppingHook>().unwrap().best(), Some(0.9));
}

/// EST-02.
#[test]
fn nan_is_no_improvement() {
    let values = [0.5, f64::NAN, f64::NAN, 0.4];
    let unchecked = early("{monitor: score, rule: greater, check_finite: false, patience: 2}");
    let (at, reason) = stops_at(unchecked, &values).unwrap();
    assert_eq!(at, 3);
    assert!(reason.contains("best 0.5000"), "{reason}");
    let (at, reason) = stops_at(early("{monitor: score, rule: greater, patience: 2}"), &values).unwrap();
    assert_eq!((at, reason.as_str()), (2, "score became NaN"));
}

/// EST-04.
#[test]
fn min_delta_is_named_where_it_stops_a_healthy_run() {
    let climbing: Vec<f64> = (0..=10).map(|i| 0.5 + f64::from(i) / 100.0).collect();
    let (at, reason) = stops_at(early("{monitor: score, rule: greater}"), &climbing).unwrap();
    assert_eq!(at, 6);
    assert!(reason.contains("min_delta 0.1"), "{reason}");
    assert_eq!(stops_at(early("{monitor: score, rule: greater, min_delta: 0}"), &climbing), None);
    // Less: 1.0 -> 0.95 is not better by 0.1, 1.0 -> 0.9 is.
    let less = || early("{monitor: score, rule: less, min_delta: 0.1, patience: 1}");
    assert_eq!(stops_at(less(), &[1.0, 0.95]).unwrap().0, 2);
    assert_eq!(stops_at(less(), &[1.0, 0.9]), None);
    // A metric that stands still is not getting better.
    let flat = early("{monitor: score, rule: greater, min_delta: 0, patience: 2}");
    assert_eq!(stops_at(flat, &[0.5, 0.5, 0.5, 0.5]).unwrap().0, 3);
}

/// EST-05: what was bad before min_epochs is forgiven when it got better.
#[test]
fn min_epochs_does_not_latch() {
    let hook = || early("{monitor: score, rule: greater, min_delta: 0, patience: 1, min_epochs: 5}");
    assert_eq!(stops_at(hook(), &[0.5, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0]), None);
    assert_eq!(stops_at(hook(), &[0.5, 0.4, 0.3, 0.2, 0.1, 0.0]).unwrap().0, 5);
}

#[test]
fn a_threshold_stops_at_once() {
    let hook = early("{monitor: score, rule: greater, stopping_threshold: 0.9}");
    let (at, reason) = stops_at(hook, &[0.5, 0.95, 0.99]).unwrap();
    assert_eq!(at, 2);
    assert!(reason.contains("better than the threshold 0.9"), "{reason}");
}

/// Student 2.0, teacher 0.0; a momentum of 0.25.
struct Pair([ToyModel; 2]);

impl HostParams for Pair {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        for (model, prefix) in self.0.iter().zip(["student", "teacher"]) {
            model.visit(&mut |p| f(ParamRef { name: &format!("{prefix}.{}", p.name), ..p }));
        }
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for (model, prefix) in self.0.iter_mut().zip(["student", "teacher"]) {
            model.visit_mut(&mut |p| f(ParamMut { name: &format!("{prefix}.{}", p.name), grad: None, ..p }));
        }
    }
}

impl Model for Pair {
    fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
        self.0[0].weight += 1.0;
        Ok(Outputs { vars: [("loss".into(), 1.0)].into_iter().collect(), ..Outputs::default() })
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.0[0].eval_step(batch)
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        self.0[0].weight.fill(2.0);
        Ok(Vec::new())
    }
}

/// It begins as a copy (2), then 2 + 0.25 (3 - 2) = 2.25, 2.25 + 0.25 (4 - 2.25) = 2.6875.
#[test]
fn the_teacher_follows_the_student() {
    let dir = tempfile::tempdir().unwrap();
    let hook: MeanTeacherHook = shanty::config::parse("hook", "{momentum: 0.25}").unwrap().read().unwrap();
    let (model, data) = (Pair([ToyModel::new(1), ToyModel::new(1)]), toy_data(2, true).unwrap());
    let mut runner = toy_runner_of(dir.path(), model, data, EpochBasedTrainLoop::new(1), toy_optim())
        .unwrap()
        .hook(hook)
        .build()
        .unwrap();
    runner.train().unwrap();
    let state = StateDict::of(runner.model().unwrap()).unwrap();
    assert_eq!(state.get("student.toy.weight").unwrap().value[0], 4.0);
    assert_eq!(state.get("teacher.toy.weight").unwrap().value[0], 2.6875);
}

/// BN, dropout, linear: enough to need precise statistics and a warm-up.
fn small_net() -> shanty::model::ImageClassifier {
    let layers = Sequential::new().with(BatchNorm2d::new(1)).with(Flatten::default());
    let layers = layers.with(Dropout::new(0.5)).with(Linear::new(4, 2));
    shanty::model::ImageClassifier::new(layers, shanty::model::ClsHead::default())
}

fn images(batches: usize) -> DataLoader {
    DataLoader::new(Synthetic::new(batches * 4, [1, 2, 2], 2, 0)).batch_size(4).shuffle(true)
}

fn image_runner(dir: &Path, epochs: u64) -> RunnerBuilder {
    Runner::builder(small_net())
        .train(images(3), EpochBasedTrainLoop::new(epochs), toy_optim())
        .work_dir(dir)
        .seed(1)
}

/// The running mean becomes the mean of the batches' means, the variance that of their unbiased variances.
#[test]
fn precise_statistics_are_the_mean_over_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = image_runner(dir.path(), 1).hook(PreciseBNHook::default()).build().unwrap();
    runner.train().unwrap();
    let (mut mean, mut var) = (0.0, 0.0);
    for batch in images(3).seed(1).batches(0, Some(3)) {
        let x: Vec<f64> = batch.unwrap().inputs().unwrap().iter().map(|v| f64::from(*v)).collect();
        let m = x.iter().sum::<f64>() / x.len() as f64;
        mean += m / 3.0;
        var += x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (x.len() - 1) as f64 / 3.0;
    }
    let state = StateDict::of(runner.model().unwrap()).unwrap();
    let stat = |name: &str| f64::from(state.get(&format!("backbone.0.{name}")).unwrap().value[[0]]);
    assert!((stat("running_mean") - mean).abs() < 1e-5, "{} {mean}", stat("running_mean"));
    assert!((stat("running_var") - var).abs() < 1e-4 * var, "{} {var}", stat("running_var"));
    assert_eq!(f64::from(*state.get("backbone.0.num_batches_tracked").unwrap().value.first().unwrap()), 3.0);
}

#[test]
fn precise_statistics_leave_weights_and_updates_alone() {
    let end = |precise: bool| {
        let dir = tempfile::tempdir().unwrap();
        let builder = image_runner(dir.path(), 3);
        let builder = if precise { builder.hook(PreciseBNHook::default()) } else { builder };
        let mut runner = builder.build().unwrap();
        runner.train().unwrap();
        let trained = |(_, t): &(String, shanty::params::StateTensor)| t.role.is_trained();
        StateDict::of(runner.model().unwrap()).unwrap().0.into_iter().filter(trained).collect::<Vec<_>>()
    };
    assert_eq!(end(true), end(false));
}

/// 3 batches an epoch, warm over 2 epochs: 0, 1/6, … of 0.5, then 0.5.
#[test]
fn a_number_warms_up() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let mut runner = image_runner(dir.path(), 3)
        .hook(WarmupParamHook::new("p", "backbone.2", 2))
        .on(Point::AfterTrainIter, move |cx, _| {
            noted.lock().unwrap().push(*cx.model.number_mut("backbone.2", "p").unwrap());
            Ok(())
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    let wanted: Vec<f64> = (0..9).map(|i| 0.5 * (f64::from(i) / 6.0).min(1.0)).collect();
    assert_eq!(*seen.lock().unwrap(), wanted);
    let mut net = small_net();
    let dropout = shanty::nn::find_mut(&mut net, "backbone.2").unwrap();
    assert_eq!(dropout.number_mut("p").copied(), Some(0.5));
    assert!(dropout.number_mut("q").is_none());
    let dir = tempfile::tempdir().unwrap();
    let mut wrong =
        image_runner(dir.path(), 1).hook(WarmupParamHook::new("p", "backbone.3", 1)).build().unwrap();
    let error = wrong.train().unwrap_err().to_string();
    assert!(error.contains("no number `p` in `backbone.3`"), "{error}");
}

/// Replaces every pixel by one value.
struct Paint(f32);
impl Transform for Paint {
    fn apply(&self, sample: &mut Sample, _rng: &mut shanty::base::Rng) -> Result<()> {
        sample.picture()?.values()?.fill(self.0);
        Ok(())
    }
}

#[test]
fn recipes_switch_by_epoch_and_after_a_resume() {
    let colours = |dir: &Path, epochs: u64, resume: bool| {
        let recipe = |value| Pipeline::new(vec![Box::new(Paint(value))]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let mut runner = image_runner(dir, epochs)
            .resume(resume)
            .hook(SwitchRecipeHook::new(vec![(1, recipe(7.0)), (3, recipe(9.0))]))
            .on(Point::BeforeTrainIter, move |cx, event| {
                if let Event::BeforeTrainIter(batch) = event
                    && cx.progress.batch == 0
                {
                    noted.lock().unwrap().push(batch.inputs().unwrap().iter().copied().next().unwrap());
                }
                Ok(())
            })
            .build()
            .unwrap();
        runner.train().unwrap();
        seen.lock().unwrap().clone()
    };
    let dir = tempfile::tempdir().unwrap();
    let first = colours(dir.path(), 2, false);
    assert!(first[0].abs() < 3.0 && first[1] == 7.0, "{first:?}");
    assert_eq!(colours(dir.path(), 5, true), [7.0, 9.0, 9.0]);
}

/// Scores of the toy model do not depend on the picture, so the mean over views is what one view gives; a model that
/// sees left from right gives the mean of both.
struct LeftPixel;
impl HostParams for LeftPixel {
    fn visit(&self, _: &mut dyn FnMut(ParamRef<'_>)) {}
    fn visit_mut(&mut self, _: &mut dyn FnMut(ParamMut<'_>)) {}
}
impl Model for LeftPixel {
    fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        let p = |n: usize| batch.inputs().unwrap()[[n, 0, 0, 0]];
        let scores =
            ndarray::Array2::from_shape_fn((batch.len(), 2), |(n, k)| if k == 0 { p(n) } else { -p(n) });
        Ok(Outputs::predicted("scores", scores.into_dyn()))
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

#[test]
fn a_test_averages_the_views_and_gives_the_model_back() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let mut runner = Runner::builder(LeftPixel)
        .test(images(1), Scripted::new("score", &[1.0]))
        .hook(PrepareTTAHook::new(vec![View::Identity, View::HorizontalFlip]))
        .on(Point::AfterTestIter, move |_, event| {
            if let Event::AfterTestIter(step) = event {
                let x = step.batch.inputs().unwrap();
                let mean = (x[[0, 0, 0, 0]] + x[[0, 0, 0, 1]]) / 2.0;
                noted.lock().unwrap().push((step.outputs.scores().unwrap()[[0, 0]], mean));
            }
            Ok(())
        })
        .work_dir(dir.path())
        .build()
        .unwrap();
    runner.test().unwrap();
    let (score, mean) = seen.lock().unwrap()[0];
    assert!((score - mean).abs() < 1e-6);
    let model: &mut dyn std::any::Any = runner.model().unwrap();
    assert!(model.is::<LeftPixel>());
}

/// A model whose config says how many classes it has.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Classes {
    /// Classes that it tells apart.
    #[allow(dead_code)]
    num_classes: usize,
}

register! {
    /// A model whose config says how many classes it has.
    dyn Model, "Classes" => fn Classes::build
}

impl Classes {
    fn build(self, _: &mut BuildCx) -> Result<ToyModel> {
        Ok(ToyModel::new(3))
    }
}

const CLASSES: &str = "
model: {type: Classes, num_classes: 10}
train_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [3, 1, 1], classes: 2}}
train_cfg: {by_epoch: true, max_epochs: 1}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
custom_hooks: [{type: NumClassCheckHook}]
";

#[test]
fn the_number_of_classes_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let run = |classes: &str| {
        let text =
            CLASSES.replace("num_classes: 10", classes) + &format!("work_dir: {}\n", dir.path().display());
        Runner::from_config(&shanty::config::parse("run.yaml", &text).unwrap(), None).unwrap().train()
    };
    let error = run("num_classes: 10").unwrap_err().to_string();
    assert!(error.contains("`model.num_classes` is 10, but the data set has 2 classes"), "{error}");
    run("num_classes: 2").unwrap();
}
