//! Changes to one sample on its way from the data set to the batch.

mod center_crop;
mod crop;
mod flip;
mod load;
mod normalize;
mod pad;
mod pipeline;
mod resize;
mod resize_edge;
mod resized_crop;

pub use center_crop::CenterCrop;
pub use crop::RandomCrop;
pub use flip::{Direction, RandomFlip};
pub use load::LoadImageFromFile;
pub use normalize::Normalize;
pub use pad::{Border, Pad};
pub use pipeline::{Compose, PackInputs, Pipeline};
pub use resize::{Interpolation, Resize};
pub use resize_edge::{Edge, ResizeEdge};
pub use resized_crop::RandomResizedCrop;

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};

use super::{Filter, Kernel, Sample};

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

    /// Whether it can do without [`Sample::img`] and looks after [`Sample::picture`] itself. For all others the pipeline makes
    /// the image first.
    fn takes_pictures(&self) -> bool {
        false
    }
}

/// Whose way of resizing is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Backend {
    /// Smooths an image that shrinks, as torchvision does with `antialias=True`.
    #[default]
    Pillow,
    /// Does not.
    Cv2,
}

impl Backend {
    fn filter(self, kernel: Kernel) -> Result<Filter> {
        match (self, kernel) {
            (Self::Cv2, Kernel::Bicubic) => Err(Error::config(
                "OpenCV has another bicubic than Pillow, which is not here: give `backend: pillow` or `interpolation: bilinear`",
            )),
            _ => Ok(Filter { kernel, antialias: self == Self::Pillow }),
        }
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
