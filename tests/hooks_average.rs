//! EMAHook and its averages: the reference's numbers, EMA-01, EMA-02 and EMA-04.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::checkpoint::load;
use shanty::hook::builtin::{AveragedModel, Averaging, EMAHook};
use shanty::nn::BatchNorm2d;
use shanty::params::all;
use shanty::plugin::prelude::*;
use shanty::run::{IterBasedTrainLoop, RunnerBuilder};
use shanty::testing::ToyModel;
use shanty::testing::toy_data;
use shanty::testing::toy_optim;
use shanty::testing::toy_runner_of;

fn toy(value: Elem) -> ToyModel {
    let mut model = ToyModel::new(1);
    model.weight.fill(value);
    model
}

fn averaged(average: &AveragedModel) -> Elem {
    average.tensors(&toy(0.0)).unwrap()["toy.weight"][0]
}

fn weight(model: &mut dyn Model) -> Elem {
    let mut found = 0.0;
    model.read(Set::Values, &all, &mut |_, value| found = *value.first().unwrap()).unwrap();
    found
}

fn set_weight(model: &mut dyn Model, value: Elem) {
    model.edit(Set::Values, &all, &mut |_, mut weight| weight.fill(value)).unwrap();
}

fn near(a: Elem, b: f64) -> bool {
    (f64::from(a) - b).abs() < 1e-5
}

/// The first copies; then avg = 0.9 avg + 0.1 new.
#[test]
fn exponential_average_by_hand() {
    let mut average = AveragedModel::new(Averaging::ExponentialMovingAverage, 0.1);
    assert!(!average.is_started());
    for (value, wanted) in [(1.0, 1.0), (2.0, 1.1), (0.0, 0.99)] {
        average.update(&mut toy(value)).unwrap();
        assert!(near(averaged(&average), wanted), "{}", averaged(&average));
    }
    assert_eq!(average.steps(), 3);
}

/// 1, 2, 6: means 1, 1.5, 3. With interval 2 every other model is taken: 1, then 6.
#[test]
fn stochastic_average_is_the_mean_of_what_it_took() {
    let mut average = AveragedModel::new(Averaging::StochasticWeightAverage, 0.1);
    for (value, wanted) in [(1.0, 1.0), (2.0, 1.5), (6.0, 3.0)] {
        average.update(&mut toy(value)).unwrap();
        assert!(near(averaged(&average), wanted));
    }
    average.reset();
    average.interval = 2;
    for value in [1.0, 2.0, 6.0] {
        average.update(&mut toy(value)).unwrap();
    }
    assert!(near(averaged(&average), 3.5));
}

/// At step t the momentum is max(m, gamma / (gamma + t)): 1 is half way at gamma 1.
#[test]
fn annealing_begins_with_large_steps() {
    let mut average = AveragedModel::new(Averaging::MomentumAnnealingEMA, 0.4);
    average.gamma = 1.0;
    // Copy 0; then momentum 1/2, max(0.4, 1/3) = 0.4.
    for (value, wanted) in [(0.0, 0.0), (1.0, 0.5), (1.0, 0.7)] {
        average.update(&mut toy(value)).unwrap();
        assert!(near(averaged(&average), wanted), "{}", averaged(&average));
    }
}

/// EMA-04.
#[test]
fn buffers_are_the_models_or_averaged_counters_copied() {
    let mut norm = BatchNorm2d::new(1);
    let mut set = |mean: Elem, count: Elem| {
        norm.visit_mut(&mut |mut p| match p.name {
            "running_mean" | "running_var" => p.value.fill(mean),
            "num_batches_tracked" => p.value.fill(count),
            _ => {}
        });
        norm.clone()
    };
    let mut models = [set(2.0, 1.0), set(4.0, 2.0), set(8.0, 3.0)];
    let mut off = AveragedModel::new(Averaging::ExponentialMovingAverage, 0.5);
    let mut on = AveragedModel::new(Averaging::ExponentialMovingAverage, 0.5);
    on.update_buffers = true;
    for model in &mut models {
        off.update(model).unwrap();
        on.update(model).unwrap();
    }
    let stats = |average: &mut AveragedModel| {
        let mut model = models[2].clone();
        average.swap(&mut model).unwrap();
        let mut found = Vec::new();
        model.visit(&mut |p| {
            if !p.role.is_trained() {
                found.push(p.value.iter().copied().next().unwrap());
            }
        });
        found
    };
    assert_eq!(stats(&mut off), [8.0, 8.0, 3.0], "those of the source");
    assert_eq!(stats(&mut on), [5.5, 5.5, 3.0], "averaged, the counter copied");
}

/// A run whose weight is iter / 10 after each iteration.
fn ramp(dir: &Path, iters: u64, ema: EMAHook) -> RunnerBuilder {
    let train_loop = IterBasedTrainLoop::new(iters).val_interval(50);
    toy_runner_of(dir, ToyModel::new(1), toy_data(4, true).unwrap(), train_loop, toy_optim())
        .unwrap()
        .on(Point::AfterTrainIter, |cx, _| {
            let iter = cx.progress.iter as Elem;
            set_weight(&mut **cx.model, iter / 10.0);
            Ok(())
        })
        .hook(ema)
}

/// EMA-02.
#[test]
fn before_it_begins_the_average_is_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let mut runner = ramp(dir.path(), 101, EMAHook::new(0.1, 100))
        .on(Point::BeforeValIter, move |cx, _| {
            noted.lock().unwrap().push((cx.progress.iter, weight(&mut **cx.model)));
            Ok(())
        })
        .on(Point::AfterTrainIter, |cx, _| {
            if [50, 100].contains(&cx.progress.iter) {
                cx.save(SaveRequest::new(format!("at_{}", cx.progress.iter)));
            }
            Ok(())
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    let both = |name: &str| {
        let checkpoint = load(&dir.path().join(name)).unwrap();
        let model = checkpoint.model.get("toy.weight").unwrap().value[0];
        (model, checkpoint.hooks["EMAHook"].tensors["toy.weight"][0])
    };
    assert_eq!(both("at_50"), (5.0, 5.0));
    assert_eq!(both("at_100"), (10.0, 10.0));
    let (average, raw) = both("iter_101");
    assert!(near(average, 10.01) && near(raw, 10.1));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], (50, 5.0), "validation sees the model itself");
    assert!(near(seen[2].1, 10.01), "the last validation sees the average: {seen:?}");
    assert!(near(weight(runner.model().unwrap()), 10.1), "the model in memory is the trained one");
}

#[test]
fn an_average_that_never_begins_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = ramp(dir.path(), 10, EMAHook::new(0.1, 10)).build().err().unwrap().to_string();
    assert!(error.contains("`begin_iter: 10`, but the run has 10 iterations"), "{error}");
}

/// EMA-01: raw 2.0, average 1.5 in the file.
#[test]
fn load_from_takes_the_average_resume_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let steps = |dir: &Path, max: u64| {
        let train_loop = IterBasedTrainLoop::new(max).val_interval(99);
        toy_runner_of(dir, ToyModel::new(1), toy_data(4, true).unwrap(), train_loop, toy_optim()).unwrap().on(
            Point::AfterTrainIter,
            |cx, _| {
                let value = if cx.progress.iter == 1 { 1.0 } else { 2.0 };
                set_weight(&mut **cx.model, value);
                Ok(())
            },
        )
    };
    let mut first = steps(dir.path(), 2).hook(EMAHook::new(0.5, 0)).build().unwrap();
    first.train().unwrap();
    assert_eq!(weight(first.model().unwrap()), 2.0);
    let saved = dir.path().join("iter_2");
    let checkpoint = load(&saved).unwrap();
    assert_eq!(checkpoint.model.get("toy.weight").unwrap().value[0], 1.5);
    assert_eq!(checkpoint.hooks["EMAHook"].tensors["toy.weight"][0], 2.0);

    let start = Arc::new(Mutex::new(None));
    let seen = |start: &Arc<Mutex<Option<Elem>>>| {
        let start = Arc::clone(start);
        move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            *start.lock().unwrap() = Some(weight(&mut **cx.model));
            Ok(())
        }
    };
    let other = tempfile::tempdir().unwrap();
    let mut tuned = steps(other.path(), 1)
        .load_from(&saved)
        .hook(EMAHook::new(0.5, 0))
        .on(Point::BeforeTrain, seen(&start))
        .build()
        .unwrap();
    tuned.train().unwrap();
    assert_eq!(*start.lock().unwrap(), Some(1.5));

    let mut resumed = steps(dir.path(), 3)
        .resume(true)
        .hook(EMAHook::new(0.5, 0))
        .on(Point::BeforeTrain, seen(&start))
        .build()
        .unwrap();
    resumed.train().unwrap();
    assert_eq!(*start.lock().unwrap(), Some(2.0));
    let average = resumed.hook::<EMAHook>().unwrap().average().unwrap();
    assert!(near(averaged(average), 1.75), "1.5 went on with 2.0");

    // A file without an average: the hook begins with a copy of the model.
    let plain = tempfile::tempdir().unwrap();
    steps(plain.path(), 2).build().unwrap().train().unwrap();
    let refused = steps(plain.path(), 3).resume(true).hook(EMAHook::new(0.5, 0)).build().unwrap().train();
    assert!(refused.unwrap_err().to_string().contains("hook `EMAHook` keeps state"));
    let mut allowed = steps(plain.path(), 3)
        .resume(true)
        .allow_hook_changes(true)
        .hook(EMAHook::new(0.5, 0))
        .build()
        .unwrap();
    allowed.train().unwrap();
    assert_eq!(averaged(allowed.hook::<EMAHook>().unwrap().average().unwrap()), 2.0);
}

/// HKP-01: the average sees the updated weights and is in the file of the same point.
#[test]
fn weights_come_back_when_a_validation_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = ramp(dir.path(), 60, EMAHook::new(0.1, 0))
        .on(Point::AfterValIter, |_, _| Err("the metric broke".into()))
        .build()
        .unwrap();
    runner.train().unwrap_err();
    assert_eq!(weight(runner.model().unwrap()), 5.0, "the trained weights of iteration 50");
}
