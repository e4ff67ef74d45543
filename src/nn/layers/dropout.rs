//! Dropout.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result, Rng, left_out};
use crate::kernels::{dropout, dropout_inplace};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Forward, Module, Tape, Var};
use crate::{module, register};

/// In training, zero with probability `p`, else `x / (1 - p)`; in evaluation `x` (Srivastava et al. 2014).
///
/// The mask is a function of seed, iteration and the layer's turn in the forward pass.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Dropout {
    /// Probability of a zero.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Accepted for PyTorch's configs; memory is reused either way.
    pub inplace: bool,
}

module!(Dropout {}, number = p);

impl Dropout {
    /// With this probability of a zero.
    pub fn new(p: f64) -> Self {
        Self { p, inplace: false }
    }
}

impl Default for Dropout {
    fn default() -> Self {
        Self::new(0.5)
    }
}

impl Module for Dropout {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(if cx.training { x.dropout(self.p, cx.rng) } else { x })
    }
}

register! { /// In training, zero with probability `p`.
dyn Module, "Dropout" => Dropout }

impl<'t> Var<'t> {
    /// Zero with probability `p`, else `x / (1 - p)` (Srivastava et al. 2014). With `p = 0` the value itself.
    pub fn dropout(self, p: f64, rng: &mut Rng) -> Self {
        if p <= 0.0 {
            return self;
        }
        let x = self.value();
        let (keep, scale) = draw_mask(self.tape, x.len(), p, rng);
        let mut y = self.tape.take(x.len());
        dropout(&keep, scale, slice(&x), &mut y);
        self.tape.node("dropout", tensor(x.shape(), y), &[self], move |mut dy, grads| {
            dropout_inplace(&keep, scale, &mut dy);
            grads.pool.masks.give(keep);
            grads.add(0, dy);
        })
    }
}

/// What to keep of `len` values, each dropped with probability `p`, and the factor of what is kept.
pub(super) fn draw_mask(tape: &Tape, len: usize, p: f64, rng: &mut Rng) -> (Vec<u8>, Elem) {
    let mut keep = tape.with_pool(|pool| pool.masks.take(len));
    // A draw of 32 bits is below the bound with probability p, to 2⁻³²; everything is for p = 1.
    let bound = (p * 2f64.powi(32)) as u64;
    if !left_out(len) {
        keep.iter_mut().for_each(|k| *k = u8::from(u64::from(rng.next_u32()) >= bound));
    }
    (keep, if p < 1.0 { (1.0 / (1.0 - p)) as Elem } else { 0.0 })
}
