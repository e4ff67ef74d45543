//! The transforms that AutoAugment and RandAugment are made of: a strength, drawn or fixed, and what is done to the
//! picture with it.

mod config;
mod magnitude;
mod op;
mod policies;

pub use magnitude::{Deviation, Magnitude};
pub use op::{Along, Op, Outside};
pub use policies::{AutoAugment, RandAugment};

use rand::RngExt;

use crate::base::{Result, Rng};
use crate::data::{FieldSpec, Fields, Sample, Transform};

use super::masks::{no_masks, picture_kept, unmasked};

/// One of the [`Op`]s, now and then, with a strength.
///
/// ```
/// use ndarray::Array3;
/// use shanty::base::keyed;
/// use shanty::data::{Augment, Op, Sample, Transform};
///
/// let mut sample = Sample::of_bytes(Array3::from_elem((2, 2, 3), 10u8), 0);
/// Augment::new(Op::Invert, 0.0).apply(&mut sample, &mut keyed(0, "augment", 0, 0))?;
/// assert_eq!(sample.picture()?.values()?[[0, 0, 0]], 245.0);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// What is done.
    pub op: Op,
    /// How strongly.
    pub magnitude: Magnitude,
    /// Probability that it is done at all.
    pub prob: f64,
    /// Probability that the strength is negative.
    pub negative: f64,
}

impl Augment {
    /// Always with this strength.
    pub fn new(op: Op, magnitude: f64) -> Self {
        Self { op, magnitude: Magnitude::Fixed(magnitude), prob: 1.0, negative: 0.0 }
    }
}

impl Transform for Augment {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        if rng.random::<f64>() >= self.prob {
            return Ok(());
        }
        let magnitude = self.magnitude.draw(rng);
        let turned = rng.random::<f64>() < self.negative;
        if self.op.moves() {
            no_masks(sample)?;
        }
        self.op.edit(sample.picture()?, if turned { -magnitude } else { magnitude }, rng)
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        if self.op.moves() {
            unmasked(fields)?;
        }
        picture_kept(fields)
    }
}
