//! MMEngine's preprocessor of images.

use super::{PixelOps, Prepared, Preprocessor};
use crate::base::Result;
use crate::data::Batch;
use crate::nn::{Forward, Tape};

/// Normalised pixels; labels as they are.
#[derive(Debug, Clone, Default)]
pub struct ImgDataPreprocessor {
    /// What is done to the pixels.
    pub pixels: PixelOps,
}

impl Preprocessor for ImgDataPreprocessor {
    fn prepare<'t>(&self, batch: &Batch, _: &mut Forward<'_>, tape: &'t Tape) -> Result<Prepared<'t>> {
        Ok(Prepared { inputs: self.pixels.apply(&batch.inputs, tape)?, scores: None })
    }
}
