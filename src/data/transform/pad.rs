//! An image that becomes larger.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::{FieldSpec, Fields, Sample, Transform};
use crate::registry::BuildCx;

use super::border::{PaddingMode, black};
use super::masks::{no_masks, picture_alone};
use super::{Border, Filling, pair};

/// Enlarges an image: by a border, or on the right and at the bottom up to a size.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// How far.
    pub to: PadTo,
    /// What the new pixels hold.
    pub filling: Filling,
}

/// How far an image is enlarged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PadTo {
    /// To this width and height; an image that is larger stays as it is.
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// To sides that are multiples of this, and to equal ones if it is to be a square.
    Multiple {
        /// Of how many pixels.
        of: usize,
        /// Whether the shorter side becomes as long as the longer one.
        square: bool,
    },
    /// By this border.
    Border(Border),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct PadConfig {
    /// Width and height to pad to, on the right and at the bottom: `[32, 24]`, or `32` for both.
    #[serde(default)]
    size: Option<OneOrMany<NonZeroUsize>>,
    /// Pads both sides to multiples of so many pixels.
    #[serde(default)]
    size_divisor: Option<NonZeroUsize>,
    /// Pads the shorter side to the longer one; with `size_divisor` both to a multiple of that.
    #[serde(default)]
    pad_to_square: bool,
    /// Border in pixels: one number, `[left and right, top and bottom]` or `[left, top, right, bottom]`.
    #[serde(default)]
    padding: Option<OneOrMany<usize>>,
    /// Value of the new pixels, or a list with one for each channel.
    #[serde(default = "black")]
    pad_val: OneOrMany<f32>,
    /// constant (by `pad_val`), edge (the nearest pixel again), reflect (a mirror image without the rim) or symmetric
    /// (with it).
    #[serde(default)]
    padding_mode: PaddingMode,
}

crate::register! {
    /// Enlarges an image to a `size`, to a square, to a multiple, or by a border of `padding` pixels.
    ///
    /// ```yaml
    /// {type: Pad, size: [32, 24]}
    /// ```
    dyn Transform, "Pad" => fn Pad::from_config
}

impl Pad {
    fn from_config(p: PadConfig, _: &mut BuildCx) -> Result<Self> {
        let to = match (p.size, p.padding, p.size_divisor, p.pad_to_square) {
            (Some(size), None, None, false) => {
                let (width, height) = pair("size", &size)?;
                PadTo::Size { width, height }
            }
            (None, Some(padding), None, false) => PadTo::Border(Border::from_widths(&padding)?),
            (None, None, None, true) => PadTo::Multiple { of: 1, square: true },
            (None, None, Some(of), square) => PadTo::Multiple { of: of.get(), square },
            _ => {
                return Err(Error::config(
                    "give either `size` or `padding`, or `size_divisor`, `pad_to_square` or both of these",
                ));
            }
        };
        Ok(Self { to, filling: Filling::new(p.padding_mode, p.pad_val.0)? })
    }
}

impl PadTo {
    /// What is added to an image of this height and width.
    fn border(self, h: usize, w: usize) -> Border {
        let (height, width) = match self {
            Self::Border(border) => return border,
            Self::Size { width, height } => (height, width),
            Self::Multiple { of, square } => {
                let up = |side: usize| side.checked_next_multiple_of(of).unwrap_or(usize::MAX);
                if square { (up(h.max(w)), up(h.max(w))) } else { (up(h), up(w)) }
            }
        };
        Border { right: width.saturating_sub(w), bottom: height.saturating_sub(h), ..Border::default() }
    }
}

impl Transform for Pad {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        no_masks(sample)?;
        let values = sample.picture()?.values()?;
        let (h, w, _) = values.dim();
        let border = self.to.border(h, w);
        if border != Border::default() {
            *values = border.around(values, &self.filling)?;
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
    use ndarray::Array3;

    fn padded(to: PadTo, value: f32) -> Array3<f32> {
        let mut sample = Sample::image(Array3::from_shape_fn((1, 2, 1), |(_, x, _)| x as f32 + 1.0), 0);
        let pad = Pad { to, filling: Filling::Constant(vec![value]) };
        pad.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap();
        sample.picture().unwrap().values().unwrap().clone()
    }

    #[test]
    fn to_a_size_at_the_right_and_the_bottom() {
        let out = padded(PadTo::Size { width: 3, height: 2 }, 9.0);
        assert_eq!((out.dim(), out.into_raw_vec_and_offset().0), ((2, 3, 1), vec![1., 2., 9., 9., 9., 9.]));
        assert_eq!(padded(PadTo::Size { width: 1, height: 1 }, 9.0).dim(), (1, 2, 1));
    }

    #[test]
    fn to_a_square_and_to_multiples() {
        let sides = |of, square| padded(PadTo::Multiple { of, square }, 0.0).dim();
        assert_eq!(sides(1, true), (2, 2, 1));
        assert_eq!(sides(3, false), (3, 3, 1));
        assert_eq!(
            PadTo::Multiple { of: 32, square: true }.border(64, 33),
            Border { right: 31, ..Border::default() }
        );
        assert_eq!(PadTo::Multiple { of: 32, square: false }.border(64, 32), Border::default());
    }

    #[test]
    fn by_a_border() {
        let border = Border { left: 1, top: 0, right: 2, bottom: 1 };
        let out = padded(PadTo::Border(border), 0.0);
        assert_eq!(out.dim(), (2, 5, 1));
        assert_eq!(out.into_raw_vec_and_offset().0, [0., 1., 2., 0., 0., 0., 0., 0., 0., 0.]);
    }
}
