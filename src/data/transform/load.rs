//! From a file to pixels.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::data::{Colors, FieldSpec, Fields, Picture, PictureFile, Sample, Transform};
use crate::registry::BuildCx;

use super::picture_in;

/// Says how the picture file of a sample is read. It is decoded when a transform behind this one needs its pixels;
/// where the data set keeps its images in memory, nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadImageFromFile {
    /// Which channels a file gives.
    pub colors: Colors,
    /// Whether to turn the picture as the EXIF data of its camera say.
    pub turn: bool,
    /// Whether to take it as it is stored: values of 16 bits and transparency are kept, grey has one channel.
    pub unchanged: bool,
    /// Refused is what promises to have more pixels.
    pub max_pixels: usize,
}

/// As MMCV's without arguments.
impl Default for LoadImageFromFile {
    fn default() -> Self {
        Self { colors: Colors::Bgr, turn: true, unchanged: false, max_pixels: PictureFile::MAX_PIXELS }
    }
}

/// What a file gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum ColorType {
    /// Three channels.
    #[default]
    Color,
    /// Three channels; a picture stays as it is stored, whichever way the camera was held.
    ColorIgnoreOrientation,
    /// One channel.
    Grayscale,
    /// One channel; a picture stays as it is stored.
    GrayscaleIgnoreOrientation,
    /// As it is stored: one, three or four channels, values of 8 or 16 bits, whichever way the camera was held.
    Unchanged,
}

/// The decoder that MMCV would take; there is one here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Decoder {
    #[default]
    Cv2,
    Pillow,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct LoadConfig {
    /// color, grayscale, color_ignore_orientation, grayscale_ignore_orientation, or unchanged: values of 16 bits are
    /// kept, grey has one channel, and what is transparent a fourth one.
    color_type: ColorType,
    /// Order of three channels: bgr or rgb.
    channel_order: Colors,
    /// Refuse a picture that promises to have more pixels, before memory is taken for it; what Pillow warns of, if not
    /// given.
    #[schemars(range(min = 1))]
    max_pixels: usize,
    /// Accepted for MMCV's configs; values are `f32` as soon as anything needs them.
    to_float32: bool,
    /// cv2 or pillow; accepted for MMCV's configs, there is one decoder here.
    imdecode_backend: Decoder,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            color_type: ColorType::default(),
            channel_order: Colors::default(),
            max_pixels: PictureFile::MAX_PIXELS,
            to_float32: false,
            imdecode_backend: Decoder::default(),
        }
    }
}

crate::register! {
    /// Reads the sample's picture file, 3 channels in the order BGR unless told otherwise.
    dyn Transform, "LoadImageFromFile" => fn LoadImageFromFile::from_config
}

impl LoadImageFromFile {
    fn from_config(p: LoadConfig, _: &mut BuildCx) -> Result<Self> {
        use ColorType::{ColorIgnoreOrientation, Grayscale, GrayscaleIgnoreOrientation, Unchanged};
        let gray = matches!(p.color_type, Grayscale | GrayscaleIgnoreOrientation);
        Ok(Self {
            colors: if gray { Colors::Gray } else { p.channel_order },
            turn: !matches!(p.color_type, ColorIgnoreOrientation | GrayscaleIgnoreOrientation | Unchanged),
            unchanged: matches!(p.color_type, Unchanged),
            max_pixels: p.max_pixels,
        })
    }
}

impl Transform for LoadImageFromFile {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        match sample.picture()? {
            Picture::File(file) => {
                (file.colors, file.turn, file.unchanged) = (self.colors, self.turn, self.unchanged);
                file.max_pixels = self.max_pixels;
            }
            Picture::Bytes(_) => {
                return Err(Error::invalid(
                    "LoadImageFromFile comes too late, the picture has been read: make it the first transform",
                ));
            }
            Picture::Values(_) => {}
        }
        Ok(())
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_in(fields)
    }
}
