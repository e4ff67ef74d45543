//! Another size for an image.

use std::num::NonZeroUsize;

use ndarray::{Array3, ArrayView3};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::{Sample, Transform};
use crate::registry::BuildCx;

use super::pair;

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Straight lines between pixel centres; nothing is smoothed before an image shrinks.
    #[default]
    Bilinear,
    /// The pixel that covers the place.
    Nearest,
}

/// Resizes to `width` × `height`. Pixel centres lie at halves, as in OpenCV and in PyTorch with `align_corners=False`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Whether to keep the ratio of the sides: the image becomes as large as fits into the longer and the shorter of the two
    /// lengths, whichever way round it lies.
    pub keep_ratio: bool,
    /// How values between pixels are found.
    pub interpolation: Interpolation,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ResizeParams {
    /// Width and height in pixels: `[32, 24]`, or `32` for both.
    scale: OneOrMany<NonZeroUsize>,
    /// Whether to keep the ratio of the sides; the image then becomes as large as fits into `scale`.
    #[serde(default)]
    keep_ratio: bool,
    /// How values between pixels are found: bilinear or nearest.
    #[serde(default)]
    interpolation: Interpolation,
}

crate::register! {
    /// Another size for the image, as OpenCV and PyTorch (`align_corners=False`) compute it, without rounding.
    dyn Transform, "Resize" => |p: ResizeParams, _: &mut BuildCx| -> Result<Box<dyn Transform>> {
        let (width, height) = pair("scale", &p.scale)?;
        Ok(Box::new(Resize { width, height, keep_ratio: p.keep_ratio, interpolation: p.interpolation }))
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
        let (h, w, _) = sample.img.dim();
        if h == 0 || w == 0 {
            return Err(Error::invalid(format!("an image of {h} × {w} pixels cannot be resized")));
        }
        let (to_h, to_w) = self.target(h, w);
        if (to_h, to_w) == (h, w) {
            return Ok(());
        }
        sample.img = match self.interpolation {
            Interpolation::Bilinear => bilinear(sample.img.view(), to_h, to_w),
            Interpolation::Nearest => nearest(sample.img.view(), to_h, to_w),
        };
        Ok(())
    }
}

/// The two values that a new one lies between, and the weight of the second.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

/// Taps along an axis whose pixels have `channels` values each.
fn taps(from: usize, to: usize, channels: usize) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let mut all = Vec::with_capacity(to * channels);
    for i in 0..to {
        let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (at as usize).min(from - 1);
        let (weight, high) = (at - low as f32, (low + 1).min(from - 1));
        all.extend((0..channels).map(|c| Tap { low: low * channels + c, high: high * channels + c, weight }));
    }
    all
}

/// First along rows, then along columns: two blends a value instead of three, and the second runs over whole rows.
fn bilinear(img: ArrayView3<'_, f32>, height: usize, width: usize) -> Array3<f32> {
    let (h, w, channels) = img.dim();
    let img = img.as_standard_layout();
    let values = img.as_slice().unwrap_or_default();
    let (columns, rows) = (taps(w, width, channels), taps(h, height, 1));
    let row_len = width * channels;

    let mut wide = Vec::with_capacity(h * row_len);
    for row in values.chunks_exact((w * channels).max(1)) {
        wide.extend(columns.iter().map(|tap| row[tap.low] + tap.weight * (row[tap.high] - row[tap.low])));
    }
    let mut out = Vec::with_capacity(height * row_len);
    for tap in &rows {
        let (a, b) = (&wide[tap.low * row_len..][..row_len], &wide[tap.high * row_len..][..row_len]);
        out.extend(a.iter().zip(b).map(|(a, b)| a + tap.weight * (b - a)));
    }
    Array3::from_shape_vec((height, width, channels), out).unwrap_or_default()
}

fn nearest(img: ArrayView3<'_, f32>, height: usize, width: usize) -> Array3<f32> {
    let (h, w, channels) = img.dim();
    Array3::from_shape_fn((height, width, channels), |(y, x, c)| img[[y * h / height, x * w / width, c]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;

    fn resized(img: Array3<f32>, resize: &Resize) -> Array3<f32> {
        let mut sample = Sample::new(img, 0);
        resize.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap();
        sample.img
    }

    fn to(height: usize, width: usize, interpolation: Interpolation) -> Resize {
        Resize { width, height, keep_ratio: false, interpolation }
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
        let resize = |width, height| Resize {
            width,
            height,
            keep_ratio: true,
            interpolation: Interpolation::Bilinear,
        };
        // reference: scale (1333, 800) for 480 x 640 gives 800 x 1067
        assert_eq!(resize(1333, 800).target(480, 640), (800, 1067));
        assert_eq!(resize(800, 1333).target(640, 480), (1067, 800));
        assert_eq!(resize(4, 4).target(1, 100), (1, 4));
    }
}
