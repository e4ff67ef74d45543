//! What every layer owes a network, as checks: its gradients, and what a registered one says of itself.

use ndarray::{ArrayD, IxDyn};
use rand::RngExt as _;

use crate::base::{Elem, Error, Result, Tensor, keyed};
use crate::nn::{Autograd, Forward, Module, Param, Var, init::init_weights};
use crate::params::{HostParams, StateDict};

/// The step of a difference quotient, and the error that it allows itself relative to the larger of 1 and the gradient.
const STEP: f64 = if size_of::<Elem>() == 8 { 1e-5 } else { 1e-2 };
const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-6 } else { 2e-2 };

/// A layer with its input as a parameter, so that the input has a gradient too.
struct Probe<M: Module> {
    input: Param,
    layer: M,
}

impl<M: Module> crate::nn::ModuleTree for Probe<M> {
    fn type_name(&self) -> &'static str {
        "Probe"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, crate::nn::Child<'a>)) {
        f("input", crate::nn::Child::Param(&self.input));
        f("layer", crate::nn::Child::Module(&self.layer));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, crate::nn::ChildMut<'a>)) {
        f("input", crate::nn::ChildMut::Param(&mut self.input));
        f("layer", crate::nn::ChildMut::Module(&mut self.layer));
    }
}

impl<M: Module> Probe<M> {
    /// The sum of the outputs, each times a fixed number.
    fn loss<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = self.layer.forward(x, cx)?.checked()?;
        let mut rng = keyed(1, "grad_check", 0, 0);
        let factors = Tensor::from_shape_simple_fn(IxDyn(&y.shape()), || rng.random_range(-1.0..1.0));
        Ok((y * x.tape().input(factors)).sum())
    }

    fn value(&mut self) -> Result<f64> {
        let mut rng = keyed(0, "grad_check", 0, 0);
        Autograd::default().train(self, &mut rng, |probe, tape, cx| {
            let loss = probe.loss(tape.param(&probe.input), cx)?;
            Ok((loss, f64::from(loss.item())))
        })
    }

    /// The difference quotient of one element of one tensor.
    fn quotient(&mut self, name: &str, element: usize, saved: &StateDict) -> Result<f64> {
        let mut at = |by: f64| {
            saved.load_into(self)?;
            self.visit_mut(&mut |mut p| {
                if p.name == name
                    && let Some(x) = p.value.iter_mut().nth(element)
                {
                    *x += by as Elem;
                }
            });
            self.value()
        };
        Ok((at(STEP)? - at(-STEP)?) / (2.0 * STEP))
    }
}

/// Checks the gradients of a layer by differences, for a random input of this shape: that of the input, and those of
/// all its parameters. The layer is in training mode; what it draws (dropout) is the same each time.
///
/// In the usual build numbers are `f32` and the check is coarse; with `RUSTFLAGS="--cfg shanty_f64"` it is exact to
/// 1e-6. A function with kinks (a ReLU) may fail where a kink lies between the two points.
///
/// ```
/// use shanty::nn::Linear;
/// shanty::testing::grad_check(Linear::new(3, 2), &[4, 3])?;
/// # Ok::<(), shanty::base::Error>(())
/// ```
///
/// # Errors
/// The first tensor and element whose gradient is not the slope, with both numbers; a parameter that has no gradient;
/// and what the layer says itself.
pub fn grad_check<M: Module>(layer: M, input_shape: &[usize]) -> Result<()> {
    let mut rng = keyed(2, "grad_check", 0, 0);
    let x = Tensor::from_shape_simple_fn(IxDyn(input_shape), || rng.random_range(-1.0..1.0));
    let mut probe = Probe { input: Param::new(x), layer };
    let saved = StateDict::of(&probe)?;
    probe.value()?;
    let mut gradients: Vec<(String, Option<ArrayD<Elem>>)> = Vec::new();
    probe.visit(&mut |p| {
        if p.role.is_trained() {
            gradients.push((p.name.to_owned(), p.grad.map(|grad| grad.to_owned())));
        }
    });
    for (name, grad) in gradients {
        let shown = name.trim_start_matches("layer.");
        let Some(grad) = grad else {
            return Err(Error::invalid(format!(
                "`{shown}` has no gradient: the output does not depend on it"
            )));
        };
        for (element, found) in grad.iter().enumerate() {
            let (found, slope) = (f64::from(*found), probe.quotient(&name, element, &saved)?);
            let difference = (found - slope).abs();
            if difference.is_nan() || difference > TOLERANCE * slope.abs().max(1.0) {
                return Err(Error::invalid(format!(
                    "element {element} of `{shown}`, of shape {:?}, has the gradient {found}, but its slope is {slope}",
                    grad.shape()
                )));
            }
        }
    }
    Ok(())
}

/// What a registered layer owes a network, for `layer_contract!`: right gradients, initial weights that follow from the
/// seed alone, and state that can be saved and loaded.
///
/// # Errors
/// What it does not keep.
pub fn layer_breach(build: impl Fn() -> Box<dyn Module>, input_shape: &[usize]) -> Result<()> {
    let drawn = |seed| {
        let mut layer = build();
        init_weights(&mut layer, seed)?;
        StateDict::of(&layer)
    };
    let (first, again) = (drawn(1)?, drawn(1)?);
    if first != again {
        return Err(Error::invalid(
            "its initial weights differ from one time to the next: declare them with `Param::init`, which draws from the seed",
        ));
    }
    let mut other = build();
    let report = first.load_into(&mut other)?;
    if !report.is_exact() {
        return Err(Error::invalid(format!("its state cannot be loaded: {report}")));
    }
    grad_check(build(), input_shape)
}

/// Tests that a layer keeps its contract: `layer_contract!(Scale::new(3), [4, 3])`, with an expression that makes it
/// and the shape of an input. It makes one `#[test]`; several in one file go into modules.
#[macro_export]
macro_rules! layer_contract {
    ($layer:expr, $shape:expr $(,)?) => {
        #[test]
        fn the_layer_keeps_its_contract() {
            let breach = $crate::testing::layer_breach(|| Box::new($layer), &$shape);
            assert!(breach.is_ok(), "{}", breach.err().map(|e| e.to_string()).unwrap_or_default());
        }
    };
}
