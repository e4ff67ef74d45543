//! Fused evaluation against the layers one by one: equal to rounding, in fewer buffers, and by data flow alone.

#![allow(clippy::unwrap_used)] // helpers of tests

use rand::RngExt;
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::data::Batch;
use shanty::model::{ClsHead, ImageClassifier, LinearClsHead, Model, ResNet, ResNetConfig, StepCx};
use shanty::module;
use shanty::nn::{
    Autograd, BatchNorm1d, BatchNorm2d, Conv1d, Conv2d, Forward, GlobalAveragePooling, Hardswish, Linear,
    Module, ReLU, Residual, Sequential, SiLU, Var,
};
use shanty::params::{HostParams, Role};

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = keyed(seed, "fused", 0, 0);
    Tensor::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0 as Elem))
}

/// Weights, offsets and statistics as of a trained network: variances positive, nothing 0 or 1.
fn train(net: &mut impl HostParams, seed: u64) {
    let mut rng = keyed(seed, "trained", 0, 0);
    net.visit_mut(&mut |mut p| {
        let low = if p.name.ends_with("running_var") { 0.2 } else { -0.7 };
        if p.role != Role::Counter {
            p.value.map_inplace(|v| *v = rng.random_range(low..0.9 as Elem));
        }
    });
}

/// The output, and how many buffers it took.
fn eval(net: &mut impl Module, x: &Tensor, fused: bool) -> (Tensor, u64) {
    let mut autograd = Autograd::default();
    autograd.fuse(fused);
    let y = autograd.eval(net, &mut keyed(0, "eval", 0, 0), |net, tape, cx| {
        Ok(net.forward(tape.input(x.clone()), cx)?.value())
    });
    (y.unwrap(), autograd.pool().misses())
}

/// The largest difference in units of the largest element, and the buffers of both.
fn compare(mut net: impl Module + HostParams, shape: &[usize], seed: u64) -> (f64, [u64; 2]) {
    train(&mut net, seed);
    let x = noise(seed, shape);
    let ((one_by_one, before), (fused, after)) = (eval(&mut net, &x, false), eval(&mut net, &x, true));
    assert_eq!(one_by_one.shape(), fused.shape());
    let largest = one_by_one.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let worst = one_by_one.iter().zip(&fused).fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
    (worst / largest.max(1e-6), [before, after])
}

/// A convolution of these channels, kernel, stride and groups with the batch norm behind it.
fn conv_bn(from: usize, to: usize, kernel: usize, stride: usize, groups: usize, bias: bool) -> Sequential {
    let conv = Conv2d::new(from, to, kernel).stride(stride).padding(kernel / 2).groups(groups).bias(bias);
    Sequential::new().with(conv).with(BatchNorm2d::new(to))
}

/// Every algorithm of the convolution (Winograd, depthwise, grouped, one by one, a window as large as the image) takes
/// the norm, the sum and the activation in.
#[test]
fn a_norm_a_sum_and_an_activation_are_computed_with_the_convolution_before_them() {
    let mut worst = 0.0f64;
    for (i, &(from, to, kernel, stride, groups, side)) in [
        (16, 16, 3, 1, 1, 9),
        (32, 48, 3, 1, 1, 14),
        (3, 8, 7, 2, 1, 15),
        (8, 24, 1, 1, 1, 7),
        (24, 8, 1, 2, 1, 8),
        (12, 12, 3, 1, 12, 10),
        (12, 12, 5, 2, 12, 11),
        (16, 32, 3, 1, 4, 6),
        (20, 30, 1, 1, 5, 5),
        (6, 10, 5, 1, 1, 1),
    ]
    .iter()
    .enumerate()
    {
        for batch in [1, 5] {
            let (seed, shape) = (i as u64, [batch, from, side, side]);
            let plain = conv_bn(from, to, kernel, stride, groups, i % 2 == 0);
            let (error, [before, after]) = compare(plain.with(ReLU::new()), &shape, seed);
            assert_eq!((before, after), (2 + 1, 1), "buffers of {from} to {to}");
            worst = worst.max(error);
            let swish = conv_bn(from, to, kernel, stride, groups, i % 2 == 1).with(Hardswish::new());
            worst = worst.max(compare(swish, &shape, seed).0);
            if (from, stride) == (to, 1) {
                let residual = Residual::new(conv_bn(from, to, kernel, stride, groups, true));
                let (error, [before, after]) = compare(residual, &shape, seed);
                assert!(before > after);
                worst = worst.max(error);
            }
        }
    }
    println!("worst difference of fused convolutions: {worst:.1e} of the largest value");
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn linear_maps_and_sequences_take_in_what_follows_them() {
    let linear = Sequential::new().with(Linear::new(7, 12)).with(BatchNorm1d::new(12)).with(SiLU::new());
    let (error, [before, after]) = compare(linear, &[9, 7], 1);
    assert!(error < 1e-5 && (before, after) == (3, 1), "{error} {before} {after}");
    let conv = Sequential::new().with(Conv1d::new(5, 8, 3)).with(BatchNorm1d::new(8)).with(ReLU::new());
    assert!(compare(conv, &[3, 5, 11], 2).0 < 1e-5);
    // The channels of a batch norm over [N, C, L] are not the features of a linear map: nothing may be folded.
    let rows = Sequential::new().with(Linear::new(6, 6)).with(BatchNorm1d::new(6));
    assert!(compare(rows, &[4, 6, 6], 3).0 < 1e-6);
}

/// Without a batch norm not a bit changes.
#[test]
fn what_folds_nothing_into_weights_keeps_every_bit() {
    let layers =
        || Sequential::new().with(Conv2d::new(3, 16, 3)).with(ReLU::new()).with(Conv2d::new(16, 16, 3));
    assert_eq!(compare(layers().with(SiLU::new()), &[2, 3, 9, 9], 4).0, 0.0);
    let linear = Sequential::new().with(Residual::new(Linear::new(8, 8))).with(Hardswish::new());
    assert_eq!(compare(linear, &[5, 8], 5).0, 0.0);
}

/// One convolution that three look at: a norm, an activation, and the sum of all.
struct Shared {
    conv: Conv2d,
    norm: BatchNorm2d,
}

module!(Shared { conv, norm });

impl Module for Shared {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = self.conv.forward(x, cx)?;
        let normed = self.norm.forward(y, cx)?;
        let twice = y.relu().silu();
        Ok(normed.relu() + twice + y + (normed * y))
    }
}

#[test]
fn a_convolution_with_another_consumer_stays_what_it_is() {
    let net = Shared { conv: Conv2d::new(4, 6, 3), norm: BatchNorm2d::new(6) };
    let (error, _) = compare(net, &[2, 4, 8, 8], 6);
    assert!(error < 1e-5, "{error}");
}

/// A network of residual blocks: its scores, and that training is untouched by it.
#[test]
fn a_resnet_scores_the_same_and_trains_the_same() {
    let net = |fused: bool| {
        let net = ResNet::cifar(&ResNetConfig::new(20)).unwrap();
        let head = LinearClsHead::new(10, 64, ClsHead::default());
        let mut net = ImageClassifier::new(net, head).neck(GlobalAveragePooling::default());
        net.init_weights(3).unwrap();
        assert!(net.fuse(fused));
        net
    };
    let batch = Batch::new(noise(7, &[8, 3, 32, 32]).into_owned(), (0..8).collect());
    let step = |net: &mut ImageClassifier, iter| {
        net.train_step(&batch, &StepCx { seed: 0, iter, loss_scale: 1.0 }).unwrap();
        net.eval_step(&batch).unwrap().scores().unwrap().clone()
    };
    let (mut one, mut other) = (net(false), net(true));
    for iter in 0..3 {
        let (a, b) = (step(&mut one, iter), step(&mut other, iter));
        let worst = a.iter().zip(&b).fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
        assert!(worst < 1e-5, "step {iter}: {worst}");
    }
    let values = |net: &ImageClassifier| {
        let mut all = Vec::new();
        net.visit(&mut |p| all.extend(p.value.iter().map(|v| v.to_bits())));
        all
    };
    assert_eq!(values(&one), values(&other));
}
