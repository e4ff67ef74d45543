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

use crate::base::{Result, Rng};

use super::Sample;

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
