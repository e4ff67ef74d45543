//! A window in the middle.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Result, Rng};
use crate::config::OneOrMany;
use crate::data::{FieldSpec, Fields, Sample, Transform, Window};
use crate::registry::BuildCx;

use super::masks::{change_masks, cut_mask, picture_and_masks};
use super::pair;

/// Cuts a window out of the middle. A side on which the image is smaller stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CenterCrop {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct CenterCropConfig {
    /// Width and height of the window in pixels: `[32, 24]`, or `32` for both.
    crop_size: OneOrMany<NonZeroUsize>,
}

crate::register! {
    /// The window in the middle of the image; a side that is smaller than it stays.
    dyn Transform, "CenterCrop" => fn CenterCrop::from_config
}

impl CenterCrop {
    fn from_config(p: CenterCropConfig, _: &mut BuildCx) -> Result<Self> {
        let (width, height) = pair("crop_size", &p.crop_size)?;
        Ok(Self { width, height })
    }
}

impl CenterCrop {
    fn window(&self, h: usize, w: usize) -> Window {
        let (height, width) = (self.height.min(h), self.width.min(w));
        // MMPretrain rounds halves to even.
        let middle = |room: usize| (room as f64 / 2.0).round_ties_even() as usize;
        Window { y: middle(h - height), x: middle(w - width), height, width }
    }
}

impl Transform for CenterCrop {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        let (h, w, _) = sample.picture()?.dim()?;
        let window = self.window(h, w);
        change_masks(sample, |mask| cut_mask(mask, window))?;
        sample.picture()?.cut(window)
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_and_masks(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::Array3;

    #[test]
    fn halves_go_to_the_even_place_and_small_sides_stay() {
        let window = |size: (usize, usize), h, w| {
            let Window { y, x, height, width } = CenterCrop { width: size.0, height: size.1 }.window(h, w);
            (y, x, height, width)
        };
        assert_eq!(window((224, 224), 256, 341), (16, 58, 224, 224)); // 117 / 2 = 58.5
        assert_eq!(window((2, 2), 5, 9), (2, 4, 2, 2)); // 1.5 and 3.5
        assert_eq!(window((10, 2), 3, 4), (0, 0, 2, 4)); // 0.5
    }

    #[test]
    fn values_and_bytes_alike() {
        let bytes = Array3::from_shape_fn((4, 6, 3), |(y, x, c)| (40 * y + 4 * x + c) as u8);
        let mut of_bytes = Sample::of_bytes(bytes.clone(), 0);
        let mut of_values = Sample::image(bytes.mapv(f32::from), 0);
        for sample in [&mut of_bytes, &mut of_values] {
            CenterCrop { width: 2, height: 2 }.apply(sample, &mut keyed(0, "", 0, 0)).unwrap();
        }
        let [of_bytes, of_values] =
            [&mut of_bytes, &mut of_values].map(|s| s.picture().unwrap().values().unwrap().clone());
        assert_eq!(of_bytes, of_values);
        assert_eq!(of_bytes[[1, 1, 2]], (40.0 * 2.0) + (4.0 * 3.0) + 2.0);
    }
}
