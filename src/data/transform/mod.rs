//! Changes to one sample on its way from the data set to the batch.

mod augment;
mod border;
mod cache;
mod center_crop;
mod choose;
mod color;
mod crop;
mod efficient;
mod erase;
mod flip;
mod load;
mod map_labels;
mod masks;
mod noise;
mod normalize;
mod pad;
mod pipeline;
mod resize;
mod resize_edge;
mod resized_crop;

pub use augment::{Along, Augment, AutoAugment, Deviation, Magnitude, Op, Outside, RandAugment};
pub use border::{Border, Filling};
pub use cache::CachePictures;
pub use center_crop::CenterCrop;
pub use choose::{RandomApply, RandomChoice};
pub use color::{ColorJitter, Lighting, RandomGrayscale};
pub use crop::RandomCrop;
pub use efficient::{EfficientNetCenterCrop, EfficientNetRandomCrop};
pub use erase::{Paint, RandomErasing};
pub use flip::{Direction, RandomFlip};
pub use load::LoadImageFromFile;
pub use map_labels::MapLabels;
pub use noise::{AddNoise, Mask, Masked, RandomWindow};
pub use normalize::Normalize;
pub use pad::{Pad, PadTo};
pub(super) use pipeline::path_in;
pub use pipeline::{Compose, PackInputs, Pipeline};
pub use resize::Resize;
pub use resize_edge::{Edge, ResizeEdge};
pub use resized_crop::RandomResizedCrop;

use std::num::NonZeroUsize;

use crate::base::{Error, Result, Rng};

use super::field::INPUTS;
use super::picture::affordable;
use super::{FieldKind, FieldSpec, Fields, Sample};

crate::registry!(dyn Transform, "transform");

/// One step of a pipeline. Images are height, width, channels until [`PackInputs`], which ends the work on them.
pub trait Transform: Send + Sync {
    /// Changes `sample`. All randomness comes from `rng`, which is the sample's own.
    ///
    /// # Errors
    /// When the sample does not fit, for example an image smaller than the crop.
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()>;

    /// Whether it makes the same of the same picture each time, and nothing of the other fields: what it makes may be
    /// kept for later passes.
    fn is_fixed(&self) -> bool {
        false
    }

    /// Says which fields it reads, and changes the declaration as it will change samples: configs are checked with it
    /// before any sample is read. Does nothing unless overridden.
    ///
    /// # Errors
    /// When a field that it reads is not declared, or is of another kind.
    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        let _ = fields;
        Ok(())
    }
}

/// The declaration of a transform that works on the picture in `inputs`; its size is not known afterwards.
fn picture_in(fields: &mut Fields<FieldSpec>) -> Result<()> {
    let spec = fields.find_mut(INPUTS)?;
    if spec.kind != FieldKind::Picture {
        return Err(Error::invalid(format!(
            "it works on a picture, and `{INPUTS}` is {spec} there: transforms of pictures come before `PackInputs`"
        )));
    }
    if let Some([height, width, _]) = spec.shape.as_deref_mut() {
        (*height, *width) = (None, None);
    }
    Ok(())
}

/// Two lengths of which one number may stand for both.
fn pair(key: &str, lengths: &[NonZeroUsize]) -> Result<(usize, usize)> {
    let (first, second) = match *lengths {
        [both] => (both.get(), both.get()),
        [first, second] => (first.get(), second.get()),
        _ => {
            return Err(Error::config(format!(
                "`{key}` is one number or a list of two, got {} numbers",
                lengths.len()
            )));
        }
    };
    affordable(first, second).map_err(|e| Error::config(format!("`{key}`: {e}")))?;
    Ok((first, second))
}
