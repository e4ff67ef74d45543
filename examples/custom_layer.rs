//! A layer of one's own: a parameter with its rule of initial weights, an op with its own backward, and a run in which
//! a network with it learns.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::base::{Elem, Result, keyed};
use shanty::ndarray::{Array2, ArrayD, Axis};
use shanty::nn::init::{Constant, init_weights};
use shanty::nn::{Autograd, Forward, Linear, Module, Param, Sequential, Var};
use shanty::params::HostParams;
use shanty::testing::grad_check;

/// `x · sigmoid(slope · x)` with a slope for each feature that is learnt (Ramachandran et al. 2017).
struct Swish {
    slope: Param,
}

shanty::module!(Swish { slope });

impl Swish {
    /// For this many features. The slopes begin as 1, which makes it SiLU.
    fn new(features: usize) -> Self {
        Self { slope: Param::init(&[features], Constant { val: 1.0 }) }
    }
}

impl Module for Swish {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let slope = x.tape().param(&self.slope);
        swish(x, slope).checked()
    }
}

/// The op. Written as `x * (x * slope).sigmoid()` it would need no backward; this one keeps less in memory.
fn swish<'t>(x: Var<'t>, slope: Var<'t>) -> Var<'t> {
    let (xs, b) = (x.value(), slope.value());
    let gate = |xs: &ArrayD<Elem>, b: &ArrayD<Elem>| (xs * b).mapv(|z| 1.0 / (1.0 + (-z).exp()));
    let (xs, b) = (xs.into_owned(), b.into_owned());
    let y = &xs * &gate(&xs, &b);
    x.tape().op("swish", y, [x, slope], move |dy| {
        let s = gate(&xs, &b);
        let bend = &s * &s.mapv(|s| 1.0 - s) * &xs;
        let db = &dy * &bend * &xs;
        Ok([Some(&dy * &(&s + &(&bend * &b))), Some(db.sum_axis(Axis(0)))])
    })
}

/// Half the mean square of what is missing, in one line.
fn loss<'t>(y: Var<'t>, target: Var<'t>) -> Var<'t> {
    (y - target).powi(2).mean() / 2.0
}

fn main() -> anyhow::Result<()> {
    // The gradients are the slopes of the output.
    grad_check(Swish::new(3), &[4, 3])?;

    // The network learns y = |x|, which no line can.
    let mut net = Sequential::new().with(Linear::new(1, 16)).with(Swish::new(16)).with(Linear::new(16, 1));
    for line in init_weights(&mut net, 0)? {
        println!("{line}");
    }
    let x = Array2::from_shape_fn((64, 1), |(i, _)| i as Elem / 16.0 - 2.0).into_dyn();
    let target = x.mapv(Elem::abs);
    let (mut autograd, mut losses) = (Autograd::default(), Vec::new());
    for iter in 0..2000 {
        losses.push(autograd.train(&mut net, &mut keyed(0, "example", iter, 0), |net, tape, cx| {
            let y = net.forward(tape.input(x.clone()), cx)?;
            let loss = loss(y, tape.input(target.clone()));
            Ok((loss, loss.item()))
        })?);
        net.visit_mut(&mut |mut p| {
            if let Some(grad) = &p.grad {
                p.value.scaled_add(-0.1, grad);
            }
        });
        net.zero_grads();
    }
    println!("loss {:.4} to {:.4}", losses[0], losses[losses.len() - 1]);
    anyhow::ensure!(losses[losses.len() - 1] < 0.01 * losses[0], "the network learns: {losses:?}");
    Ok(())
}
