//! In training a layer waits for the activation behind it, with which it is computed: no bit tells, and fewer buffers do.

#![allow(clippy::unwrap_used)] // helpers of tests

use rand::RngExt;
use shanty::base::{Elem, Tensor, keyed};
use shanty::kernels::{Act, Precision, with_precision};
use shanty::nn::{Autograd, BufferPool, Conv2d, Linear, Module, Param, Tape, Var};
use shanty::params::HostParams;

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = keyed(seed, "waits", 0, 0);
    Tensor::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0 as Elem))
}

fn draw(layer: &mut impl HostParams) {
    let mut rng = keyed(3, "drawn", 0, 0);
    layer.visit_mut(&mut |mut p| p.value.map_inplace(|v| *v = rng.random_range(-0.7..0.9 as Elem)));
}

/// The result and the gradients of a layer with an activation behind it in training, and how many buffers they took; the
/// layer's own value, where somebody looks at it `before` or after the activation.
fn trained(
    layer: &mut (impl Module + HostParams),
    x: &Tensor,
    act: Act,
    before: Option<bool>,
) -> (Vec<Tensor>, u64, Option<Tensor>) {
    let mut autograd = Autograd::default();
    let step = autograd.train(layer, &mut keyed(0, "train", 0, 0), |layer, tape, cx| {
        let inner = layer.forward(tape.input(x.clone()), cx)?;
        let first = (before == Some(true)).then(|| inner.value());
        let y = inner.activate(act);
        let seen = first.or_else(|| (before == Some(false)).then(|| inner.value()));
        Ok(((y * y).sum(), (y.value(), seen)))
    });
    let (y, seen) = step.unwrap();
    let mut found = vec![y];
    layer.visit_mut(&mut |p| {
        if let Some(mut grad) = p.grad {
            found.push(grad.to_shared());
            grad.fill(0.0);
        }
    });
    (found, autograd.pool().misses(), seen)
}

/// In training an activation whose slope is known from what it gives is computed with the layer before it: no bit changes,
/// and a buffer of the layer's results is spared, unless somebody looks at them.
#[test]
fn in_training_a_layer_waits_for_the_activation_behind_it() {
    fn compare(mut layer: impl Module + HostParams, shape: &[usize]) {
        draw(&mut layer);
        let x = noise(4, shape);
        for (act, fewer) in [(Act::Tanh, 1), (Act::Relu, 1), (Act::Sigmoid, 1), (Act::Silu, 0)] {
            let (fused, buffers, _) = trained(&mut layer, &x, act, None);
            let (apart, more, first) = trained(&mut layer, &x, act, Some(true));
            let (again, _, later) = trained(&mut layer, &x, act, Some(false));
            assert!(
                fused == apart && fused == again && first == later && first.is_some(),
                "{act:?} {shape:?}"
            );
            assert_eq!(fused.len(), 3, "a result, the gradients of a weight and of a bias");
            assert_eq!(more - buffers, fewer, "{act:?} {shape:?}");
        }
    }
    compare(Conv2d::new(1, 6, 5), &[3, 1, 12, 12]);
    compare(Conv2d::new(16, 16, 3).padding(1), &[2, 16, 9, 9]);
    compare(Conv2d::new(8, 8, 3).groups(8), &[2, 8, 7, 7]);
    compare(Linear::new(5, 7), &[4, 5]);
    compare(Linear::new(5, 7), &[2, 3, 5]);
}

/// Each activation would have the whole layer computed for itself.
#[test]
fn only_the_first_of_several_activations_is_computed_with_the_layer() {
    let mut layer = Linear::new(5, 7);
    draw(&mut layer);
    let mut take = |looked_at: bool| {
        let mut autograd = Autograd::default();
        let step = autograd.train(&mut layer, &mut keyed(0, "train", 0, 0), |layer, tape, cx| {
            let inner = layer.forward(tape.input(noise(4, &[4, 5])), cx)?;
            let _ = looked_at.then(|| inner.value());
            let all = [Act::Relu, Act::Tanh, Act::Relu].map(|act| inner.activate(act));
            Ok(((all[0] * all[1] * all[2]).sum(), all.map(Var::value)))
        });
        (step.unwrap(), autograd.pool().misses())
    };
    assert_eq!(take(false), take(true));
}

/// A waiting product is computed in the precision of the call, not of whoever asks for it.
#[test]
fn a_layer_that_waits_keeps_its_precision() {
    let mut layer = Linear::new(64, 32);
    draw(&mut layer);
    let x = noise(4, &[32, 64]);
    let mut take = |outside: Precision| {
        let autograd = &mut Autograd::default();
        autograd.train(&mut layer, &mut keyed(0, "train", 0, 0), |layer, tape, cx| {
            let inner = with_precision(Precision::Full, || layer.forward(tape.input(x.clone()), cx))?;
            let y = with_precision(outside, || inner.relu());
            Ok((y.sum(), y.value()))
        })
    };
    assert_eq!(take(Precision::Bf16).unwrap(), take(Precision::Full).unwrap());
}

#[test]
fn a_layer_on_another_tape_than_its_input_fails_in_its_shape() {
    let [one, other] = [(); 2].map(|()| Tape::new(BufferPool::default()));
    let weight = other.input(noise(1, &[7, 5])) * 1.0;
    let bias = one.param(&Param::new(noise(2, &[7])));
    let y = one.input(noise(3, &[4, 5])).linear(weight, Some(bias)).value();
    assert_eq!(y.shape(), [4, 7]);
    assert!(y.iter().all(|v| v.is_nan()));
}
