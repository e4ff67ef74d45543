//! A network, the input it is checked at, and the check.

use ndarray::{ArrayD, IxDyn};
use rand::RngExt as _;
use shanty::base::{Elem, Result, Tensor, keyed, rng::permutation};
use shanty::module;
use shanty::nn::{BufferPool, Forward, Module, Param, Tape, Var};
use shanty::params::HostParams;

pub const F64: bool = size_of::<Elem>() == 8;
/// Half the distance of the two points of a difference.
pub const STEP: Elem = if F64 { 1e-5 } else { 1e-2 };
/// Allowed error, relative to the largest gradient of the tensor or 1.
pub const TOLERANCE: f64 = if F64 { 1e-6 } else { 5e-3 };

/// A network and the input that it is checked at, so that the input has a gradient too.
pub struct Probe {
    pub x: Param,
    pub net: Box<dyn Module>,
}
module!(Probe { x, net });

/// An op as a module.
pub struct Op(pub for<'t> fn(Var<'t>) -> Result<Var<'t>>);
module!(Op {});
impl Module for Op {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        self.0(x)
    }
}

/// An op as a module, which is told if it does not fit.
pub struct Simple(pub for<'t> fn(Var<'t>) -> Var<'t>);
module!(Simple {});
impl Module for Simple {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        self.0(x).checked()
    }
}

impl Probe {
    /// `sum(net(x) · c)` for fixed numbers c, on a tape whose end is handed to `f`.
    pub fn run<R>(&mut self, training: bool, f: impl FnOnce(&mut Self, Elem, u32, Tape) -> R) -> R {
        let tape = Tape::new(BufferPool::default());
        let mut rng = keyed(7, "gradcheck", 0, 0);
        let x = tape.param(&self.x);
        let y = self.net.forward(x, &mut Forward::new(training, &mut rng)).unwrap();
        let mut draw = keyed(8, "gradcheck", 0, 0);
        let c = Tensor::from_shape_simple_fn(IxDyn(&y.shape()), || draw.random_range(-1.0..1.0));
        let loss = (y * tape.input(c)).sum();
        let (value, id) = (loss.item(), loss.id());
        f(self, value, id, tape)
    }

    pub fn value(&mut self, training: bool) -> f64 {
        self.run(training, |_, value, _, _| f64::from(value))
    }

    pub fn gradients(&mut self, training: bool) -> Vec<(String, ArrayD<Elem>)> {
        self.run(training, |probe, _, id, tape| drop(tape.backward(id, probe).unwrap()));
        let mut all = Vec::new();
        self.visit(&mut |p| {
            if p.role.is_trained() {
                let grad = p.grad.unwrap_or_else(|| panic!("no gradient for {}", p.name));
                all.push((p.name.to_owned(), grad.to_owned()));
            }
        });
        all
    }

    /// Adds `by` to element `i` of the tensor called `name`.
    fn nudge(&mut self, name: &str, i: usize, by: Elem) {
        self.visit_mut(&mut |mut p| {
            if p.name == name {
                p.value.as_slice_mut().unwrap()[i] += by;
            }
        });
    }
}

pub fn check(what: &str, x: Tensor, training: bool, net: impl Module) {
    let mut probe = Probe { x: Param::new(x), net: Box::new(net) };
    let mut worst = 0.0_f64;
    for (name, grad) in probe.gradients(training) {
        let scale = grad.iter().fold(1.0, |m: f64, g| m.max(f64::from(g.abs())));
        for (i, &found) in grad.iter().enumerate() {
            probe.nudge(&name, i, STEP);
            let above = probe.value(training);
            probe.nudge(&name, i, -2.0 * STEP);
            let below = probe.value(training);
            probe.nudge(&name, i, STEP);
            let wanted = (above - below) / f64::from(2.0 * STEP);
            let error = (f64::from(found) - wanted).abs() / scale;
            assert!(error < TOLERANCE, "{what}: {name}[{i}] is {found}, differences give {wanted}");
            worst = worst.max(error);
        }
    }
    println!("{what:40} worst error {worst:.1e}");
}

/// Numbers in -1..1.
pub fn random(shape: &[usize]) -> Tensor {
    let mut rng = keyed(1, "gradcheck input", shape.iter().product::<usize>() as u64, 0);
    Tensor::from_shape_simple_fn(IxDyn(shape), || rng.random_range(-1.0..1.0))
}

/// Numbers that are all further apart from each other and from 0 than the step, for ops with kinks.
pub fn spaced(shape: &[usize]) -> Tensor {
    let len = shape.iter().product();
    let order = permutation(len, &mut keyed(2, "gradcheck input", 0, 0));
    let values = order.iter().map(|&i| (i as Elem - len as Elem / 2.0 + 0.5) * 0.05).collect();
    Tensor::from_shape_vec(IxDyn(shape), values).unwrap()
}
