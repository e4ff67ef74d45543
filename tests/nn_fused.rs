//! Fused evaluation against the layers one by one: equal to rounding, in fewer buffers, and by data flow alone.

#![allow(clippy::unwrap_used)] // helpers of tests

use rand::RngExt;
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::data::Batch;
use shanty::model::{ClsHead, ImageClassifier, LinearClsHead, Model, ResNet, ResNetConfig, StepCx};
use shanty::module;
use shanty::nn::{
    Autograd, BatchNorm1d, BatchNorm2d, Concat, Conv1d, Conv2d, Forward, GlobalAveragePooling, Hardswish,
    Identity, Linear, Module, ReLU, Residual, Sequential, SiLU, Tape, Var, fuse_conv_bn, named_modules,
    take_fused_form,
};
use shanty::params::{HostParams, Role, StateDict};

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
    for conv in [
        Conv1d::new(6, 8, 3),
        Conv1d::new(6, 9, 1).bias(false),
        Conv1d::new(6, 12, 5).stride(2).padding(2).groups(3),
        Conv1d::new(6, 6, 3).dilation(2).groups(6),
        Conv1d::new(6, 5, 11),
    ] {
        let channels = conv.weight.value.shape()[0];
        let conv = Sequential::new().with(conv).with(BatchNorm1d::new(channels)).with(ReLU::new());
        let (error, [before, after]) = compare(conv, &[3, 6, 11], 2);
        assert!(error < 1e-5 && (before, after) == (3, 1), "{error} {before} {after}");
    }
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

/// Branches that are joined: of a single image each is computed to its place, so that only the inputs of the second
/// convolution and the whole take a buffer; of several, nothing changes but rounding.
#[test]
fn what_is_joined_is_computed_to_its_place() {
    let net = || {
        let branch = || conv_bn(8, 16, 3, 1, 1, false).with(ReLU::new());
        Concat::new()
            .with(conv_bn(8, 4, 1, 1, 1, true).with(ReLU::new()))
            .with(Sequential::new().with(conv_bn(8, 6, 1, 1, 1, false)).with(conv_bn(6, 5, 5, 1, 1, false)))
            .with(Identity::new())
            .with(branch())
    };
    let (error, [before, after]) = compare(net(), &[1, 8, 7, 7], 8);
    assert!(error < 1e-5 && (before, after) == (3 + 4 + 3 + 1, 2), "{error} {before} {after}");
    let (error, [_, after]) = compare(net(), &[3, 8, 7, 7], 9);
    assert!(error < 1e-5 && after == 2 + 3, "{error} {after}");
}

/// A convolution that stands in two places of a whole, and in a sum beside it.
struct JoinedTwice {
    conv: Conv2d,
}

module!(JoinedTwice { conv });

impl Module for JoinedTwice {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (y, z) = (self.conv.forward(x, cx)?, self.conv.forward(x, cx)?.relu());
        let both = Tape::concat(x.tape(), &[y, z, y], 1);
        Ok(Tape::concat(x.tape(), &[both, y + z, z], 1))
    }
}

#[test]
fn what_is_joined_may_be_looked_at_again() {
    for batch in [1, 2] {
        assert_eq!(compare(JoinedTwice { conv: Conv2d::new(4, 6, 3) }, &[batch, 4, 6, 6], 10).0, 0.0);
    }
}

/// The output in evaluation.
fn plain(net: &mut impl Module, x: &Tensor) -> Tensor {
    eval(net, x, false).0
}

/// The largest difference in units of the largest element.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let largest = a.iter().fold(1e-6f64, |m, v| m.max(f64::from(v.abs())));
    a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs()))) / largest
}

/// `fuse_conv_bn` over convolutions of all kinds, linear maps, norms without weights, and what stands in containers and
/// backbones: the same values, without batch norms; and a network of the same config takes the fused weights.
#[test]
fn batch_norms_go_into_the_weights_before_them() {
    let convs = || {
        Sequential::new()
            .with(Conv2d::new(3, 8, 3).padding(1).bias(false))
            .with(BatchNorm2d::new(8))
            .with(ReLU::new())
            .with(Conv2d::new(8, 12, 3).stride(2).groups(4))
            .with(BatchNorm2d::new(12).affine(false))
            .with(Residual::new(conv_bn(12, 12, 3, 1, 12, true)))
            .with(GlobalAveragePooling::default())
            .with(Linear::new(12, 6).bias(false))
            .with(BatchNorm1d::new(6).eps(1e-3))
    };
    let mut net = convs();
    train(&mut net, 1);
    let x = noise(1, &[3, 3, 9, 9]);
    let before = plain(&mut net, &x);
    let done = fuse_conv_bn(&mut net, &noise(2, &[1, 3, 9, 9])).unwrap();
    let fused: Vec<_> = done.fused.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(fused, [("0", "1"), ("3", "4"), ("5.body.0", "5.body.1"), ("7", "8")]);
    assert_eq!(done.left, []);
    let error = apart(&before, &plain(&mut net, &x));
    assert!(error < 1e-5, "{error}");
    assert!(fuse_conv_bn(&mut net, &x).unwrap().fused.is_empty(), "there is nothing left");

    let saved = StateDict::of(&net).unwrap();
    let mut other = convs();
    assert_eq!(take_fused_form(&mut other, &|name| saved.get(name).is_some()).unwrap(), 4);
    assert!(saved.load_into(&mut other).unwrap().is_exact());
    assert_eq!(plain(&mut other, &x), plain(&mut net, &x));
}

/// Convolutions of sequences take norms in as those of images do.
#[test]
fn batch_norms_go_into_convolutions_of_sequences() {
    let convs = || {
        Sequential::new()
            .with(Conv1d::new(4, 8, 3).padding(1).bias(false))
            .with(BatchNorm1d::new(8))
            .with(ReLU::new())
            .with(Conv1d::new(8, 6, 5).stride(2).groups(2))
            .with(BatchNorm1d::new(6).affine(false))
    };
    let mut net = convs();
    train(&mut net, 11);
    let x = noise(11, &[3, 4, 13]);
    let before = plain(&mut net, &x);
    let done = fuse_conv_bn(&mut net, &noise(12, &[1, 4, 13])).unwrap();
    let fused: Vec<_> = done.fused.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!((fused, done.left), (vec![("0", "1"), ("3", "4")], vec![]));
    let error = apart(&before, &plain(&mut net, &x));
    assert!(error < 1e-5, "{error}");
    let saved = StateDict::of(&net).unwrap();
    let mut other = convs();
    assert_eq!(take_fused_form(&mut other, &|name| saved.get(name).is_some()).unwrap(), 2);
    assert!(saved.load_into(&mut other).unwrap().is_exact());
    assert_eq!(plain(&mut other, &x), plain(&mut net, &x));
}

/// One convolution of sequences that a norm and an activation look at.
struct SharedSequence {
    conv: Conv1d,
    norm: BatchNorm1d,
}

module!(SharedSequence { conv, norm });

impl Module for SharedSequence {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = self.conv.forward(x, cx)?;
        Ok(self.norm.forward(y, cx)? + y.relu())
    }
}

/// A backbone with its norms in fields of its own.
#[test]
fn fields_of_networks_are_fused_too() {
    let mut net = ResNet::cifar(&ResNetConfig::new(20)).unwrap();
    // Signals that neither die nor overflow.
    net.visit_mut(&mut |mut p| {
        let mut rng = keyed(4, p.name, 0, 0);
        if p.name.contains("bn") && p.role != Role::Counter {
            p.value.map_inplace(|v| *v = rng.random_range(0.5..1.5 as Elem));
        }
    });
    let x = noise(4, &[2, 3, 32, 32]);
    let before = plain(&mut net, &x);
    let done = fuse_conv_bn(&mut net, &noise(5, &[1, 3, 32, 32])).unwrap();
    assert_eq!((done.fused.len(), done.left.len()), (21, 0));
    assert_eq!(done.fused[0], ("conv1".to_owned(), "bn1".to_owned()));
    let error = apart(&before, &plain(&mut net, &x));
    println!("worst difference of a ResNet-20 with fused weights: {error:.1e} of the largest value");
    assert!(error < 1e-5, "{error}");
    assert!(!named_modules(&net).iter().any(|(path, _)| path.contains("bn") && saved_under(&net, path)));
}

fn saved_under(net: &impl HostParams, path: &str) -> bool {
    let mut found = false;
    net.visit(&mut |p| found |= p.name.starts_with(&format!("{path}.")));
    found
}

/// A weight that two places use.
struct Twice {
    conv: Conv2d,
    first: BatchNorm2d,
    second: BatchNorm2d,
}

module!(Twice { conv, first, second });

impl Module for Twice {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (a, b) = (self.conv.forward(x, cx)?, self.conv.forward(x, cx)?);
        Ok(self.first.forward(a, cx)? + self.second.forward(b, cx)?)
    }
}

/// A layer that is looked at otherwise, one that is used twice, a norm behind no layer or over another axis, and one
/// without running statistics keep their weights, each with its reason.
#[test]
fn what_cannot_be_fused_keeps_its_weights_and_says_why() {
    fn left(mut net: impl Module + HostParams, shape: &[usize]) -> Vec<(String, String)> {
        train(&mut net, 7);
        let x = noise(7, shape);
        let before = plain(&mut net, &x);
        let done = fuse_conv_bn(&mut net, &x).unwrap();
        assert_eq!(done.fused, []);
        assert_eq!(before, plain(&mut net, &x), "not a bit changes");
        done.left
    }
    let told = |path: &str, why: &str| [(path.to_owned(), why.to_owned())];
    let shared = Shared { conv: Conv2d::new(4, 6, 3), norm: BatchNorm2d::new(6) };
    assert_eq!(left(shared, &[2, 4, 8, 8]), told("norm", "the layer before it has another consumer"));
    let shared = SharedSequence { conv: Conv1d::new(4, 6, 3), norm: BatchNorm1d::new(6) };
    assert_eq!(left(shared, &[2, 4, 8]), told("norm", "the layer before it has another consumer"));
    let new = || BatchNorm2d::new(6);
    let twice = Twice { conv: Conv2d::new(4, 6, 3), first: new(), second: new() };
    let why = "the weights before it are used more than once, or computed";
    assert_eq!(left(twice, &[1, 4, 5, 5]), [told("first", why), told("second", why)].concat());
    let behind = Sequential::new().with(ReLU::new()).with(BatchNorm2d::new(4));
    let why = "it does not follow a convolution or linear map at once";
    assert_eq!(left(behind, &[1, 4, 5, 5]), told("1", why));
    let rows = Sequential::new().with(Linear::new(6, 6)).with(BatchNorm1d::new(6));
    assert_eq!(left(rows, &[4, 6, 6]), told("1", why));
    let batch =
        Sequential::new().with(Linear::new(6, 5)).with(BatchNorm1d::new(5).track_running_stats(false));
    assert_eq!(left(batch, &[4, 6]), told("1", "it has no running statistics"));
}
