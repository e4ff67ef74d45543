//! Every way back against central differences of the way forth.
//!
//! Exact to about 1e-6 with `RUSTFLAGS='--cfg shanty_f64'`; in the usual f32 build a coarser check of the same things.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

mod accumulation;
mod activations;
mod arithmetic;
mod losses;
mod probe;
mod sequences;
mod spatial;
mod tensor_ops;
mod transformer;

use probe::{F64, Op, Probe, check, random, spaced};
use shanty::base::{Elem, Result, Tensor};
use shanty::model::{ResNet, ResNetConfig};
use shanty::module;
use shanty::nn::{
    AdaptiveAvgPool2d, Average, AvgPool2d, BatchNorm1d, BatchNorm2d, BnStats, BnThen, Conv2d, ConvOptions,
    CrossEntropyOptions, Dropout, Flatten, Forward, GlobalAveragePooling, Linear, MaxPool2d, Module, Pair,
    Param, PoolOptions, Reduction, Residual, Sequential, Target, Var,
};

/// Batch norm whose sum and ReLU are fused into it.
struct Then {
    norm: BatchNorm2d,
}
module!(Then { norm });
impl Module for Then {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.norm.forward_then(x, BnThen { add: Some(x * 0.5), relu: BnThen::RELU }, cx)
    }
}

fn pairs(
    conv: Conv2d,
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
) -> Conv2d {
    conv.stride(stride).padding(padding).dilation(dilation).groups(groups)
}

#[test]
fn linear() {
    check("linear", random(&[3, 4]), true, Linear::new(4, 5));
    check("linear of tokens", random(&[2, 3, 4]), true, Linear::new(4, 2));
    check("linear without bias", random(&[3, 4]), true, Linear::new(4, 3).bias(false));
}

#[test]
fn conv() {
    let p = |c, k, kernel: [usize; 2]| Conv2d::new(c, k, kernel);
    check("plain", random(&[2, 3, 5, 6]), true, pairs(p(3, 4, [3, 3]), [1, 1], [0, 0], [1, 1], 1));
    check("stride", random(&[2, 2, 6, 6]), true, pairs(p(2, 3, [3, 3]), [2, 2], [1, 1], [1, 1], 1));
    check("rest", random(&[1, 2, 5, 5]), true, pairs(p(2, 2, [2, 2]), [2, 2], [0, 0], [1, 1], 1));
    check("dilated", random(&[1, 2, 8, 7]), true, pairs(p(2, 2, [3, 3]), [2, 1], [2, 1], [2, 3], 1));
    check("grouped", random(&[2, 4, 4, 4]), true, pairs(p(4, 6, [3, 3]), [1, 1], [1, 1], [1, 1], 2));
    check("depthwise", random(&[1, 3, 5, 5]), true, pairs(p(3, 3, [3, 3]), [1, 1], [1, 1], [1, 1], 3));
    check("asymmetric", random(&[1, 2, 6, 9]), true, pairs(p(2, 3, [2, 5]), [2, 1], [0, 3], [1, 2], 1));
    check("pointwise", random(&[2, 5, 3, 3]), true, pairs(p(5, 3, [1, 1]), [1, 1], [0, 0], [1, 1], 1));
    check("no bias", random(&[1, 2, 4, 4]), true, p(2, 2, [3, 3]).bias(false));
}

#[test]
fn pooling() {
    check("max", spaced(&[2, 2, 4, 6]), true, MaxPool2d::new(2));
    let overlapping = MaxPool2d::new(3).stride([2, 1]).padding([1, 0]);
    check("max, overlapping", spaced(&[1, 2, 5, 6]), true, overlapping);
    let dilated = MaxPool2d::new([2, 3]).dilation([2, 1]).ceil_mode(true);
    check("max, dilated", spaced(&[1, 2, 7, 5]), true, dilated);
    check("mean", random(&[2, 2, 4, 6]), true, AvgPool2d::new(2));
    for count_include_pad in [true, false] {
        let padded =
            AvgPool2d::new(3).stride(2).padding(1).ceil_mode(true).count_include_pad(count_include_pad);
        check("mean, padded", random(&[1, 2, 6, 7]), true, padded);
    }
    check("global", random(&[2, 3, 4, 5]), true, GlobalAveragePooling::default());
    for output_size in [Pair([1, 1]), Pair([2, 2]), Pair([2, 3])] {
        check("adaptive", random(&[2, 2, 4, 8]), true, AdaptiveAvgPool2d { output_size });
    }
}

#[test]
fn arithmetic() {
    check("sum of a value with itself", random(&[3, 4]), true, Op(|x| Ok(x + x)));
    check("square", random(&[3, 4]), true, Op(|x| Ok(x * x)));
    check("mean", random(&[3, 4]), true, Op(|x| Ok((x * x).mean() + x.sum())));
    check(
        "reshape",
        random(&[2, 6]),
        true,
        Op(|x| Ok(x.reshape(&[3, 4]) * x.flatten(0, -1).reshape(&[3, 4]))),
    );
    check("softmax", random(&[3, 4]), true, Op(|x| Ok(x.softmax(-1))));
    check("log softmax", random(&[3, 4]), true, Op(|x| Ok(x.log_softmax(-1))));
    check(
        "an op of a user",
        random(&[3]),
        true,
        Op(|x| {
            let v = x.value();
            let back =
                move |dy: ndarray::ArrayViewD<'_, Elem>| Ok([Some(&dy * &v * &v * 2.0), Some(&dy * &v * &v)]);
            Ok(x.tape().op("cube", &x.value() * &x.value() * &x.value(), [x, x], back))
        }),
    );
}

#[test]
fn norm_and_dropout() {
    check("images", random(&[3, 2, 3, 2]), true, BatchNorm2d::new(2));
    check("features", random(&[5, 3]), true, BatchNorm1d::new(3));
    check("sequences", random(&[3, 2, 4]), true, BatchNorm1d::new(2));
    check("running statistics", random(&[3, 2, 3, 2]), false, BatchNorm2d::new(2));
    check("fixed statistics", random(&[3, 2, 2]), true, {
        Op(|x| {
            let fixed = |v| Tensor::from_elem(vec![2], v);
            Ok(x.batch_norm(None, None, 1e-3, BnStats::Fixed(fixed(0.3), fixed(1.7)), BnThen::default())?.y)
        })
    });
    if F64 {
        // The wider step of f32 goes over the kinks.
        let then = || Then { norm: BatchNorm2d::new(2) };
        check("then a sum and a ReLU", random(&[3, 2, 3, 2]), true, then());
        check("fixed, then a sum and a ReLU", random(&[3, 2, 3, 2]), false, then());
    }
    check("not affine", random(&[4, 2]), true, BatchNorm1d::new(2).affine(false).track_running_stats(false));
    check("dropout", random(&[6, 5]), true, Dropout::new(0.4));
}

/// Targets in the middle of everything that a cross entropy can do.
#[test]
fn cross_entropy() {
    const TARGETS: Target<'static> = Target::Classes(&[2, 0, -1, 1]);
    fn options() -> CrossEntropyOptions {
        CrossEntropyOptions { ignore_index: Some(-1), ..CrossEntropyOptions::default() }
    }
    fn weighted() -> CrossEntropyOptions {
        let class_weight = Some(Tensor::from_shape_vec(vec![3], vec![1.0, 2.0, 4.0]).unwrap());
        CrossEntropyOptions { class_weight, label_smoothing: 0.3, ..options() }
    }
    let x = || random(&[4, 3]);
    check("mean", x(), true, Op(|x| Ok(x.cross_entropy(TARGETS, &options())?.loss)));
    check("weighted and smooth", x(), true, Op(|x| Ok(x.cross_entropy(TARGETS, &weighted())?.loss)));
    check("sum", x(), true, {
        Op(|x| {
            Ok(x.cross_entropy(TARGETS, &CrossEntropyOptions { reduction: Reduction::Sum, ..weighted() })?
                .loss)
        })
    });
    check("none", x(), true, {
        Op(|x| {
            Ok(x.cross_entropy(TARGETS, &CrossEntropyOptions { reduction: Reduction::None, ..weighted() })?
                .loss)
        })
    });
    check("over the batch", x(), true, {
        Op(|x| {
            Ok(x.cross_entropy(TARGETS, &CrossEntropyOptions { average: Average::Batch, ..weighted() })?.loss)
        })
    });
    check("soft targets", x(), true, {
        Op(|x| {
            let q = Tensor::from_shape_fn(vec![4, 3], |i| (i[0] + 2 * i[1]) as Elem * 0.1);
            Ok(x.cross_entropy(Target::Dense(&q.into_owned()), &weighted())?.loss)
        })
    });
}

#[test]
fn networks() {
    let conv = |c, k| Conv2d::new(c, k, 3).padding(1);
    let block = Residual::new(Sequential::default().with(conv(3, 3)).with(BatchNorm2d::new(3)));
    let projected = Residual::new(conv(3, 4)).shortcut(conv(3, 4));
    let net = Sequential::default()
        .with(conv(2, 3))
        .with(block)
        .with(Op(|x| Ok(x.tanh())))
        .with(projected)
        .with(AvgPool2d::new(2))
        .with(Flatten::default())
        .with(Linear::new(16, 3));
    check("a residual network", random(&[3, 2, 4, 4]), true, net);
    if F64 {
        let params = ResNetConfig { in_channels: 2, base_channels: Some(2), ..ResNetConfig::new(8) };
        check("ResNet-8", random(&[3, 2, 8, 8]), true, ResNet::cifar(&params).unwrap());
    }
}

/// A layer that is used twice, and a weight that two ops share, get the sum of both gradients.
#[test]
fn shared_weights_sum() {
    struct Twice {
        layer: Linear,
        kernel: Param,
    }
    module!(Twice { layer, kernel });
    impl Module for Twice {
        fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
            let once = self.layer.forward(x, cx)?.tanh();
            let twice = self.layer.forward(once, cx)?.reshape(&[1, 2, 4, 2]);
            let (a, b) = (x.tape().param(&self.kernel), x.tape().param(&self.kernel));
            Ok(twice.conv2d(a, None, ConvOptions::default()).conv2d(b, None, ConvOptions::default()))
        }
    }
    check(
        "twice",
        random(&[4, 4]),
        true,
        Twice { layer: Linear::new(4, 4), kernel: Param::new(random(&[2, 2, 2, 1])) },
    );
}

/// Windows that leave parts of the input alone give them zero gradient.
#[test]
fn unseen_inputs_have_no_gradient() {
    let mut probe = Probe {
        x: Param::new(random(&[1, 1, 5, 5])),
        net: Box::new(Op(|x| Ok(x.avg_pool2d(PoolOptions::new([2, 2]))))),
    };
    let (_, grad) = probe.gradients(true).swap_remove(0);
    for i in 0..5 {
        assert_eq!((grad[[0, 0, 4, i]], grad[[0, 0, i, 4]]), (0.0, 0.0));
    }
    assert!(grad.iter().filter(|g| **g != 0.0).count() == 16);
}

/// A value that was cut off counts as a number.
#[test]
fn detached_values_have_no_gradient() {
    let x = random(&[3]);
    let mut probe = Probe { x: Param::new(x.clone()), net: Box::new(Op(|x| Ok((x.detach() * x).sum()))) };
    let c = probe.value(true) / f64::from(x.iter().map(|v| v * v).sum::<Elem>());
    let (_, grad) = probe.gradients(true).swap_remove(0);
    for (g, x) in grad.iter().zip(&x) {
        assert!((f64::from(*g) - c * f64::from(*x)).abs() < 1e-6);
    }
}
