//! A window at a random place.

use std::num::NonZeroUsize;

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::{FieldSpec, Fields, Sample, Transform, Window};
use crate::registry::BuildCx;

use super::border::{PaddingMode, black};
use super::masks::{change_masks, cut_mask, no_masks, picture_alone, picture_and_masks};
use super::{Border, Filling, pair};

/// Puts a border around the image and cuts a window out of it, every place being equally likely.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomCrop {
    /// Height of the window in pixels.
    pub height: usize,
    /// Width of the window in pixels.
    pub width: usize,
    /// The border.
    pub border: Border,
    /// Whether an image that is smaller than the window then gets a further border, as wide on both sides.
    pub pad_if_needed: bool,
    /// What the border's pixels hold.
    pub filling: Filling,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandomCropConfig {
    /// Height and width of the window in pixels: `[24, 32]`, or `32` for both.
    crop_size: OneOrMany<NonZeroUsize>,
    /// Border in pixels: one number, `[left and right, top and bottom]` or `[left, top, right, bottom]`.
    #[serde(default)]
    padding: Option<OneOrMany<usize>>,
    /// Whether an image that is smaller than the window gets a border, as wide on both sides; an error otherwise.
    #[serde(default)]
    pad_if_needed: bool,
    /// Value of the border's pixels, or a list with one for each channel.
    #[serde(default = "black")]
    pad_val: OneOrMany<f32>,
    /// constant (by `pad_val`), edge (the nearest pixel again), reflect (a mirror image without the rim) or symmetric
    /// (with it).
    #[serde(default)]
    padding_mode: PaddingMode,
}

crate::register! {
    /// A window at a random place of the image and the border around it.
    dyn Transform, "RandomCrop" => fn RandomCrop::from_config
}

impl RandomCrop {
    fn from_config(p: RandomCropConfig, _: &mut BuildCx) -> Result<Self> {
        let (height, width) = pair("crop_size", &p.crop_size)?;
        let border = p.padding.map_or(Ok(Border::default()), |padding| Border::from_widths(&padding))?;
        let filling = Filling::new(p.padding_mode, p.pad_val.0)?;
        Ok(Self { height, width, border, pad_if_needed: p.pad_if_needed, filling })
    }

    /// What an image of this height and width gets around it.
    fn border_of(&self, h: usize, w: usize) -> Border {
        let Border { left, top, right, bottom } = self.border;
        let lacking = |window: usize, side: usize, border: usize| {
            let lacking = window.saturating_sub(side.saturating_add(border)).div_ceil(2);
            if self.pad_if_needed { lacking } else { 0 }
        };
        let x = lacking(self.width, w, left.saturating_add(right));
        let y = lacking(self.height, h, top.saturating_add(bottom));
        Border { left: left + x, top: top + y, right: right + x, bottom: bottom + y }
    }
}

impl Transform for RandomCrop {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let (h, w, _) = sample.picture()?.dim()?;
        let border = self.border_of(h, w);
        if border != Border::default() {
            no_masks(sample)?;
            let values = sample.picture()?.values()?;
            *values = border.around(values, &self.filling)?;
        }
        let (height, width) = (self.height, self.width);
        let (h, w, _) = sample.picture()?.dim()?;
        if height > h || width > w {
            return Err(Error::invalid(format!(
                "RandomCrop: crop_size {height} × {width} (height × width) is larger than the image, {h} × {w} with its \
                 padding; `pad_if_needed: true` pads it"
            )));
        }
        // 64-bit draws, so that the place is the same on every machine.
        let mut offset = |room: usize| rng.random_range(0..=room as u64) as usize;
        let window = Window { y: offset(h - height), x: offset(w - width), height, width };
        change_masks(sample, |mask| cut_mask(mask, window))?;
        sample.picture()?.cut(window)
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        match self.border == Border::default() && !self.pad_if_needed {
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

    fn crop(height: usize, width: usize) -> RandomCrop {
        let (border, filling) = (Border::default(), Filling::default());
        RandomCrop { height, width, border, pad_if_needed: false, filling }
    }

    #[test]
    fn every_place_comes_and_no_other() {
        let img = Array3::from_shape_fn((2, 2, 1), |(y, x, _)| (2 * y + x + 1) as f32);
        let border = Border { left: 1, top: 1, right: 1, bottom: 1 };
        let crop = RandomCrop { border, ..crop(2, 2) };
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
        let error = crop(3, 2)
            .apply(&mut Sample::image(Array3::zeros((2, 2, 1)), 0), &mut keyed(0, "", 0, 0))
            .unwrap_err();
        assert!(
            error.to_string().contains("crop_size 3 × 2") && error.to_string().contains("2 × 2 with its"),
            "{error}"
        );
    }

    #[test]
    fn a_small_image_is_padded_where_it_is_asked_for() {
        let mut sample = Sample::image(Array3::from_shape_fn((1, 2, 1), |(_, x, _)| x as f32 + 1.0), 0);
        let wide = RandomCrop { pad_if_needed: true, filling: Filling::Symmetric, ..crop(1, 6) };
        wide.apply(&mut sample, &mut keyed(0, "augment", 0, 0)).unwrap();
        let seen: Vec<f32> = sample.picture().unwrap().values().unwrap().iter().copied().collect();
        assert_eq!(seen, [2., 1., 1., 2., 2., 1.]);
        // MMPretrain rounds up, so that both sides are alike: 5 - 2 makes two each, and the window has two places.
        let odd = RandomCrop { pad_if_needed: true, ..crop(1, 5) };
        assert_eq!(odd.border_of(1, 2), Border { left: 2, right: 2, ..Border::default() });
        let border = Border { left: 3, ..Border::default() };
        assert_eq!(RandomCrop { border, ..odd }.border_of(1, 2), border);
    }
}
