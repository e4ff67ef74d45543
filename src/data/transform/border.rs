//! A border around an image.

use ndarray::{Array3, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::data::picture::affordable;

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

/// What the pixels of a border hold; the names are those of MMCV.
#[derive(Debug, Clone, PartialEq)]
pub enum Filling {
    /// One value for all channels, or one for each.
    Constant(Vec<f32>),
    /// What the nearest pixel at the rim holds.
    Edge,
    /// A mirror image that does not repeat the rim: `3 2 | 1 2 3 4 | 3 2`.
    Reflect,
    /// A mirror image that repeats the rim: `2 1 | 1 2 3 4 | 4 3`.
    Symmetric,
}

impl Default for Filling {
    fn default() -> Self {
        Self::Constant(vec![0.0])
    }
}

/// What a config calls a [`Filling`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PaddingMode {
    #[default]
    Constant,
    Edge,
    Reflect,
    Symmetric,
}

/// `pad_val` of a config that does not say it.
pub(super) fn black() -> OneOrMany<f32> {
    OneOrMany(vec![0.0])
}

impl Filling {
    /// From `padding_mode` and `pad_val` of a config.
    pub(super) fn new(mode: PaddingMode, value: Vec<f32>) -> Result<Self> {
        if mode != PaddingMode::Constant && value.iter().any(|value| *value != 0.0) {
            return Err(Error::config("`pad_val` is for `padding_mode: constant`, leave one of them out"));
        }
        Ok(match mode {
            PaddingMode::Constant if value.is_empty() => {
                return Err(Error::config("`pad_val` is one number, or one for each channel, got none"));
            }
            PaddingMode::Constant => Self::Constant(value),
            PaddingMode::Edge => Self::Edge,
            PaddingMode::Reflect => Self::Reflect,
            PaddingMode::Symmetric => Self::Symmetric,
        })
    }

    /// Which of `n` pixels in a row is seen at the place `at`, which may lie before or behind them.
    fn source(&self, at: isize, n: isize) -> isize {
        // Mirrors that face each other show the row again and again.
        let (period, rim) = match self {
            Self::Constant(_) | Self::Edge => return at.clamp(0, n - 1),
            Self::Reflect => ((2 * n - 2).max(1), 2 * n - 2),
            Self::Symmetric => (2 * n, 2 * n - 1),
        };
        let at = at.rem_euclid(period);
        if at < n { at } else { rim - at }
    }
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

    /// The image with this border.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that is larger than an image may be, when there is another number of values than of
    /// channels, or no pixel to repeat.
    pub fn around(self, img: &Array3<f32>, filling: &Filling) -> Result<Array3<f32>> {
        let (h, w, c) = img.dim();
        let (height, width) = (
            h.saturating_add(self.top).saturating_add(self.bottom),
            w.saturating_add(self.left).saturating_add(self.right),
        );
        affordable(height, width)?;
        let Filling::Constant(values) = filling else {
            if h == 0 || w == 0 {
                return Err(Error::invalid(format!(
                    "an image of {h} × {w} pixels has none to repeat around it"
                )));
            }
            let at = |place: usize, before: usize, n: usize| {
                filling.source(place as isize - before as isize, n as isize) as usize
            };
            let columns: Vec<usize> = (0..width).map(|x| at(x, self.left, w)).collect();
            let rows: Vec<usize> = (0..height).map(|y| at(y, self.top, h)).collect();
            return Ok(Array3::from_shape_fn((height, width, c), |(y, x, c)| img[[rows[y], columns[x], c]]));
        };
        if values.len() != 1 && values.len() != c {
            return Err(Error::invalid(format!(
                "`pad_val` is one number, or one for each of the {c} channels of the image, got {}",
                values.len()
            )));
        }
        let mut out = Array3::from_shape_fn((height, width, c), |(_, _, c)| {
            values[if values.len() == 1 { 0 } else { c }]
        });
        out.slice_mut(s![self.top..self.top + h, self.left..self.left + w, ..]).assign(img);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of 1, 2, … with so many pixels around it.
    fn row(n: usize, around: usize, filling: &Filling) -> Vec<f32> {
        let img = Array3::from_shape_fn((1, n, 1), |(_, x, _)| x as f32 + 1.0);
        let border = Border { left: around, right: around, ..Border::default() };
        border.around(&img, filling).unwrap().into_raw_vec_and_offset().0
    }

    #[test]
    fn rows_go_on_as_mmcv_says() {
        // The examples of MMCV's documentation, and numpy.pad's for a border that is wider than the image.
        assert_eq!(row(4, 2, &Filling::Reflect), [3., 2., 1., 2., 3., 4., 3., 2.]);
        assert_eq!(row(4, 2, &Filling::Symmetric), [2., 1., 1., 2., 3., 4., 4., 3.]);
        assert_eq!(row(4, 2, &Filling::Edge), [1., 1., 1., 2., 3., 4., 4., 4.]);
        assert_eq!(row(2, 3, &Filling::Reflect), [2., 1., 2., 1., 2., 1., 2., 1.]);
        assert_eq!(row(2, 3, &Filling::Symmetric), [2., 2., 1., 1., 2., 2., 1., 1.]);
        assert_eq!(row(1, 2, &Filling::Reflect), [1.; 5]);
    }

    #[test]
    fn a_value_for_each_channel() {
        let border = Border { top: 1, ..Border::default() };
        let around = |values: &[f32]| {
            border.around(&Array3::from_elem((1, 1, 2), 5.0), &Filling::Constant(values.to_vec()))
        };
        assert_eq!(around(&[7.0, 8.0]).unwrap().into_raw_vec_and_offset().0, [7., 8., 5., 5.]);
        let error = around(&[7.0, 8.0, 9.0]).unwrap_err().to_string();
        assert!(error.contains("one for each of the 2 channels of the image, got 3"), "{error}");
        let none = border.around(&Array3::zeros((0, 3, 1)), &Filling::Edge).unwrap_err().to_string();
        assert_eq!(none, "an image of 0 × 3 pixels has none to repeat around it");
    }
}
