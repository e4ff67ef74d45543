//! Changes to one sample on its way from the data set to the batch.

mod crop;
mod flip;
mod normalize;
mod pad;
mod pipeline;
mod resize;

pub use crop::RandomCrop;
pub use flip::{Direction, RandomFlip};
pub use normalize::Normalize;
pub use pad::{Border, Pad};
pub use pipeline::{Compose, PackInputs, Pipeline};
pub use resize::{Interpolation, Resize};

use std::num::NonZeroUsize;

use crate::base::{Error, Result, Rng};

use super::Sample;

crate::registry!(dyn Transform, "transform");

/// One step of a pipeline. Images are height, width, channels until [`PackInputs`], which comes last.
pub trait Transform: Send + Sync {
    /// Changes `sample`. All randomness comes from `rng`, which is the sample's own.
    ///
    /// # Errors
    /// When the sample does not fit, for example an image smaller than the crop.
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()>;

    /// Whether it turns height, width, channels into channels, height, width.
    fn packs(&self) -> bool {
        false
    }
}

/// Two lengths of which one number may stand for both.
fn pair(key: &str, lengths: &[NonZeroUsize]) -> Result<(usize, usize)> {
    match *lengths {
        [both] => Ok((both.get(), both.get())),
        [first, second] => Ok((first.get(), second.get())),
        _ => Err(Error::config(format!(
            "`{key}` is one number or a list of two, got {} numbers",
            lengths.len()
        ))),
    }
}
