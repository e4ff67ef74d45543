//! The checks for layers of one's own: they pass what is right, and say of what is wrong what and where.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shanty::base::{Elem, Result};
use shanty::nn::{BatchNorm1d, Dropout, Forward, LayerNorm, Linear, Module, Param, Sequential, Tanh, Var};
use shanty::testing::{grad_check, layer_breach};

/// `weight · x` whose backward is off by these factors.
struct Off {
    weight: Param,
    factors: [Elem; 2],
}
shanty::module!(Off { weight });
impl Off {
    fn new(factors: [Elem; 2]) -> Self {
        Self { weight: Param::full(&[3], 0.5), factors }
    }
}
impl Module for Off {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let (weight, [a, b]) = (x.tape().param(&self.weight), self.factors);
        let (xs, w) = (x.value(), weight.value());
        Ok(x.tape().op("off", &xs * &w, [x, weight], move |dy| {
            Ok([Some(&dy * &w * a), Some((&dy * &xs * b).sum_axis(shanty::ndarray::Axis(0)))])
        }))
    }
}

#[test]
fn gradients_of_layers_are_checked() {
    grad_check(Linear::new(3, 2), &[4, 3]).unwrap();
    grad_check(Sequential::new().with(Linear::new(3, 4)).with(Tanh::new()).with(LayerNorm::new(4)), &[4, 3])
        .unwrap();
    grad_check(BatchNorm1d::new(3), &[5, 3]).unwrap();
    grad_check(Dropout::new(0.3), &[5, 3]).unwrap();
    grad_check(Off::new([1.0, 1.0]), &[4, 3]).unwrap();
    let error = grad_check(Off::new([1.0, 1.5]), &[4, 3]).unwrap_err().to_string();
    assert!(error.starts_with("element 0 of `weight`, of shape [3], has the gradient "), "{error}");
    let error = grad_check(Off::new([2.0, 1.0]), &[4, 3]).unwrap_err().to_string();
    assert!(error.starts_with("element 0 of `input`, of shape [4, 3], has the gradient "), "{error}");
    let error = grad_check(Linear::new(3, 2), &[4, 5]).unwrap_err().to_string();
    assert!(error.contains("a linear map of 3 features got an input of shape [4, 5]"), "{error}");
}

/// A parameter that no output depends on.
#[test]
fn a_parameter_without_a_gradient_is_told() {
    struct Idle {
        weight: Param,
    }
    shanty::module!(Idle { weight });
    impl Module for Idle {
        fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
            Ok(x * 2.0 + 0.0 * x.value().len() as Elem)
        }
    }
    let error = grad_check(Idle { weight: Param::full(&[3], 0.0) }, &[3]).unwrap_err().to_string();
    assert_eq!(error, "`weight` has no gradient: the output does not depend on it");
}

/// Weights that are drawn anew each time do not follow from the run's seed.
#[test]
fn weights_that_are_not_declared_are_told() {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let build = || -> Box<dyn Module> {
        let mut layer = Off::new([1.0, 1.0]);
        layer.weight = Param::full(&[3], COUNT.fetch_add(1, Relaxed) as Elem);
        Box::new(layer)
    };
    let error = layer_breach(build, &[4, 3]).unwrap_err().to_string();
    assert!(
        error.contains(
            "its initial weights differ from one time to the next: declare them with `Param::init`"
        ),
        "{error}"
    );
}

mod contract {
    use shanty::nn::Linear;
    shanty::testing::layer_contract!(Linear::new(3, 2), [4, 3]);
}

/// A user's parameter is drawn like ours: from the seed and its name, wherever it lies.
#[test]
fn initial_weights_follow_from_seed_and_name() {
    use shanty::nn::init::{Normal, init_weights};
    struct Own {
        table: Param,
    }
    shanty::module!(Own { table });
    impl Module for Own {
        fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
            Ok(x * x.tape().param(&self.table))
        }
    }
    let own = || Own { table: Param::init(&[4], Normal { mean: 0.0, std: 0.02 }) };
    let drawn = |seed| {
        let mut net = Sequential::new().with(own()).with(own());
        let report = init_weights(&mut net, seed).unwrap();
        assert!(report[0].starts_with("0.table - [4]: NormalInit: mean=0, std=0.02 (mean "), "{}", report[0]);
        shanty::params::StateDict::of(&net).unwrap()
    };
    let value = |seed, name| drawn(seed).get(name).unwrap().value.clone();
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(value(1, "0.table"), value(2, "0.table"));
    assert_ne!(value(1, "0.table"), value(1, "1.table"));
    assert!(value(1, "0.table").iter().all(|v| *v != 0.0 && v.abs() < 0.2));
}
