//! What is done to a picture.

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Result, Rng};
use crate::data::picture::{Affine, Canvas, Table, Warp, equalized, stretched, table};
use crate::data::transform::erase::Rectangle;
use crate::data::{Backend, Interpolation, Picture, Window};

/// What is done to a picture; how strongly, `m`, is said apart. Those that move pixels take pictures of any values, the
/// others bytes: values from 0 to 255 become bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Each channel is stretched so that its darkest value is 0 and its lightest 255.
    AutoContrast,
    /// `255 - x`.
    Invert,
    /// The values of each channel are spread so that all are about equally often.
    Equalize,
    /// Values of `m` and above become `255 - x`.
    Solarize,
    /// `m` is added to values below `below`.
    SolarizeAdd {
        /// Values from here on stay.
        below: f64,
    },
    /// The first `m` bits of each value stay, the others are 0.
    Posterize,
    /// `1 + m` of the picture and `-m` of its mean lightness.
    Contrast,
    /// `1 + m` of the picture and `-m` of its lightness.
    ColorTransform,
    /// `1 + m` of the picture.
    Brightness,
    /// `1 + m` of the picture and `-m` of a smooth one.
    Sharpness,
    /// Blurs by a Gaussian with the standard deviation `m`.
    GaussianBlur,
    /// A rectangle at any place gets one colour; where it leaves the picture it is cut off.
    Cutout {
        /// Height and width; both are `m` if not given.
        shape: Option<[usize; 2]>,
        /// The colour: one number, or one for each channel.
        pad_val: Vec<f64>,
    },
    /// Columns move by `m` of their row, or rows by `m` of their column.
    Shear {
        /// What moves.
        along: Along,
        /// What becomes visible.
        outside: Outside,
    },
    /// Everything moves by `m` of a side.
    Translate {
        /// Where to.
        along: Along,
        /// What becomes visible.
        outside: Outside,
    },
    /// Turns by `m` degrees, clockwise.
    Rotate {
        /// The point around which it turns, x and y; the middle if not given.
        center: Option<[f64; 2]>,
        /// What lengths are multiplied by.
        scale: f64,
        /// What becomes visible.
        outside: Outside,
    },
}

/// A direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Along {
    /// Along rows.
    #[default]
    Horizontal,
    /// Along columns.
    Vertical,
}

/// What pixels that moved are made of, and what lies where there was none.
#[derive(Debug, Clone, PartialEq)]
pub struct Outside {
    /// The colour where there was no pixel: one number, or one for each channel.
    pub pad_val: Vec<f64>,
    /// How values between pixels are found.
    pub interpolation: Interpolation,
}

impl Op {
    /// Whether pixels move.
    pub(super) fn moves(&self) -> bool {
        matches!(self, Self::Shear { .. } | Self::Translate { .. } | Self::Rotate { .. })
    }

    /// Does it to `picture`, with strength `m`.
    pub(super) fn edit(&self, picture: &mut Picture, m: f64, rng: &mut Rng) -> Result<()> {
        match self {
            Self::Cutout { shape, pad_val } => {
                let (h, w, _) = picture.dim()?;
                let window = hole(h, w, shape.unwrap_or([m.max(0.0) as usize; 2]), rng);
                picture.draw(Rectangle { window, color: pad_val, key: "pad_val" })
            }
            Self::Shear { along: Along::Horizontal, outside } => warp(picture, Affine::shear_x(m), outside),
            Self::Shear { along: Along::Vertical, outside } => warp(picture, Affine::shear_y(m), outside),
            Self::Translate { along, outside } => {
                let (h, w, _) = picture.dim()?;
                let shift = match along {
                    Along::Horizontal => Affine::shift(m * w as f64, 0.0),
                    Along::Vertical => Affine::shift(0.0, m * h as f64),
                };
                warp(picture, shift, outside)
            }
            Self::Rotate { center, scale, outside } => {
                let (h, w, _) = picture.dim()?;
                let middle = [w, h].map(|side| (side as f64 - 1.0) / 2.0);
                warp(picture, Affine::rotation(m, center.unwrap_or(middle), *scale), outside)
            }
            _ => {
                self.tint(&mut picture.as_bytes()?, m);
                Ok(())
            }
        }
    }

    /// Those that change bytes where they are.
    fn tint(&self, canvas: &mut Canvas<'_, u8>, m: f64) {
        let factor = 1.0 + m;
        match self {
            Self::AutoContrast => canvas.map(|channel, canvas| stretched(&canvas.histogram(channel))),
            Self::Equalize => canvas.map(|channel, canvas| equalized(&canvas.histogram(channel))),
            Self::Contrast => canvas.contrast(factor, Backend::Cv2),
            Self::ColorTransform => canvas.saturate(factor, Backend::Cv2),
            Self::Brightness => canvas.brighten(factor, Backend::Cv2),
            Self::Sharpness => canvas.sharpen(factor),
            Self::GaussianBlur => canvas.blur(m),
            _ => {
                let table = self.table(m);
                canvas.map(|_, _| table);
            }
        }
    }

    /// Those that change each byte by itself.
    fn table(&self, m: f64) -> Table {
        match self {
            Self::Invert => table(|v| 255.0 - v),
            Self::Solarize => table(|v| if f64::from(v) < m { v } else { 255.0 - v }),
            Self::SolarizeAdd { below } => {
                table(|v| if f64::from(v) < *below { (f64::from(v) + m).min(255.0) as f32 } else { v })
            }
            // As timm does, up to the next whole number of bits.
            Self::Posterize => {
                let shift = 8 - m.ceil().clamp(0.0, 8.0) as u32;
                std::array::from_fn(|byte| ((byte >> shift) << shift) as u8)
            }
            _ => table(|v| v),
        }
    }
}

/// A rectangle around any place of the picture, as far as it lies within: MMCV's, whose place need not be whole.
fn hole(h: usize, w: usize, [tall, wide]: [usize; 2], rng: &mut Rng) -> Window {
    let mut first = |side: usize, len: usize| {
        let middle = side as f64 * rng.random::<f64>();
        (middle - len as f64 / 2.0).max(0.0) as usize
    };
    let (y, x) = (first(h, tall), first(w, wide));
    Window { y, x, height: tall.min(h.saturating_sub(y)), width: wide.min(w.saturating_sub(x)) }
}

fn warp(picture: &mut Picture, map: Affine, outside: &Outside) -> Result<()> {
    picture.draw(Warp { map, interpolation: outside.interpolation, fill: &outside.pad_val })
}
