//! Values of ops and layers that follow from their definitions.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use ndarray::{Array4, ArrayD, Axis, IxDyn};
use rand::RngExt as _;
use shanty::base::{Elem, Result, Rng, Tensor, keyed};
use shanty::module;
use shanty::nn::{
    Autograd, Average, AvgPool2d, BatchNorm1d, BufferPool, Conv2d, ConvOptions, CrossEntropyLoss,
    CrossEntropyOptions, Dropout, Forward, Linear, Loss, MaxPool2d, Module, Pair, Param, Reduction, Tape,
    Target, Var,
};
use shanty::params::HostParams;

fn rng() -> Rng {
    keyed(0, "test", 0, 0)
}

fn tensor(shape: &[usize], values: &[Elem]) -> Tensor {
    Tensor::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap()
}

/// The parameters of an op that is checked.
struct Inputs {
    x: Param,
    weight: Param,
}
module!(Inputs { x, weight });

/// The value of `op(x, weight)` and the gradients of the sum of its elements.
fn both(
    x: Tensor,
    weight: Tensor,
    op: impl for<'t> FnOnce(Var<'t>, Var<'t>) -> Var<'t>,
) -> (Tensor, ArrayD<Elem>, ArrayD<Elem>) {
    let mut inputs = Inputs { x: Param::new(x), weight: Param::new(weight) };
    let y = Autograd::default()
        .train(&mut inputs, &mut rng(), |i, tape, _| {
            let y = op(tape.param(&i.x), tape.param(&i.weight)).checked()?;
            Ok((y.sum(), y.value()))
        })
        .unwrap();
    (y, inputs.x.grad.unwrap(), inputs.weight.grad.unwrap())
}

/// What a layer gives for `x`.
fn apply(layer: &mut dyn Module, x: Tensor, training: bool) -> Result<Tensor> {
    let tape = Tape::without_grad(BufferPool::default());
    let y = layer.forward(tape.input(x), &mut Forward::new(training, &mut rng()))?;
    Ok(y.value())
}

/// Convolution by its definition.
fn naive(x: &Array4<Elem>, w: &Array4<Elem>, o: &ConvOptions) -> Array4<Elem> {
    let ((n, _, h, wd), (k, cg, kh, kw)) = (x.dim(), w.dim());
    let out = |i: usize, size: usize, kernel: usize| {
        (size + 2 * o.padding[i] - o.dilation[i] * (kernel - 1) - 1) / o.stride[i] + 1
    };
    Array4::from_shape_fn((n, k, out(0, h, kh), out(1, wd, kw)), |(n, k_, oy, ox)| {
        let mut sum = 0.0;
        for (c, r, s) in ndarray::indices((cg, kh, kw)) {
            let y = (oy * o.stride[0] + r * o.dilation[0]).checked_sub(o.padding[0]);
            let x_ = (ox * o.stride[1] + s * o.dilation[1]).checked_sub(o.padding[1]);
            if let (Some(y), Some(x_)) = (y, x_)
                && y < h
                && x_ < wd
            {
                let channel = k_ / (k / o.groups) * cg + c;
                sum += f64::from(x[[n, channel, y, x_]]) * f64::from(w[[k_, c, r, s]]);
            }
        }
        sum as Elem
    })
}

/// 200 shapes with groups, asymmetric kernels, strides, paddings and dilations. The gradients are checked by the
/// identity ⟨conv(x, w), g⟩ = ⟨x, ∂x⟩ = ⟨w, ∂w⟩ (the map is linear in each), with g from `dy = 1`.
#[test]
fn conv_equals_its_definition_for_random_shapes() {
    let mut rng = rng();
    let mut checked = 0;
    while checked < 200 {
        let mut pick = |low: usize, high: usize| rng.random_range(low..=high);
        let groups = pick(1, 3);
        let (n, c, k) = (pick(1, 3), groups * pick(1, 3), groups * pick(1, 3));
        let (h, w, kh, kw) = (pick(1, 9), pick(1, 9), pick(1, 4), pick(1, 4));
        let mut pair = |low, high| [pick(low, high), pick(low, high)];
        let options = ConvOptions { stride: pair(1, 3), padding: pair(0, 2), dilation: pair(1, 3), groups };
        let fits =
            |i: usize, size, kernel| size + 2 * options.padding[i] > options.dilation[i] * (kernel - 1);
        if !fits(0, h, kh) || !fits(1, w, kw) {
            continue;
        }
        let x = Array4::from_shape_simple_fn((n, c, h, w), || rng.random_range(-1.0..1.0 as Elem));
        let weight =
            Array4::from_shape_simple_fn((k, c / groups, kh, kw), || rng.random_range(-1.0..1.0 as Elem));
        let wanted = naive(&x, &weight, &options).into_dyn();
        let (xt, wt) = (x.clone().into_dyn().into_shared(), weight.clone().into_dyn().into_shared());
        let (y, dx, dw) = both(xt, wt, |x, w| x.conv2d(w, None, options));
        assert_eq!(y.shape(), wanted.shape());
        let what = format!("x {:?}, w {:?}, {options:?}", x.shape(), weight.shape());
        for (a, b) in y.iter().zip(&wanted) {
            assert!((a - b).abs() < 2e-5, "{what}: {a} {b}");
        }
        let total: f64 = wanted.iter().map(|&v| f64::from(v)).sum();
        let along_x: f64 = dx.iter().zip(&x).map(|(d, v)| f64::from(d * v)).sum();
        let along_w: f64 = dw.iter().zip(&weight).map(|(d, v)| f64::from(d * v)).sum();
        assert!(
            (along_x - total).abs() < 1e-3 && (along_w - total).abs() < 1e-3,
            "{what}: {total} {along_x} {along_w}"
        );
        checked += 1;
    }
}

/// CNV-01: the tap distance, not the whole window, is dilated.
#[test]
fn dilation_moves_the_taps() {
    let x = tensor(&[1, 1, 1, 7], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let options = ConvOptions { stride: [1, 2], dilation: [1, 2], ..ConvOptions::default() };
    let (y, ..) = both(x, Tensor::ones(IxDyn(&[1, 1, 1, 3])), |x, w| x.conv2d(w, None, options));
    assert_eq!(y.as_slice().unwrap(), [6.0, 12.0]);
}

/// CNV-01: a stride that leaves a rest.
#[test]
fn inputs_beyond_the_last_window_have_no_gradient() {
    let ones = |shape: &[usize]| Tensor::ones(IxDyn(shape));
    let options = ConvOptions { stride: [2, 2], ..ConvOptions::default() };
    let (y, dx, dw) = both(ones(&[1, 1, 5, 5]), ones(&[1, 1, 2, 2]), |x, w| x.conv2d(w, None, options));
    assert_eq!(y, Tensor::from_elem(vec![1, 1, 2, 2], 4.0));
    assert_eq!(dw, ArrayD::from_elem(vec![1, 1, 2, 2], 4.0));
    assert_eq!(dx.sum(), 16.0);
    for i in 0..5 {
        assert_eq!((dx[[0, 0, 4, i]], dx[[0, 0, i, 4]]), (0.0, 0.0));
    }
}

/// CNV-01: permuted, reversed and sliced inputs, with C = H = W.
#[test]
fn layouts_do_not_matter() {
    let mut rng = rng();
    let mut random =
        |shape: &[usize]| Tensor::from_shape_simple_fn(IxDyn(shape), || rng.random_range(-1.0..1.0));
    let (mut x, w) = (random(&[2, 3, 3, 6]), random(&[2, 3, 2, 2]));
    x.slice_axis_inplace(Axis(3), ndarray::Slice::new(1, None, 2));
    x.invert_axis(Axis(2));
    let permuted = x.permuted_axes(IxDyn(&[0, 3, 1, 2]));
    assert!(!permuted.is_standard_layout());
    let dense = permuted.as_standard_layout().into_owned().into_shared();
    let conv = |x: Tensor| both(x, w.clone(), |x, w| x.conv2d(w, None, ConvOptions::default()));
    assert_eq!(conv(permuted), conv(dense));
}

/// GEM-01: zeros, with the bias where there is one; no panic and no stale memory.
#[test]
fn empty_products_are_zero() {
    let zeros = |shape: &[usize]| Tensor::zeros(IxDyn(shape));
    let bias = Param::new(tensor(&[3], &[1.0, 2.0, 3.0]));
    let mut inner = Linear::of(Param::new(zeros(&[3, 0])), Some(bias));
    assert_eq!(
        apply(&mut inner, zeros(&[2, 0]), true).unwrap(),
        tensor(&[2, 3], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    );
    let (y, dx, dw) = both(zeros(&[2, 0]), zeros(&[3, 0]), |x, w| x.linear(w, None));
    assert_eq!((y, dx.shape(), dw.shape()), (zeros(&[2, 3]), &[2, 0][..], &[3, 0][..]));
    let (y, dx, dw) = both(zeros(&[0, 4]), Tensor::ones(IxDyn(&[3, 4])), |x, w| x.linear(w, None));
    assert_eq!((y.shape(), dx.shape()), (&[0, 3][..], &[0, 4][..]));
    assert_eq!(dw, ArrayD::<Elem>::zeros(vec![3, 4]));
}

/// BN-01: unbiased running variance, momentum as the weight of the new value.
#[test]
fn running_statistics() {
    let mut norm = BatchNorm1d::new(1);
    let y = apply(&mut norm, tensor(&[4, 1], &[1.0, 2.0, 3.0, 4.0]), true).unwrap();
    let state: Vec<(String, Elem)> = {
        let mut all = Vec::new();
        norm.visit(&mut |p| all.push((p.name.to_owned(), *p.value.first().unwrap())));
        all
    };
    let wanted = [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.25), ("running_var", 0.9 + 0.5 / 3.0)];
    for ((name, value), (wanted_name, wanted)) in state.iter().zip(wanted) {
        assert_eq!(name, wanted_name);
        assert!((value - wanted as Elem).abs() < 1e-6, "{name} {value}");
    }
    assert_eq!(state[4], ("num_batches_tracked".to_owned(), 1.0));
    for (y, x) in y.iter().zip([1.0, 2.0, 3.0, 4.0 as Elem]) {
        assert!((y - (x - 2.5) / (1.25 + 1e-5 as Elem).sqrt()).abs() < 1e-6);
    }
    let eval = apply(&mut norm, tensor(&[1, 1], &[0.25]), false).unwrap();
    assert!(eval[[0, 0]].abs() < 1e-6, "evaluation uses the running mean, one sample is enough");
}

/// Without momentum the running mean is the mean over all batches.
#[test]
fn cumulative_statistics() {
    let mut norm = BatchNorm1d::new(1).momentum(None);
    for batch in [[1.0, 3.0], [5.0, 7.0], [0.0, 2.0]] {
        apply(&mut norm, tensor(&[2, 1], &batch), true).unwrap();
    }
    norm.visit(&mut |p| match p.name {
        "running_mean" => assert!((p.value[[0]] - 3.0).abs() < 1e-6),
        "running_var" => assert!((p.value[[0]] - 2.0).abs() < 1e-6),
        _ => {}
    });
}

/// SMP-04: one value a channel has no variance; nothing is damaged.
#[test]
fn batch_norm_refuses_to_train_on_one_value() {
    let mut norm = BatchNorm1d::new(3);
    let error = apply(&mut norm, Tensor::ones(IxDyn(&[1, 3])), true).unwrap_err().to_string();
    assert!(error.contains("one value per channel") && error.contains("[1, 3]"), "{error}");
    norm.visit(&mut |p| assert!(p.value.iter().all(|v| v.is_finite() && *v <= 1.0)));
    assert!(apply(&mut norm, Tensor::ones(IxDyn(&[1, 3])), false).is_ok());
}

fn loss(x: Tensor, target: Target<'_>, loss: &CrossEntropyLoss) -> (Elem, ArrayD<Elem>, Vec<Elem>) {
    let mut inputs = Inputs { x: Param::new(x), weight: Param::full(&[0], 0.0) };
    let (value, per_sample) = Autograd::default()
        .train(&mut inputs, &mut rng(), |i, tape, _| {
            let losses = loss.forward(tape.param(&i.x), target)?;
            Ok((losses.loss, (losses.loss.item(), losses.per_sample)))
        })
        .unwrap();
    (value, inputs.x.grad.unwrap(), per_sample)
}

/// LOS-01: nothing to average over.
#[test]
fn ignored_targets_give_zero() {
    let x = || tensor(&[2, 3], &[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
    let plain = CrossEntropyLoss::default();
    let (value, grad, _) = loss(x(), Target::Classes(&[-100, -100]), &plain);
    assert_eq!((value, grad), (0.0, ArrayD::<Elem>::zeros(vec![2, 3])));
    let weighted = CrossEntropyLoss { class_weight: Some(vec![0.0, 1.0, 0.0].into()), ..plain.clone() };
    let (value, grad, _) = loss(x(), Target::Classes(&[0, 2]), &weighted);
    assert_eq!((value, grad), (0.0, ArrayD::<Elem>::zeros(vec![2, 3])));
    let (value, _, per_sample) = loss(x(), Target::Classes(&[-100, 1]), &plain);
    assert!((value - (3.0 as Elem).ln() / 2.0).abs() < 1e-6, "MMPretrain: over the batch, {value}");
    assert_eq!(per_sample[0], 0.0);
    let torch = CrossEntropyLoss { average: Some(Average::Weights), ..plain };
    let (value, ..) = loss(x(), Target::Classes(&[-100, 1]), &torch);
    assert!((value - (3.0 as Elem).ln()).abs() < 1e-6, "PyTorch: over one sample, {value}");
}

/// Smoothing over all K classes, weighted; `weight` is PyTorch's and divides by the sum of the targets' weights (4 and
/// 1), `class_weight` is MMPretrain's and divides by the batch's size: 0.545807 · 5 / 2 without smoothing.
#[test]
fn smoothing_with_class_weights() {
    let x = || tensor(&[2, 3], &[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
    let weighted =
        CrossEntropyLoss { weight: Some(vec![1.0, 2.0, 4.0].into()), ..CrossEntropyLoss::default() };
    let smooth = CrossEntropyLoss { label_smoothing: 0.3, ..weighted.clone() };
    let targets = Target::Classes(&[2, 0]);
    assert!((loss(x(), targets, &smooth).0 - 0.672936).abs() < 1e-6);
    assert!((loss(x(), targets, &weighted).0 - 0.545807).abs() < 1e-6);
    let batch = CrossEntropyLoss { class_weight: smooth.weight.clone(), weight: None, ..smooth.clone() };
    assert!((loss(x(), targets, &batch).0 - 1.682339).abs() < 1e-6);
    let batch = CrossEntropyLoss { label_smoothing: 0.0, ..batch };
    assert!((loss(x(), targets, &batch).0 - 1.364518).abs() < 1e-6);
    let twice = CrossEntropyLoss { loss_weight: 2.0, ..smooth };
    assert!((loss(x(), targets, &twice).0 - 2.0 * 0.672936).abs() < 2e-6);
    let k = CrossEntropyLoss { label_smoothing: 0.1, ..CrossEntropyLoss::default() };
    assert!((loss(tensor(&[1, 2], &[2.0, 0.0]), Target::Classes(&[0]), &k).0 - 0.226928).abs() < 1e-6);
}

/// LOS-04: minus infinity as a score.
#[test]
fn impossible_classes() {
    const NEVER: Elem = Elem::NEG_INFINITY;
    let plain = CrossEntropyLoss::default();
    let view = tensor(&[1, 2], &[1.0, 0.0]).into_owned();
    let (value, grad, _) = loss(tensor(&[1, 2], &[0.0, NEVER]), Target::Dense(&view), &plain);
    assert_eq!((value, grad), (0.0, ArrayD::<Elem>::zeros(vec![1, 2])));
    let x = tensor(&[2, 2], &[NEVER, NEVER, 0.0, 0.0]);
    let (_, grad, per_sample) = loss(x, Target::Classes(&[0, 0]), &plain);
    assert_eq!(per_sample[0], 0.0);
    assert!((per_sample[1] - (2.0 as Elem).ln()).abs() < 1e-6);
    assert!(grad.iter().all(|g| g.is_finite()), "{grad}");
}

/// LOS-05: never a number for a target that is no class.
#[test]
fn targets_outside_the_classes_are_named() {
    for (target, classes) in [(-4, [0, -4]), (5, [0, 5]), (255, [0, 255])] {
        let tape = Tape::new(BufferPool::default());
        let options = CrossEntropyOptions { ignore_index: Some(-1), ..CrossEntropyOptions::default() };
        let x = tape.input(Tensor::zeros(IxDyn(&[2, 5])));
        let error = x.cross_entropy(Target::Classes(&classes), &options).err().unwrap().to_string();
        assert!(error.contains(&target.to_string()) && error.contains("sample 1"), "{error}");
    }
    let far = CrossEntropyLoss { ignore_index: Some(255), ..CrossEntropyLoss::default() };
    let (value, ..) = loss(Tensor::zeros(IxDyn(&[2, 5])), Target::Classes(&[255, 1]), &far);
    assert!((value - (5.0 as Elem).ln() / 2.0).abs() < 1e-6);
}

#[test]
fn losses_of_an_empty_batch() {
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let empty = CrossEntropyLoss { reduction, ..CrossEntropyLoss::default() };
        let tape = Tape::new(BufferPool::default());
        let losses = empty.forward(tape.input(Tensor::zeros(IxDyn(&[0, 5]))), Target::Classes(&[])).unwrap();
        assert_eq!((losses.loss.item(), losses.per_sample.len()), (0.0, 0));
    }
}

/// The mask is a function of the stream; survivors are scaled so that the mean stays.
#[test]
fn dropout_keeps_the_mean() {
    let mut drop = Dropout::new(0.3);
    let ones = || Tensor::ones(IxDyn(&[100, 100]));
    let y = apply(&mut drop, ones(), true).unwrap();
    assert_eq!(y, apply(&mut drop, ones(), true).unwrap());
    let kept = y.iter().filter(|v| **v != 0.0).count();
    assert!(y.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    // Within five standard deviations of a binomial.
    assert!((kept as f64 - 7000.0).abs() < 5.0 * (10_000.0 * 0.21f64).sqrt(), "{kept}");
    assert_eq!(apply(&mut drop, ones(), false).unwrap(), ones());
    assert_eq!(apply(&mut Dropout { p: 1.0, ..drop.clone() }, ones(), true).unwrap().sum(), 0.0);
    assert_eq!(apply(&mut Dropout { p: 0.0, ..drop }, ones(), true).unwrap(), ones());
}

/// What does not fit is an error that says so, not a panic.
#[test]
fn shapes_that_do_not_fit() {
    let zeros = |shape: &[usize]| Tensor::zeros(IxDyn(shape));
    let conv = || Conv2d::new(3, 2, 5);
    let norm = || BatchNorm1d::new(3);
    let half = AvgPool2d { padding: Pair([2, 2]), ..AvgPool2d::new(3) };
    let wrong: [(Box<dyn Module>, &[usize], &str); 8] = [
        (Box::new(conv()), &[2, 4, 8, 8], "3 channels got an input of shape [2, 4, 8, 8]"),
        (Box::new(conv()), &[2, 3, 4, 4], "does not fit"),
        (Box::new(conv()), &[3, 4, 4], "[N, C, H, W]"),
        (Box::new(Linear::new(3, 2)), &[2, 4], "3 features got an input of shape [2, 4]"),
        (Box::new(MaxPool2d::new(3)), &[1, 1, 2, 2], "does not fit"),
        (Box::new(half), &[1, 1, 9, 9], "half"),
        (Box::new(norm()), &[2, 4], "[4] is needed"),
        (Box::new(norm()), &[2, 3, 4, 4], "[N, C] or [N, C, L]"),
    ];
    for (mut layer, shape, text) in wrong {
        let error = apply(&mut *layer, zeros(shape), true).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let image = || Tensor::ones(IxDyn(&[1, 3, 2, 2]));
    for groups in [0, 2] {
        let error = apply(&mut Conv2d::new(3, 2, 1).groups(groups), image(), true).unwrap_err();
        assert!(error.to_string().contains("groups do not divide 3 input and 2 output channels"), "{error}");
    }
    assert!(apply(&mut Conv2d::new(3, 2, 1).stride([0, 1]), image(), true).is_err());
}
