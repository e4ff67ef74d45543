//! A border around an image.

use std::num::NonZeroUsize;

use ndarray::{Array3, s};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::picture::affordable;
use crate::data::{FieldSpec, Fields, Sample, Transform};
use crate::registry::BuildCx;

use super::masks::{no_masks, picture_alone};
use super::pair;

/// Widths of a border in pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Border {
    /// Left of the image.
    pub left: usize,
    /// Above it.
    pub top: usize,
    /// Right of it.
    pub right: usize,
    /// Below it.
    pub bottom: usize,
}

impl Border {
    /// From one width for all sides, from two (left and right, top and bottom), or from four (left, top, right,
    /// bottom).
    ///
    /// # Errors
    /// [`Error::Config`] for another number of widths.
    pub fn from_widths(widths: &[usize]) -> Result<Self> {
        let (left, top, right, bottom) = match *widths {
            [all] => (all, all, all, all),
            [x, y] => (x, y, x, y),
            [left, top, right, bottom] => (left, top, right, bottom),
            _ => return Err(Error::config(format!("`padding` is 1, 2 or 4 numbers, got {}", widths.len()))),
        };
        Ok(Self { left, top, right, bottom })
    }

    /// The image with this border, filled with `value`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that is larger than an image may be.
    pub fn around(self, img: &Array3<f32>, value: f32) -> Result<Array3<f32>> {
        let (h, w, c) = img.dim();
        let (height, width) = (
            h.saturating_add(self.top).saturating_add(self.bottom),
            w.saturating_add(self.left).saturating_add(self.right),
        );
        affordable(height, width)?;
        let mut out = Array3::from_elem((height, width, c), value);
        out.slice_mut(s![self.top..self.top + h, self.left..self.left + w, ..]).assign(img);
        Ok(out)
    }
}

/// Enlarges an image: by a border, or on the right and at the bottom up to a size.
#[derive(Debug, Clone, PartialEq)]
pub enum Pad {
    /// To this width and height; an image that is larger stays as it is.
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Value of the new pixels.
        pad_val: f32,
    },
    /// By this border.
    Border {
        /// Its widths.
        border: Border,
        /// Value of the new pixels.
        pad_val: f32,
    },
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct PadConfig {
    /// Width and height to pad to, on the right and at the bottom: `[32, 24]`, or `32` for both.
    #[serde(default)]
    size: Option<OneOrMany<NonZeroUsize>>,
    /// Border in pixels: one number, `[left and right, top and bottom]` or `[left, top, right, bottom]`.
    #[serde(default)]
    padding: Option<OneOrMany<usize>>,
    /// Value of the new pixels.
    #[serde(default)]
    pad_val: f32,
}

crate::register! {
    /// Enlarges an image to a `size`, or by a border of `padding` pixels.
    ///
    /// ```yaml
    /// {type: Pad, size: [32, 24]}
    /// ```
    dyn Transform, "Pad" => fn Pad::from_config
}

impl Pad {
    fn from_config(p: PadConfig, _: &mut BuildCx) -> Result<Self> {
        let pad_val = p.pad_val;
        Ok(match (p.size, p.padding) {
            (Some(size), None) => {
                let (width, height) = pair("size", &size)?;
                Self::Size { width, height, pad_val }
            }
            (None, Some(padding)) => Self::Border { border: Border::from_widths(&padding)?, pad_val },
            _ => return Err(Error::config("give either `size` or `padding`")),
        })
    }
}

impl Transform for Pad {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        no_masks(sample)?;
        let values = sample.picture()?.values()?;
        let (h, w, _) = values.dim();
        let (border, value) = match *self {
            Self::Border { border, pad_val } => (border, pad_val),
            Self::Size { width, height, pad_val } => {
                let (right, bottom) = (width.saturating_sub(w), height.saturating_sub(h));
                (Border { right, bottom, ..Border::default() }, pad_val)
            }
        };
        if border != Border::default() {
            *values = border.around(values, value)?;
        }
        Ok(())
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

    fn padded(pad: &Pad) -> Array3<f32> {
        let mut sample = Sample::image(Array3::from_shape_fn((1, 2, 1), |(_, x, _)| x as f32 + 1.0), 0);
        pad.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap();
        sample.picture().unwrap().values().unwrap().clone()
    }

    #[test]
    fn to_a_size_at_the_right_and_the_bottom() {
        let out = padded(&Pad::Size { width: 3, height: 2, pad_val: 9.0 });
        assert_eq!((out.dim(), out.into_raw_vec_and_offset().0), ((2, 3, 1), vec![1., 2., 9., 9., 9., 9.]));
        assert_eq!(padded(&Pad::Size { width: 1, height: 1, pad_val: 9.0 }).dim(), (1, 2, 1));
    }

    #[test]
    fn by_a_border() {
        let border = Border { left: 1, top: 0, right: 2, bottom: 1 };
        let out = padded(&Pad::Border { border, pad_val: 0.0 });
        assert_eq!(out.dim(), (2, 5, 1));
        assert_eq!(out.into_raw_vec_and_offset().0, [0., 1., 2., 0., 0., 0., 0., 0., 0., 0.]);
    }
}
