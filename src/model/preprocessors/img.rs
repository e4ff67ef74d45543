//! MMEngine's preprocessors of images.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{PixelOps, Prepared, Preprocessor};
use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::data::Batch;
use crate::nn::{Forward, Tape};
use crate::register;
use crate::registry::BuildCx;

/// The keys of `{type: ImgDataPreprocessor, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImgDataPreprocessorConfig {
    /// Subtracted from the pixels: one number, or one for each of three channels. With `std`.
    #[schemars(extend("x-unbounded" = true))]
    pub mean: Option<OneOrMany<f64>>,
    /// What the pixels are divided by afterwards.
    #[schemars(schema_with = "super::positives")]
    pub std: Option<OneOrMany<f64>>,
    /// Height and width are padded to a multiple of this, below and to the right.
    #[schemars(range(min = 1))]
    pub pad_size_divisor: usize,
    /// The value of padded pixels, after normalisation.
    #[schemars(extend("x-unbounded" = true))]
    pub pad_value: f64,
    /// Whether the three channels are turned round first.
    pub bgr_to_rgb: bool,
    /// The same; not both.
    pub rgb_to_bgr: bool,
    /// Accepted for MMEngine's configs; there is one place for tensors here.
    pub non_blocking: bool,
}

impl Default for ImgDataPreprocessorConfig {
    fn default() -> Self {
        Self {
            mean: None,
            std: None,
            pad_size_divisor: 1,
            pad_value: 0.0,
            bgr_to_rgb: false,
            rgb_to_bgr: false,
            non_blocking: false,
        }
    }
}

/// Normalised pixels; labels as they are.
#[derive(Debug, Clone, Default)]
pub struct ImgDataPreprocessor {
    /// What is done to the pixels.
    pub pixels: PixelOps,
}

register! { /// Normalises and pads images.
dyn Preprocessor, "ImgDataPreprocessor" => fn ImgDataPreprocessor::from_config }

impl ImgDataPreprocessor {
    fn from_config(p: ImgDataPreprocessorConfig, _: &mut BuildCx) -> Result<Self> {
        if p.bgr_to_rgb && p.rgb_to_bgr {
            return Err(Error::config("`bgr_to_rgb` and `rgb_to_bgr` undo each other: give one of them"));
        }
        let pixels = PixelOps {
            swap_rgb: p.bgr_to_rgb || p.rgb_to_bgr,
            norm: PixelOps::norm(p.mean.as_deref(), p.std.as_deref())?,
            divisor: p.pad_size_divisor,
            pad_value: p.pad_value as Elem,
        };
        Ok(Self { pixels })
    }
}

impl Preprocessor for ImgDataPreprocessor {
    fn prepare<'t>(&self, batch: &Batch, _: &mut Forward<'_>, tape: &'t Tape) -> Result<Prepared<'t>> {
        Ok(Prepared { inputs: self.pixels.apply(batch.inputs()?, tape)?, scores: None })
    }
}

/// Everything as the loader gives it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BaseDataPreprocessor {
    /// Accepted for MMEngine's configs; there is one place for tensors here.
    pub non_blocking: bool,
}

register! { /// Takes a batch as it is.
dyn Preprocessor, "BaseDataPreprocessor" => BaseDataPreprocessor }

impl Preprocessor for BaseDataPreprocessor {
    fn prepare<'t>(&self, batch: &Batch, _: &mut Forward<'_>, tape: &'t Tape) -> Result<Prepared<'t>> {
        Ok(Prepared { inputs: PixelOps::default().apply(batch.inputs()?, tape)?, scores: None })
    }
}
