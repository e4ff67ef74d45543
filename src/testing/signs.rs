//! An optimizer that no device has a formula for.

use crate::base::{Elem, Result};
use crate::optim::{Optimizer, ParamStep};

/// Steps by the signs of running sums of the gradients: a model on a device must have its weights read and edited for it.
#[derive(Debug, Clone)]
pub struct Signs {
    lr: f64,
}

impl Signs {
    /// With steps of this length.
    pub fn new(lr: f64) -> Self {
        Self { lr }
    }
}

impl Optimizer for Signs {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![("lr", &mut self.lr)]
    }

    fn state(&self) -> &'static [&'static str] {
        &["sum"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let [sum] = p.state()?;
        for ((value, grad), sum) in p.value.iter_mut().zip(p.grad).zip(sum) {
            *sum = 0.5 * *sum + grad;
            *value -= self.lr as Elem * if *sum == 0.0 { 0.0 } else { sum.signum() };
        }
        Ok(())
    }
}
