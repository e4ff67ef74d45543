//! LeNet-5 against PyTorch: the same names, the same losses, the same scores (fixtures/README.md).

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::ArrayD;
use shanty::base::Elem;
use shanty::data::{Batch, DataLoader, Digits, DigitsSplit, Filter, Pipeline, Resize, SplitBy};
use shanty::model::{ClsDataPreprocessor, ClsHead, ImageClassifier, LeNet5, Model, PixelOps, StepCx};
use shanty::nn::init::{Init, Pretrained};
use shanty::params::{HostParams, StateDict};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn lenet(num_classes: Option<usize>) -> ImageClassifier {
    let pixels =
        PixelOps { norm: PixelOps::norm(Some(&[4.88]), Some(&[6.0])).unwrap(), ..Default::default() };
    ImageClassifier::new(LeNet5::new(num_classes, 1).unwrap(), ClsHead::default())
        .preprocessor(Box::new(ClsDataPreprocessor { pixels, onehot: None }))
}

/// The model with the weights that PyTorch drew.
fn from_pytorch() -> ImageClassifier {
    let checkpoint = Path::new(FIXTURES).join("lenet5_init.safetensors").display().to_string();
    let rule = Pretrained { checkpoint, prefix: None, map_location: None };
    let mut model = lenet(Some(10)).init(vec![Init::new(rule)]);
    let report = model.init_weights(0).unwrap();
    assert!(report.iter().all(|line| line.contains("PretrainedInit")), "{report:#?}");
    model
}

fn batches(split: DigitsSplit, batch_size: usize, n: u64) -> Vec<Batch> {
    let resize = Resize { width: 32, height: 32, keep_ratio: false, filter: Filter::CV2 };
    let digits = Digits::load(split, SplitBy::Index).unwrap();
    let digits = digits.with_pipeline(Pipeline::new(vec![Box::new(resize)]));
    DataLoader::new(digits).batch_size(batch_size).batches(0, Some(n)).map(Result::unwrap).collect()
}

/// What PyTorch printed.
fn recorded() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(Path::new(FIXTURES).join("lenet5_steps.json")).unwrap()).unwrap()
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// PyTorch's SGD, written down once more so that this test stands on the model alone.
#[derive(Default)]
struct Sgd {
    velocity: BTreeMap<String, ArrayD<Elem>>,
}

impl Sgd {
    fn step(&mut self, model: &mut impl HostParams) {
        let (lr, momentum, decay) = (0.05, 0.9, 1e-4);
        model.visit_mut(&mut |mut p| {
            let Some(mut grad) = p.grad else { return };
            let mut d = grad.to_owned();
            d.scaled_add(decay, &p.value);
            let v = match self.velocity.remove(p.name) {
                Some(v) => v * momentum + d,
                None => d,
            };
            p.value.scaled_add(-lr, &v);
            grad.fill(0.0);
            self.velocity.insert(p.name.to_owned(), v);
        });
    }
}

fn step(iter: u64) -> StepCx {
    StepCx { seed: 0, iter, loss_scale: 1.0 }
}

#[test]
fn names_and_shapes_are_those_of_mmpretrain() {
    let names = |model: &ImageClassifier| {
        StateDict::of(model)
            .unwrap()
            .0
            .iter()
            .map(|(name, t)| format!("{name} {:?}", t.value.shape()))
            .collect::<Vec<_>>()
    };
    let all = [
        "backbone.features.0.weight [6, 1, 5, 5]",
        "backbone.features.0.bias [6]",
        "backbone.features.3.weight [16, 6, 5, 5]",
        "backbone.features.3.bias [16]",
        "backbone.features.6.weight [120, 16, 5, 5]",
        "backbone.features.6.bias [120]",
        "backbone.classifier.0.weight [84, 120]",
        "backbone.classifier.0.bias [84]",
        "backbone.classifier.2.weight [10, 84]",
        "backbone.classifier.2.bias [10]",
    ];
    let model = lenet(Some(10));
    assert_eq!(names(&model), all);
    assert_eq!(StateDict::of(&model).unwrap().0.iter().map(|(_, t)| t.value.len()).sum::<usize>(), 61_706);
    assert_eq!(names(&lenet(None)), all[..6], "without classes it gives features");
}

#[test]
fn twenty_steps_give_the_losses_and_scores_of_pytorch() {
    let (mut model, mut sgd, recorded) = (from_pytorch(), Sgd::default(), recorded());
    let batches = batches(DigitsSplit::Train, 64, 20);
    let first: Vec<_> =
        batches[0].inputs().unwrap().iter().take(1024).map(|x| (f64::from(*x) - 4.88) / 6.0).collect();
    let worst =
        first.iter().zip(numbers(&recorded["first_image"])).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-6, "the first image differs by {worst}");

    for ((iter, batch), expected) in (0..).zip(&batches).zip(numbers(&recorded["losses_f64"])) {
        let loss = model.train_step(batch, &step(iter)).unwrap().loss().unwrap();
        assert!((loss / expected - 1.0).abs() < 1e-5, "step {iter}: {loss}, PyTorch {expected}");
        sgd.step(&mut model);
    }
    let batch = &self::batches(DigitsSplit::Val, 8, 1)[0];
    let outputs = model.eval_step(batch).unwrap();
    let scores = outputs.scores().unwrap();
    assert_eq!(scores.shape(), [8, 10]);
    for (i, logits) in recorded["val_logits_f64"].as_array().unwrap().iter().enumerate() {
        let powers: Vec<f64> = numbers(logits).into_iter().map(f64::exp).collect();
        let total: f64 = powers.iter().sum();
        for (k, power) in powers.iter().enumerate() {
            assert!((f64::from(scores[[i, k]]) - power / total).abs() < 1e-5, "sample {i}, class {k}");
        }
        let loss = f64::from(outputs.sample_losses.as_ref().unwrap()[i]);
        let expected = -(powers[batch.labels().unwrap()[i] as usize] / total).ln();
        assert!((loss - expected).abs() < 1e-4, "sample {i}: {loss}, PyTorch {expected}");
    }
}

#[test]
fn gradients_add_up_and_follow_the_loss_scale() {
    let batch = &batches(DigitsSplit::Train, 8, 1)[0];
    let grad = |scales: &[Elem]| {
        let mut model = from_pytorch();
        let mut losses = Vec::new();
        for scale in scales {
            losses.push(model.train_step(batch, &StepCx { loss_scale: *scale, ..step(0) }).unwrap().loss());
        }
        let mut grads = Vec::new();
        model.visit(&mut |p| grads.extend(p.grad.unwrap().iter().copied()));
        (losses, grads)
    };
    let (once, twice, quarter) = (grad(&[1.0]), grad(&[1.0, 1.0]), grad(&[0.25]));
    assert_eq!(once.0[0], quarter.0[0], "what is logged is not scaled");
    assert_eq!(once.1.len(), 61_706);
    assert!(once.1.iter().zip(&twice.1).all(|(a, b)| *b == 2.0 * a));
    assert!(once.1.iter().zip(&quarter.1).all(|(a, b)| (*b - 0.25 * a).abs() <= 1e-6 * a.abs().max(1e-3)));
}

#[test]
fn evaluation_neither_trains_nor_needs_labels() {
    let mut batch = batches(DigitsSplit::Val, 4, 1).remove(0);
    let mut model = from_pytorch();
    let before = StateDict::of(&model).unwrap();
    assert!(model.eval_step(&batch).unwrap().sample_losses.is_some());
    batch.int_mut("target").unwrap()[2] = -1;
    let outputs = model.eval_step(&batch).unwrap();
    assert!(outputs.sample_losses.is_none() && outputs.vars.is_empty());
    assert_eq!(outputs.scores().unwrap().shape(), [4, 10]);
    assert_eq!(StateDict::of(&model).unwrap(), before);
    model.visit(&mut |p| assert!(p.grad.is_none(), "{}", p.name));
}

#[test]
fn images_of_another_size_are_refused_with_the_cure() {
    let batch = Batch::new(ArrayD::zeros(vec![2, 1, 36, 36]), vec![0, 1]);
    let error = from_pytorch().train_step(&batch, &step(0)).unwrap_err().to_string();
    assert_eq!(
        error,
        "`backbone`: LeNet5 wants images of 32 × 32, not a batch of shape [2, 1, 36, 36]: resize or pad them"
    );
}
