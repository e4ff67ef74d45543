//! Dropout with a mask that is drawn once and kept for the way back.

use rand::Rng as _;

use crate::base::{Elem, Rng};
use crate::kernels::{dropout, dropout_inplace};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Tape, Var};

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
    keep.iter_mut().for_each(|k| *k = u8::from(u64::from(rng.next_u32()) >= bound));
    (keep, if p < 1.0 { (1.0 / (1.0 - p)) as Elem } else { 0.0 })
}
