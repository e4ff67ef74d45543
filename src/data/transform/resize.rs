//! Another size for an image.

use std::num::NonZeroUsize;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::picture::Cut;
use crate::data::{Backend, FieldSpec, Fields, Filter, Interpolation, Sample, Transform, Window};
use crate::registry::BuildCx;

use super::masks::{no_masks, picture_alone};
use super::pair;

/// Resizes to `width` × `height`. Pixel centres lie at halves, as in OpenCV, Pillow, and PyTorch with
/// `align_corners=False`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Whether to keep the ratio of the sides: the image becomes as large as fits into the longer and the shorter of
    /// the two lengths, whichever way round it lies.
    pub keep_ratio: bool,
    /// How values between pixels are found.
    pub filter: Filter,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ResizeConfig {
    /// Width and height in pixels: `[32, 24]`, or `32` for both.
    #[schemars(schema_with = "sides")]
    scale: OneOrMany<NonZeroUsize>,
    /// Whether to keep the ratio of the sides; the image then becomes as large as fits into `scale`.
    #[serde(default)]
    keep_ratio: bool,
    /// Whose way of resizing is meant: cv2 (no smoothing when an image shrinks) or pillow (smoothing).
    #[serde(default)]
    backend: Backend,
    /// nearest, bilinear, bicubic or lanczos; area of cv2; box and hamming of pillow.
    #[serde(default)]
    interpolation: Interpolation,
}

/// One side or two, of an image that a few samples of fit into memory.
fn sides(_: &mut SchemaGenerator) -> Schema {
    let side = json_schema!({ "type": "integer", "minimum": 1, "maximum": 16_384 });
    json_schema!({ "anyOf": [side, { "type": "array", "items": side }] })
}

crate::register! {
    /// Another size for the image. Pictures stay bytes; images of values are not rounded.
    dyn Transform, "Resize" => fn Resize::from_config
}

impl Resize {
    fn from_config(p: ResizeConfig, _: &mut BuildCx) -> Result<Self> {
        let (width, height) = pair("scale", &p.scale)?;
        let filter = Filter::new(p.backend, p.interpolation)?;
        Ok(Self { width, height, keep_ratio: p.keep_ratio, filter })
    }
}

impl Resize {
    /// Height and width that an image of this height and width gets.
    fn target(&self, height: usize, width: usize) -> (usize, usize) {
        if !self.keep_ratio {
            return (self.height, self.width);
        }
        let fit = |room: usize, side: usize| room as f64 / side as f64;
        let long = fit(self.width.max(self.height), width.max(height));
        let short = fit(self.width.min(self.height), width.min(height));
        let scaled = |side: usize| ((side as f64 * long.min(short) + 0.5) as usize).max(1);
        (scaled(height), scaled(width))
    }
}

impl Transform for Resize {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        no_masks(sample)?;
        sample.picture()?.rescale(self.filter, |h, w| {
            if h == 0 || w == 0 {
                return Err(Error::invalid(format!("an image of {h} × {w} pixels cannot be resized")));
            }
            let (height, width) = self.target(h, w);
            Ok(Cut { window: Window { y: 0, x: 0, height: h, width: w }, height, width })
        })
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_alone(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::Array3;

    fn resized(img: Array3<f32>, resize: &Resize) -> Array3<f32> {
        let mut sample = Sample::image(img, 0);
        resize.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap();
        sample.picture().unwrap().values().unwrap().clone()
    }

    fn to(height: usize, width: usize, interpolation: Interpolation) -> Resize {
        Resize { width, height, keep_ratio: false, filter: Filter { backend: Backend::Cv2, interpolation } }
    }

    #[test]
    fn a_line_stays_a_line_inside_and_is_flat_at_the_rim() {
        let img = Array3::from_shape_fn((1, 4, 1), |(_, x, _)| x as f32);
        let out = resized(img, &to(1, 8, Interpolation::Bilinear));
        assert_eq!(out.iter().copied().collect::<Vec<_>>(), [0., 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.]);
    }

    #[test]
    fn nearest_takes_the_pixel_that_covers_the_place() {
        let img = Array3::from_shape_fn((1, 3, 2), |(_, x, c)| (10 * x + c) as f32);
        let out = resized(img, &to(2, 5, Interpolation::Nearest));
        // floor(x * 3 / 5) = 0 0 1 1 2
        let row = [0., 1., 0., 1., 10., 11., 10., 11., 20., 21.];
        assert_eq!(out.iter().copied().collect::<Vec<_>>(), [row, row].concat());
    }

    #[test]
    fn keep_ratio_fits_into_the_longer_and_the_shorter_side() {
        let resize = |width, height| Resize { width, height, keep_ratio: true, filter: Filter::CV2 };
        // MMCV: scale (1333, 800) for 480 x 640 gives 800 x 1067
        assert_eq!(resize(1333, 800).target(480, 640), (800, 1067));
        assert_eq!(resize(800, 1333).target(640, 480), (1067, 800));
        assert_eq!(resize(4, 4).target(1, 100), (1, 4));
    }
}
