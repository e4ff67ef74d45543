//! How images are resized: which library's way, and how a value between pixels is found.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};

/// Whose way of resizing is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// OpenCV's: an image that shrinks is not smoothed, unless by `area`.
    #[default]
    Cv2,
    /// Pillow's: an image that shrinks is smoothed, as torchvision does with `antialias=True`; values are 0..=255.
    Pillow,
}

/// How a value between pixels depends on those around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The pixel that covers the place.
    Nearest,
    /// Straight lines between pixel centres.
    #[default]
    Bilinear,
    /// Cubic parabolas (Keys): with a = -0.75 in OpenCV, -0.5 in Pillow.
    Bicubic,
    /// The mean over the area that a new pixel covers; OpenCV's.
    Area,
    /// The same in Pillow.
    Box,
    /// A raised cosine; Pillow's.
    Hamming,
    /// A windowed sinc: over 8 pixels in OpenCV, 6 in Pillow.
    Lanczos,
}

/// How images are resized. Pixel centres lie at halves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whose way.
    pub backend: Backend,
    /// How values between pixels are found.
    pub interpolation: Interpolation,
}

impl Filter {
    /// OpenCV's way, MMPretrain's default.
    pub const CV2: Self = Self { backend: Backend::Cv2, interpolation: Interpolation::Bilinear };
    /// Pillow's and torchvision's.
    pub const PILLOW: Self = Self { backend: Backend::Pillow, interpolation: Interpolation::Bilinear };

    /// From the keys of a config.
    ///
    /// # Errors
    /// [`Error::Config`] when the backend does not know the interpolation.
    pub fn new(backend: Backend, interpolation: Interpolation) -> Result<Self> {
        let other = match (backend, interpolation) {
            (Backend::Pillow, Interpolation::Area) => {
                "`backend: pillow` has no `area`: its `box` is the same"
            }
            (Backend::Cv2, Interpolation::Box) => "`backend: cv2` has no `box`: its `area` is the same",
            (Backend::Cv2, Interpolation::Hamming) => "`hamming` is Pillow's: give `backend: pillow`",
            _ => return Ok(Self { backend, interpolation }),
        };
        Err(Error::config(other))
    }

    /// Whether its weights may be negative, so that it leaves the range of the values.
    pub(super) fn overshoots(self) -> bool {
        matches!(self.interpolation, Interpolation::Bicubic | Interpolation::Lanczos)
    }
}
