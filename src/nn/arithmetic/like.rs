//! Values of the shape of another one.

use rand::RngExt as _;
use rand_distr::StandardNormal;

use crate::base::{Elem, Rng};
use crate::nn::Var;
use crate::nn::buffer_pool::tensor;

impl Var<'_> {
    /// Zeros of its shape.
    pub fn zeros_like(self) -> Self {
        self.full_like(0.0)
    }

    /// Ones of its shape.
    pub fn ones_like(self) -> Self {
        self.full_like(1.0)
    }

    /// This number in its shape.
    pub fn full_like(self, value: Elem) -> Self {
        self.filled_like(|| value)
    }

    /// Draws from [0, 1) in its shape. A layer draws from `cx.rng`, which follows from the run's seed and the
    /// iteration.
    pub fn rand_like(self, rng: &mut Rng) -> Self {
        self.filled_like(|| rng.random::<Elem>())
    }

    /// Draws from the standard normal distribution in its shape.
    pub fn randn_like(self, rng: &mut Rng) -> Self {
        self.filled_like(|| rng.sample::<f64, _>(StandardNormal) as Elem)
    }

    fn filled_like(self, mut value: impl FnMut() -> Elem) -> Self {
        let mut y = self.tape.take(self.value().len());
        y.iter_mut().for_each(|y| *y = value());
        self.tape.input(tensor(&self.shape(), y))
    }
}
