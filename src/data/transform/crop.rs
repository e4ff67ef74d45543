//! A window at a random place.

use std::num::NonZeroUsize;

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::{FieldSpec, Fields, Sample, Transform, Window};
use crate::registry::BuildCx;

use super::masks::{change_masks, cut_mask, no_masks, picture_alone, picture_and_masks};
use super::{Border, pair};

/// Puts a border around the image and cuts a window out of it, every place being equally likely.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomCrop {
    /// Height of the window in pixels.
    pub height: usize,
    /// Width of the window in pixels.
    pub width: usize,
    /// The border.
    pub border: Border,
    /// Value of the border's pixels.
    pub pad_val: f32,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandomCropConfig {
    /// Height and width of the window in pixels: `[24, 32]`, or `32` for both.
    crop_size: OneOrMany<NonZeroUsize>,
    /// Border in pixels: one number, `[left and right, top and bottom]` or `[left, top, right, bottom]`.
    #[serde(default)]
    padding: Option<OneOrMany<usize>>,
    /// Value of the border's pixels.
    #[serde(default)]
    pad_val: f32,
}

crate::register! {
    /// A window at a random place of the image and the border around it.
    dyn Transform, "RandomCrop" => fn RandomCrop::from_config
}

impl RandomCrop {
    fn from_config(p: RandomCropConfig, _: &mut BuildCx) -> Result<Self> {
        let (height, width) = pair("crop_size", &p.crop_size)?;
        let border = p.padding.map_or(Ok(Border::default()), |padding| Border::from_widths(&padding))?;
        Ok(Self { height, width, border, pad_val: p.pad_val })
    }
}

impl Transform for RandomCrop {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        if self.border != Border::default() {
            no_masks(sample)?;
            let values = sample.picture()?.values()?;
            *values = self.border.around(values, self.pad_val)?;
        }
        let (height, width) = (self.height, self.width);
        let (h, w, _) = sample.picture()?.dim()?;
        if height > h || width > w {
            return Err(Error::invalid(format!(
                "RandomCrop: crop_size {height} × {width} (height × width) is larger than the image, {h} × {w} with its \
                 padding; pad or resize it before"
            )));
        }
        // 64-bit draws, so that the place is the same on every machine.
        let mut offset = |room: usize| rng.random_range(0..=room as u64) as usize;
        let window = Window { y: offset(h - height), x: offset(w - width), height, width };
        change_masks(sample, |mask| cut_mask(mask, window))?;
        sample.picture()?.cut(window)
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        match self.border == Border::default() {
            true => picture_and_masks(fields),
            // Nobody has said which class the border is of.
            false => picture_alone(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::Array3;
    use std::collections::BTreeSet;

    #[test]
    fn every_place_comes_and_no_other() {
        let img = Array3::from_shape_fn((2, 2, 1), |(y, x, _)| (2 * y + x + 1) as f32);
        let border = Border { left: 1, top: 1, right: 1, bottom: 1 };
        let crop = RandomCrop { height: 2, width: 2, border, pad_val: 0.0 };
        let mut seen = BTreeSet::new();
        for draw in 0..400 {
            let mut sample = Sample::image(img.clone(), 0);
            crop.apply(&mut sample, &mut keyed(0, "augment", draw, 0)).unwrap();
            seen.insert(
                sample.picture().unwrap().values().unwrap().iter().map(|&v| v as u8).collect::<Vec<_>>(),
            );
        }
        // 3 x 3 places of a 2 x 2 window in the 4 x 4 image, all different
        assert_eq!(seen.len(), 9);
        assert!(
            seen.contains(&vec![1, 2, 3, 4])
                && seen.contains(&vec![0, 0, 0, 1])
                && seen.contains(&vec![4, 0, 0, 0])
        );
    }

    #[test]
    fn too_large_a_window_is_an_error_with_both_sizes() {
        let crop = RandomCrop { height: 3, width: 2, border: Border::default(), pad_val: 0.0 };
        let error =
            crop.apply(&mut Sample::image(Array3::zeros((2, 2, 1)), 0), &mut keyed(0, "", 0, 0)).unwrap_err();
        assert!(
            error.to_string().contains("crop_size 3 × 2") && error.to_string().contains("2 × 2 with its"),
            "{error}"
        );
    }
}
