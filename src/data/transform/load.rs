//! From a file to pixels.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::data::{Colors, Picture, Sample, Transform};
use crate::registry::BuildCx;

/// Says how the picture file of a sample is read. It is decoded when a transform behind this one needs its pixels; where the
/// data set keeps its images in memory, nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadImageFromFile {
    /// Which channels a file gives.
    pub colors: Colors,
    /// Whether to turn the picture as the EXIF data of its camera say.
    pub turn: bool,
}

/// What a file gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ColorType {
    /// Three channels.
    #[default]
    Color,
    /// Three channels; a picture stays as it is stored, whichever way the camera was held.
    ColorIgnoreOrientation,
    /// One channel.
    Grayscale,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct LoadParams {
    /// color, color_ignore_orientation or grayscale.
    color_type: ColorType,
    /// Order of three channels: bgr or rgb.
    channel_order: Colors,
    /// Accepted for the reference's configs; values are `f32` as soon as anything needs them.
    to_float32: bool,
}

crate::register! {
    /// Reads the sample's JPEG or PNG file, 3 channels in the order BGR unless told otherwise.
    dyn Transform, "LoadImageFromFile" => |p: LoadParams, _: &mut BuildCx| -> Result<Box<dyn Transform>> {
        let colors = if p.color_type == ColorType::Grayscale { Colors::Gray } else { p.channel_order };
        Ok(Box::new(LoadImageFromFile { colors, turn: p.color_type != ColorType::ColorIgnoreOrientation }))
    }
}

impl Transform for LoadImageFromFile {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        match &mut sample.picture {
            Picture::File(file) => (file.colors, file.turn) = (self.colors, self.turn),
            Picture::Bytes(_) => {
                return Err(Error::invalid(
                    "LoadImageFromFile comes too late, the picture has been read: make it the first transform",
                ));
            }
            Picture::Done => {}
        }
        Ok(())
    }

    fn takes_pictures(&self) -> bool {
        true
    }
}
