//! Measures what docs/optimizers.md says of SGD, Adam, SAM and the switch from Adam to SGD:
//! `cargo run --release --example optimizers`.
//!
//! One network (64-128-10, ReLU) on the embedded digits, 40 epochs in batches of 32, five seeds; the 297 images of the
//! test come from other writers. Sharpness is the largest eigenvalue of the Hessian of the training loss, by power
//! iteration over differences of gradients, and the rise of that loss at a distance of 0.1 along its gradient. It prints a
//! table in Markdown.
#![allow(clippy::print_stdout)] // an example speaks

use anyhow::{Context, Result};
use shanty::base::{Elem, keyed, rng::permutation};
use shanty::data::Batch;
use shanty::model::{Model, StepCx};
use shanty::optim::{OptimWrapper, SamConfig};
use shanty::params::{Params, Set, all};
use shanty::prelude::*;

const EPOCHS: u64 = 40;
const SEEDS: u64 = 5;
const RHO: f64 = 0.05;

/// A row of the table: its name, the optimizer of the first half, and of the second.
type Way = (String, fn(f64) -> OptimWrapper, f64, Option<(fn(f64) -> OptimWrapper, f64)>);

fn sgd(lr: f64) -> OptimWrapper {
    OptimWrapper::new(Sgd::new(lr).momentum(0.9))
}

fn adam(lr: f64) -> OptimWrapper {
    OptimWrapper::new(Adam::new(lr))
}

fn sam_sgd(lr: f64) -> OptimWrapper {
    sgd(lr).sam(SamConfig { rho: RHO })
}

fn sam_adam(lr: f64) -> OptimWrapper {
    adam(lr).sam(SamConfig { rho: RHO })
}

fn ways() -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for lr in [0.001, 0.003, 0.01] {
        ways.push((format!("SGD, momentum 0.9, lr {lr}"), sgd, lr, None));
    }
    for lr in [0.0003, 0.001, 0.003] {
        ways.push((format!("Adam, lr {lr}"), adam, lr, None));
    }
    ways.push((format!("SGD, momentum 0.9, lr 0.003, SAM {RHO}"), sam_sgd, 0.003, None));
    ways.push((format!("SGD, momentum 0.9, lr 0.01, SAM {RHO}"), sam_sgd, 0.01, None));
    ways.push((format!("Adam, lr 0.001, SAM {RHO}"), sam_adam, 0.001, None));
    ways.push((format!("Adam, lr 0.003, SAM {RHO}"), sam_adam, 0.003, None));
    ways.push(("20 epochs of Adam, lr 0.001, 20 of SGD, lr 0.01".into(), adam, 0.001, Some((sgd, 0.01))));
    ways
}

fn main() -> Result<()> {
    let whole = |split| -> Result<Batch> {
        let digits = Digits::load(split, SplitBy::Tail)?;
        let loader = DataLoader::new(digits).batch_size(10_000);
        Ok(loader.batches(0, None).next().context("digits are there")??)
    };
    let (train, test) = (whole(DigitsSplit::Train)?, whole(DigitsSplit::Val)?);
    println!("| | test error, % | training loss | largest eigenvalue | rise at 0.1 |");
    println!("|---|---|---|---|---|");
    for (name, first, lr, second) in ways() {
        let mut rows = Vec::new();
        for seed in 0..SEEDS {
            rows.push(run(seed, first(lr), second.map(|(optim, lr)| optim(lr)), &train, &test)?);
        }
        let column = |at: usize| -> (f64, f64) {
            let mean = rows.iter().map(|row| row[at]).sum::<f64>() / SEEDS as f64;
            let var = rows.iter().map(|row| (row[at] - mean).powi(2)).sum::<f64>() / (SEEDS - 1) as f64;
            (mean, var.sqrt())
        };
        let [error, loss, sharp, rise] = [0, 1, 2, 3].map(column);
        println!(
            "| {name} | {:.2} ± {:.2} | {:.5} | {:.2} ± {:.2} | {:.5} |",
            error.0, error.1, loss.0, sharp.0, sharp.1, rise.0
        );
    }
    Ok(())
}

/// Test error, training loss and both measures of sharpness of one training.
fn run(
    seed: u64,
    mut optim: OptimWrapper,
    mut second: Option<OptimWrapper>,
    train: &Batch,
    test: &Batch,
) -> Result<[f64; 4]> {
    let network = MLP::new(&[64, 128, 10], Box::new(ReLU::default()))?;
    let mut model = ImageClassifier::new(network, ClsHead::default());
    model.init_weights(seed)?;
    let data = DataLoader::new(Digits::load(DigitsSplit::Train, SplitBy::Tail)?)
        .batch_size(32)
        .shuffle(true)
        .seed(seed);
    let len = data.len();
    optim.bind(&model)?;
    for (iter, batch) in data.batches(0, Some(EPOCHS * len)).enumerate() {
        let (iter, batch) = (iter as u64, batch?);
        if iter == EPOCHS / 2 * len
            && let Some(next) = second.take()
        {
            optim = next;
            optim.bind(&model)?;
        }
        let cx = StepCx { seed, iter, loss_scale: 1.0 };
        optim.gradients(&mut model, |model| model.train_step(&batch, &cx))?;
        optim.update(&mut model)?;
    }
    let (loss, grad) = gradient(&mut model, train)?;
    let sharp = eigenvalue(&mut model, train, grad.len(), seed)?;
    let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
    shift(&mut model, &grad, 0.1 / norm)?;
    let rise = gradient(&mut model, train)?.0 - loss;
    shift(&mut model, &grad, -0.1 / norm)?;
    Ok([error(&mut model, test)?, loss, sharp, rise])
}

/// Loss of the whole training data, and its gradient as one vector.
fn gradient(model: &mut impl Model, train: &Batch) -> Result<(f64, Vec<f64>)> {
    model.clear_grads()?;
    let outputs = model.train_step(train, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 })?;
    let mut grad = Vec::new();
    model.read(Set::Grads, &all, &mut |_, g| grad.extend(g.iter().map(|v| *v as f64)))?;
    model.clear_grads()?;
    Ok((outputs.loss().context("a loss")?, grad))
}

/// Moves all weights by `factor · along`.
fn shift(model: &mut impl Params, along: &[f64], factor: f64) -> Result<()> {
    let mut along = along.iter();
    model.edit(Set::Values, &|p| p.role.is_trained(), &mut |_, mut value| {
        value.iter_mut().zip(along.by_ref()).for_each(|(w, v)| *w += (factor * v) as Elem);
    })?;
    Ok(())
}

/// The largest eigenvalue of the Hessian.
fn eigenvalue(model: &mut impl Model, train: &Batch, n: usize, seed: u64) -> Result<f64> {
    const STEP: f64 = 1e-2;
    let order = permutation(n, &mut keyed(seed, "sharpness", 0, 0));
    let mut v: Vec<f64> = order.iter().map(|at| *at as f64 / n as f64 - 0.5).collect();
    let mut value = 0.0;
    for _ in 0..50 {
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        shift(model, &v, STEP)?;
        let above = gradient(model, train)?.1;
        shift(model, &v, -2.0 * STEP)?;
        let below = gradient(model, train)?.1;
        shift(model, &v, STEP)?;
        let next: Vec<f64> = above.iter().zip(&below).map(|(a, b)| (a - b) / (2.0 * STEP)).collect();
        value = next.iter().zip(&v).map(|(a, b)| a * b).sum();
        v = next;
    }
    Ok(value)
}

/// Per cent of wrong answers.
fn error(model: &mut impl Model, test: &Batch) -> Result<f64> {
    let outputs = model.eval_step(test)?;
    let scores = outputs.scores().context("scores")?;
    let labels = test.labels()?;
    let wrong = scores.outer_iter().zip(labels.iter()).filter(|(row, label)| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at as i64);
        best != Some(**label)
    });
    Ok(100.0 * wrong.count() as f64 / labels.len() as f64)
}
