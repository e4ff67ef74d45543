//! Weights of several losses: what each paper's formula gives, and that a resumed run has the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{ArrayD, arr2};
use shanty::base::Elem;
use shanty::data::Batch;
use shanty::model::{
    DynamicWeightAverage, GradNorm, Model, Objective, Outputs, StepCx, Supervised, UncertaintyWeighting,
};
use shanty::nn::{BCEWithLogitsLoss, Linear, MSELoss};
use shanty::optim::{OptimWrapper, Sgd};
use shanty::params::HostParams;
use shanty::registry::entries;
use shanty::run::verify::{random_cuts, verify};
use shanty::run::{Limits, RunnerBuilder};

const NEAR: f64 = 1e-5;

fn batch() -> Batch {
    let inputs = arr2(&[[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0]]);
    let (price, yes) = (arr2(&[[3.0], [-2.0], [4.0]]), arr2(&[[1.0], [0.0], [1.0]]));
    Batch::unlabelled(inputs.into_dyn()).with("price", price).with("yes", yes)
}

/// A network with a head of numbers and one of yes and no.
fn model() -> Supervised {
    Supervised::trunk(Linear::new(2, 4))
        .head("price", Linear::new(4, 1))
        .head("yes", Linear::new(4, 1))
        .objective(Objective::new(MSELoss::default()).head("price").target("price"))
        .objective(Objective::new(BCEWithLogitsLoss::default()).head("yes").target("yes").weight(2.0))
}

fn step(model: &mut Supervised, loss_scale: Elem) -> Outputs {
    model.train_step(&batch(), &StepCx { seed: 0, iter: 0, loss_scale }).unwrap()
}

fn ready(mut model: Supervised) -> Supervised {
    model.init_weights(3).unwrap();
    model
}

/// Values and gradients by name.
fn tensors(model: &Supervised) -> BTreeMap<String, (ArrayD<Elem>, Option<ArrayD<Elem>>)> {
    let mut all = BTreeMap::new();
    model.visit(&mut |p| {
        all.insert(p.name.to_owned(), (p.value.to_owned(), p.grad.map(|grad| grad.to_owned())));
    });
    all
}

fn near(found: f64, wanted: f64, what: &str) {
    assert!((found - wanted).abs() <= NEAR * wanted.abs().max(1.0), "{what}: {found}, not {wanted}");
}

/// Kendall 2018: `e⁻ˢ L / 2 + s / 2` for numbers, `e⁻ˢ L + s / 2` for labels; the slopes by s at 0 are `(1 - L) / 2` and
/// `1 / 2 - L`, and SGD ends at s = log L and s = log 2 L.
#[test]
fn uncertainty_is_learnt() {
    let plain = step(&mut ready(model()), 1.0);
    let (price, yes) = (plain.get("loss_price").unwrap(), plain.get("loss_yes").unwrap());
    let mut weighted = ready(model().weighting(UncertaintyWeighting::default()));
    let outputs = step(&mut weighted, 1.0);
    near(outputs.get("loss_price").unwrap(), price / 2.0, "half the loss of numbers");
    near(outputs.get("loss_yes").unwrap(), yes, "the loss of labels");
    near(outputs.loss().unwrap(), price / 2.0 + yes, "the sum");
    assert_eq!((outputs.get("weight_price"), outputs.get("weight_yes")), (Some(0.5), Some(1.0)));
    let grad = tensors(&weighted)["weighting.log_vars"].1.clone().unwrap();
    near(grad[[0]].into(), (1.0 - price) / 2.0, "slope of the first");
    near(grad[[1]].into(), 0.5 - yes, "slope of the second");

    // Only the weighting is trained: the losses stay.
    for part in ["network", "heads"] {
        shanty::nn::set_trainable(&mut weighted, part, false).unwrap();
    }
    weighted.zero_grads();
    let mut optimizer = OptimWrapper::new(Sgd::new(0.2));
    let mut last = Outputs::default();
    for _ in 0..600 {
        last = step(&mut weighted, 1.0);
        optimizer.update(&mut weighted).unwrap();
    }
    let log_vars = tensors(&weighted)["weighting.log_vars"].0.clone();
    near(log_vars[[0]].into(), price.ln(), "log L");
    near(log_vars[[1]].into(), (2.0 * yes).ln(), "log 2 L");
    let parts = ["loss_price", "loss_yes", "loss_weighting"].map(|name| last.get(name).unwrap());
    near(last.loss().unwrap(), parts.iter().sum(), "the logged parts make the whole");
    near(
        weighted
            .eval_step(&batch())
            .unwrap()
            .sample_losses
            .unwrap()
            .iter()
            .map(|l| f64::from(*l))
            .sum::<f64>()
            / 3.0,
        price + yes,
        "a validation takes the fixed weights",
    );
}

/// Chen 2018 at the first step, where every loss has its first value: the wanted norm is the mean, and the slope by a
/// weight is the norm of its own loss's gradient, with the sign of the difference.
#[test]
fn grad_norm_goes_along_the_slope_of_its_norms() {
    let mut plain = ready(model());
    let unweighted = step(&mut plain, 1.0);
    let of_plain = tensors(&plain);
    let scores = plain.eval_step(&batch()).unwrap().predictions;
    // The gradient by the features is that by the scores times the head's weights.
    let norm = |head: &str, by_score: ArrayD<Elem>| {
        let weight = &of_plain[&format!("heads.{head}.weight")].0;
        let length = |values: &ArrayD<Elem>| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        length(&by_score) * length(weight)
    };
    let (price, yes) = (batch().float("price").unwrap().clone(), batch().float("yes").unwrap().clone());
    let norms = [
        norm("price", (scores.get("price").unwrap() - &price) * (2.0 / 3.0)),
        norm("yes", (scores.get("yes").unwrap() - &yes) * (2.0 / 3.0)),
    ];
    let mean = (norms[0] + norms[1]) / 2.0;
    for scale in [1.0, 0.25] {
        let mut model = ready(model().weighting(GradNorm::default()));
        let outputs = step(&mut model, scale);
        near(outputs.loss().unwrap(), unweighted.loss().unwrap(), "weights of 1 change nothing");
        let found = tensors(&model);
        let slopes = found["weighting.weights"].1.clone().unwrap();
        for (i, norm) in norms.iter().enumerate() {
            near(slopes[[i]].into(), f64::from(scale) * norm * (norm - mean).signum(), "slope");
        }
        for (name, (_, grad)) in &of_plain {
            let (own, plain) = (found[name].1.as_ref().unwrap(), grad.as_ref().unwrap());
            for (own, plain) in own.iter().zip(plain) {
                near((own / scale).into(), (*plain).into(), name);
            }
        }
        near(found["weighting.initial"].0[[0]].into(), unweighted.get("loss_price").unwrap(), "L(0)");
    }
}

/// With alpha 0 the weights go where the norms are equal, and add up to the number of losses all the way.
#[test]
fn grad_norm_makes_the_norms_equal() {
    let mut model = ready(model().weighting(GradNorm::new(0.0)));
    for part in ["network", "heads"] {
        shanty::nn::set_trainable(&mut model, part, false).unwrap();
    }
    let mut optimizer = OptimWrapper::new(Sgd::new(1e-3));
    let (mut first, mut last) = (None, [0.0; 2]);
    for _ in 0..3000 {
        let outputs = step(&mut model, 1.0);
        let weights = ["weight_price", "weight_yes"].map(|name| outputs.get(name).unwrap());
        near(weights[0] + weights[1], 2.0, "sum");
        let slopes = tensors(&model)["weighting.weights"].1.clone().unwrap();
        // A slope is ± norm / weight.
        last = [0, 1].map(|i| f64::from(slopes[[i]]).abs() * weights[i]);
        first.get_or_insert(last);
        optimizer.update(&mut model).unwrap();
    }
    let first = first.unwrap();
    assert!((first[0] / first[1]).ln().abs() > 0.5, "{first:?} differ");
    assert!((last[0] / last[1]).ln().abs() < 0.05, "{first:?} became {last:?}");
}

/// Liu 2019 over two batches each: the weights are those of the averages before, and losses that are no numbers leave
/// no trace.
#[test]
fn dynamic_averages_follow_the_losses() {
    let mut model = ready(model().weighting(DynamicWeightAverage::new(2).temperature(0.5)));
    let mut optimizer = OptimWrapper::new(Sgd::new(0.05));
    let (mut losses, mut seen) = (Vec::new(), Vec::new());
    for iter in 0..7 {
        let outputs = step(&mut model, 1.0);
        let weights = ["price", "yes"].map(|head| outputs.get(&format!("weight_{head}")).unwrap());
        let own = ["price", "yes"].map(|head| outputs.get(&format!("loss_{head}")).unwrap());
        losses.push([own[0] / weights[0], own[1] / weights[1]]);
        seen.push(weights);
        optimizer.update(&mut model).unwrap();
        if iter == 4 {
            let broken = Batch::unlabelled(ArrayD::from_elem(vec![1, 2], Elem::NAN))
                .with("price", arr2(&[[0.0]]))
                .with("yes", arr2(&[[0.0]]));
            model.train_step(&broken, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap();
            model.zero_grads();
        }
    }
    assert_eq!(seen[..4], [[1.0; 2]; 4]);
    for (at, window) in [(4, 0), (5, 0), (6, 2)] {
        let mean = |from: usize, k: usize| (losses[from][k] + losses[from + 1][k]) / 2.0;
        let shares = [0, 1].map(|k| (mean(window + 2, k) / mean(window, k) / 0.5).exp());
        for k in 0..2 {
            near(seen[at][k], 2.0 * shares[k] / (shares[0] + shares[1]), "weight");
        }
    }
    assert_ne!(seen[4], seen[6]);
}

/// Several losses of one output are weighed too, each by a branch of its own.
#[test]
fn losses_of_one_output_are_weighed() {
    let of = || {
        Supervised::trunk(Linear::new(2, 1))
            .objective(Objective::new(MSELoss::default()).target("price"))
            .objective(Objective::new(BCEWithLogitsLoss::default()).target("yes"))
    };
    let plain = step(&mut ready(of()), 1.0);
    let outputs = step(&mut ready(of().weighting(GradNorm::default())), 1.0);
    near(outputs.loss().unwrap(), plain.loss().unwrap(), "the sum");
    let error = Supervised::new(Linear::new(2, 1), MSELoss::default()).weighting(GradNorm::default()).check();
    assert!(error.unwrap_err().to_string().contains("`weighting` weighs several `losses`"));
    let twice = model().objective(Objective::new(MSELoss::default()).head("yes").target("price"));
    let mut twice = ready(twice.weighting(GradNorm::default()));
    let error = twice.train_step(&batch(), &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap_err();
    assert!(error.to_string().contains("`GradNorm` measures each loss alone"), "{error}");
}

fn config(dir: &Path, weighting: &str, resume: bool) -> String {
    format!(
        "
model:
  type: Supervised
  network: [{{type: Flatten}}, {{type: Linear, in_features: 12, out_features: 8}}, {{type: ReLU}}]
  heads:
    sure: {{type: Linear, in_features: 8, out_features: 3}}
    apart: {{type: Linear, in_features: 8, out_features: 3}}
  losses:
    - {{head: sure, loss: {{type: CrossEntropyLoss}}}}
    - {{head: apart, loss: {{type: MultiMarginLoss, p: 2}}, weight: 3}}
  weighting: {weighting}
train_dataloader:
  batch_size: 6
  dataset: {{type: Synthetic, n: 24, shape: [3, 2, 2], classes: 3}}
  sampler: {{type: DefaultSampler, shuffle: true}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.05, momentum: 0.9}}, accumulative_counts: 2}}
train_cfg: {{by_epoch: true, max_epochs: 4}}
randomness: {{seed: 5}}
work_dir: {}
resume: {resume}
",
        dir.display()
    )
}

/// Weights and averages are the model's: a run that is cut in the middle of an average ends as the whole one does.
#[test]
fn every_weighting_survives_a_cut_bit_for_bit() {
    let mut names = Vec::new();
    for entry in entries("weighting") {
        let more = if entry.name == "DynamicWeightAverage" { ", interval: 3" } else { "" };
        let weighting = format!("{{type: {}{more}}}", entry.name);
        let make = |dir: &Path, resume: bool, limits: Limits| {
            let text = config(dir, &weighting, resume);
            let node = shanty::config::parse("test", &text)?;
            RunnerBuilder::from_config(&node, Some("test.yaml"))?.limits(limits).build()
        };
        let scratch = tempfile::tempdir().unwrap();
        for cut in verify(&make, |_| random_cuts(16, 3, 1), scratch.path(), &mut |_| ()).unwrap() {
            assert_eq!(cut.difference, None, "{weighting}, cut after {}", cut.at);
        }
        names.push(entry.name);
    }
    assert_eq!(names, ["DynamicWeightAverage", "GradNorm", "UncertaintyWeighting"]);
}
