//! ResNets against PyTorch: names, loss, every gradient, the running statistics and the scores by them
//! (fixtures/gen_resnet.py).

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;

use ndarray::{ArrayD, ArrayViewD};
use safetensors::SafeTensors;
use shanty::base::Elem;
use shanty::config::OneOrMany;
use shanty::data::Batch;
use shanty::model::{ClsHead, ImageClassifier, LinearClsHead, Model, ResNet, ResNetConfig, StepCx};
use shanty::nn::GlobalAveragePooling;
use shanty::params::{HostParams, Role};

fn wave(shape: &[usize], rate: f64, phase: f64, f: impl Fn(f64) -> f64) -> ArrayD<Elem> {
    let mut i = -1.0;
    ArrayD::from_shape_simple_fn(shape, || {
        i += 1.0;
        f((rate * i + phase).sin()) as f32 as Elem
    })
}

/// The weights that the script gives.
fn fill(model: &mut impl HostParams) {
    let mut t = 0.0;
    model.visit_mut(&mut |mut p| {
        if !p.role.is_trained() {
            return;
        }
        let shape = p.value.shape().to_vec();
        let fan_in: usize = shape[1..].iter().product();
        let value = match (shape.len(), p.role) {
            (1, Role::Weight) => wave(&shape, 0.7, t, |s| 1.0 + 0.1 * s),
            (1, _) => wave(&shape, 0.7, t, |s| 0.1 * s),
            _ => wave(&shape, 0.7, t, |s| (2.0 / fan_in as f64).sqrt() * s),
        };
        p.value.assign(&value);
        t += 1.0;
    });
}

fn recorded(case: &str) -> BTreeMap<String, ArrayD<Elem>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/resnet.safetensors");
    let bytes = std::fs::read(file).unwrap();
    let own = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let name = name.strip_prefix(case)?.strip_prefix('/')?.to_owned();
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) as Elem);
        Some((name, ArrayD::from_shape_vec(tensor.shape(), values.collect()).unwrap()))
    };
    SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().filter_map(own).collect()
}

/// Largest difference in units of the largest element.
fn distance(found: ArrayViewD<'_, Elem>, wanted: &ArrayD<Elem>) -> f64 {
    assert_eq!(found.shape(), wanted.shape());
    let largest = wanted.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs())));
    found.iter().zip(wanted).fold(0.0f64, |m, (f, w)| m.max(f64::from((f - w).abs()))) / largest.max(1e-6)
}

fn check(case: &str, backbone: ResNet, width: usize, [n, size]: [usize; 2]) {
    let mut model = ImageClassifier::new(backbone, LinearClsHead::new(10, width, ClsHead::default()))
        .neck(GlobalAveragePooling::default());
    fill(&mut model);
    let mut wanted = recorded(case);
    let images = wave(&[n, 3, size, size], 0.37, 0.0, |s| s);
    let batch = Batch::new(images, (0..n as i64).map(|i| i % 10).collect());
    let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap();
    let loss = wanted.remove("loss").unwrap().sum();
    assert!((outputs.loss().unwrap() / f64::from(loss) - 1.0).abs() < 1e-5, "{case}: loss {outputs:?}");
    let scores = model.eval_step(&batch).unwrap().scores().cloned().unwrap();
    let away = distance(scores.view(), &wanted.remove("probabilities").unwrap());
    assert!(away < 1e-4, "{case}: probabilities are {away:.1e} away");
    let mut worst = (0.0, String::new());
    model.visit(&mut |p| {
        let (key, found) = match (p.role, p.grad) {
            (Role::Counter, _) => return,
            (Role::Buffer, _) => (format!("after/{}", p.name), p.value),
            (_, grad) => (format!("grad/{}", p.name), grad.unwrap()),
        };
        let away = distance(found, &wanted.remove(&key).unwrap());
        if away > worst.0 {
            worst = (away, key);
        }
    });
    assert!(wanted.is_empty(), "{case}: PyTorch has more: {:?}", wanted.keys());
    assert!(worst.0 < 1e-4, "{case}: {} is {:.1e} away", worst.1, worst.0);
}

fn params(depth: usize) -> ResNetConfig {
    ResNetConfig { base_channels: Some(4), ..ResNetConfig::new(depth) }
}

#[test]
fn resnet20_for_small_images() {
    check("resnet20", ResNet::cifar(&params(20)).unwrap(), 16, [6, 16]);
}

#[test]
fn resnet18_for_small_images() {
    check("resnet18_cifar", ResNet::cifar(&params(18)).unwrap(), 32, [6, 16]);
}

#[test]
fn resnet18_for_large_images() {
    check("resnet18", ResNet::new(&params(18)).unwrap(), 32, [3, 64]);
}

/// He et al.'s counts without the classifier: torchvision's resnet18 has 11,689,512 − 513,000 = 11,176,512.
#[test]
fn the_sizes_are_the_papers() {
    let count = |net: ResNet| {
        let mut count = 0;
        net.visit(&mut |p| count += if p.role.is_trained() { p.value.len() } else { 0 });
        count
    };
    assert_eq!(count(ResNet::new(&ResNetConfig::new(18)).unwrap()), 11_176_512);
    assert_eq!(count(ResNet::new(&ResNetConfig::new(34)).unwrap()), 21_284_672);
    assert_eq!(count(ResNet::cifar(&ResNetConfig::new(20)).unwrap()), 271_824);
}

#[test]
fn what_is_not_there_is_said() {
    let error = |p: ResNetConfig| ResNet::new(&p).map(|_| ()).unwrap_err().to_string();
    assert!(error(ResNetConfig::new(51)).contains("18, 34, 50, 101, 152"));
    assert!(error(ResNetConfig { num_stages: Some(3), ..ResNetConfig::new(18) }).contains("4 stages"));
    let out = ResNetConfig { out_indices: OneOrMany(vec![0, 3]), ..ResNetConfig::new(18) };
    assert!(error(out).contains("`out_indices: [0, 3]`, but the output is that of the last of 4 stages"));
}

/// A block begins as its shortcut.
#[test]
fn blocks_begin_as_their_shortcuts() {
    let mut model = ImageClassifier::new(ResNet::cifar(&params(20)).unwrap(), ClsHead::default());
    model.init_weights(0).unwrap();
    let mut zeros = 0;
    model.visit(&mut |p| {
        if p.name.ends_with("bn2.weight") {
            assert!(p.value.iter().all(|v| *v == 0.0), "{}", p.name);
            zeros += 1;
        } else if p.name.ends_with("bn1.weight") {
            assert!(p.value.iter().all(|v| *v == 1.0), "{}", p.name);
        }
    });
    assert_eq!(zeros, 9);
}
