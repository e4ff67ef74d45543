//! EfficientNet's crops: a window whose size goes by the shorter side, resized.

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::data::picture::{Cut, affordable};
use crate::data::{Backend, FieldSpec, Fields, Filter, Interpolation, Sample, Transform, Window};
use crate::registry::BuildCx;

use super::masks::{no_masks, picture_alone};
use super::resized_crop::{area, aspect, attempts, ordered};

/// The window in the middle whose sides are `size / (size + padding)` of the image's shorter one, resized to `size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EfficientNetCenterCrop {
    /// Width and height that the window gets, in pixels.
    pub size: usize,
    /// What the window would have around it, were the image resized to `size + padding`.
    pub padding: usize,
    /// How values between pixels are found.
    pub filter: Filter,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct EfficientNetCenterCropConfig {
    /// Width and height that the window gets, in pixels.
    #[schemars(range(min = 1))]
    crop_size: usize,
    /// What the window would have around it, were the image resized to `crop_size + crop_padding`.
    #[serde(default = "padding")]
    crop_padding: usize,
    /// nearest, bilinear, bicubic or lanczos; area of cv2; box and hamming of pillow.
    #[serde(default = "bicubic")]
    interpolation: Interpolation,
    /// Whose way of resizing is meant: cv2 (no smoothing when an image shrinks) or pillow (smoothing).
    #[serde(default)]
    backend: Backend,
}

fn padding() -> usize {
    32
}

fn bicubic() -> Interpolation {
    Interpolation::Bicubic
}

crate::register! {
    /// The window in the middle whose size goes by the image's shorter side, resized.
    dyn Transform, "EfficientNetCenterCrop" => fn EfficientNetCenterCrop::from_config
}

impl EfficientNetCenterCrop {
    fn from_config(p: EfficientNetCenterCropConfig, _: &mut BuildCx) -> Result<Self> {
        affordable(p.crop_size, p.crop_size).map_err(|e| Error::config(format!("`crop_size`: {e}")))?;
        let filter = Filter::new(p.backend, p.interpolation)?;
        Ok(Self { size: p.crop_size, padding: p.crop_padding, filter })
    }

    /// The window in an image of `h` × `w`. MMPretrain rounds halves to even, and takes whole pixels.
    fn window(&self, h: usize, w: usize) -> Window {
        let side = self.size as f64 / (self.size as f64 + self.padding as f64) * h.min(w) as f64;
        let first = |room: usize| ((room as f64 - side) / 2.0).round_ties_even().max(0.0);
        let cut = |first: f64, room: usize| {
            let last = (first + side - 1.0) as usize;
            (last + 1).min(room).saturating_sub(first as usize).max(1)
        };
        let (y, x) = (first(h), first(w));
        Window { y: y as usize, x: x as usize, height: cut(y, h), width: cut(x, w) }
    }
}

/// Resizes a window of a sample's picture to `size` × `size`.
fn resized(
    sample: &mut Sample,
    filter: Filter,
    size: usize,
    window: impl FnOnce(usize, usize) -> Window,
) -> Result<()> {
    no_masks(sample)?;
    sample.picture()?.rescale(filter, |h, w| {
        if h == 0 || w == 0 {
            return Err(Error::invalid(format!("an image of {h} × {w} pixels cannot be resized")));
        }
        Ok(Cut { window: window(h, w), height: size, width: size })
    })
}

impl Transform for EfficientNetCenterCrop {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        resized(sample, self.filter, self.size, |h, w| self.window(h, w))
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_alone(fields)
    }
}

/// A window of random area, ratio of sides and place, resized: as RandomResizedCrop, but for how the draws are made and
/// the window in the middle that is taken where none of them fits.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficientNetRandomCrop {
    /// The window in the middle, and the size of all.
    pub middle: EfficientNetCenterCrop,
    /// Smallest and largest area of the window, as part of the image's.
    pub area: [f64; 2],
    /// Smallest and largest width divided by height.
    pub aspect: [f64; 2],
    /// How often to draw.
    pub max_attempts: usize,
    /// Smallest area of the window, whatever is drawn.
    pub min_covered: f64,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct EfficientNetRandomCropConfig {
    /// Width and height that the window gets, in pixels.
    #[schemars(range(min = 1))]
    scale: usize,
    /// Smallest area of the window, as part of the image's.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    min_covered: f64,
    /// Of the window in the middle, which is taken after `max_attempts`: as EfficientNetCenterCrop has it.
    #[serde(default = "padding")]
    crop_padding: usize,
    /// Smallest and largest area of the window, as part of the image's.
    #[serde(default = "area")]
    crop_ratio_range: [f64; 2],
    /// Smallest and largest width divided by height.
    #[serde(default = "aspect")]
    aspect_ratio_range: [f64; 2],
    /// How often to draw, before the middle is taken.
    #[serde(default = "attempts")]
    max_attempts: usize,
    /// nearest, bilinear, bicubic or lanczos; area of cv2; box and hamming of pillow.
    #[serde(default = "bicubic")]
    interpolation: Interpolation,
    /// Whose way of resizing is meant: cv2 (no smoothing when an image shrinks) or pillow (smoothing).
    #[serde(default)]
    backend: Backend,
}

fn tenth() -> f64 {
    0.1
}

crate::register! {
    /// A window of random area, ratio of sides and place, resized, drawn as EfficientNet's authors do.
    dyn Transform, "EfficientNetRandomCrop" => fn EfficientNetRandomCrop::from_config
}

impl EfficientNetRandomCrop {
    fn from_config(p: EfficientNetRandomCropConfig, cx: &mut BuildCx) -> Result<Self> {
        ordered("crop_ratio_range", p.crop_ratio_range)?;
        ordered("aspect_ratio_range", p.aspect_ratio_range)?;
        let EfficientNetRandomCropConfig { crop_padding, interpolation, backend, .. } = p;
        let middle =
            EfficientNetCenterCropConfig { crop_size: p.scale, crop_padding, interpolation, backend };
        Ok(Self {
            middle: EfficientNetCenterCrop::from_config(middle, cx)?,
            area: p.crop_ratio_range,
            aspect: p.aspect_ratio_range,
            max_attempts: p.max_attempts,
            min_covered: p.min_covered,
        })
    }

    /// A window in an image of `h` × `w`.
    fn draw(&self, h: usize, w: usize, rng: &mut Rng) -> Window {
        let (whole, width_of_image) = ((h * w) as f64, w as f64);
        let [least, most] = self.area.map(|part| part * whole);
        let between = |low: f64, high: f64, rng: &mut Rng| low + (high - low) * rng.random::<f64>();
        for _ in 0..self.max_attempts {
            let aspect = between(self.aspect[0], self.aspect[1], rng);
            let tall = |area: f64| (area / aspect).sqrt().round_ties_even();
            let mut highest = tall(most);
            if highest * aspect > width_of_image {
                highest = ((width_of_image + 0.5 - 1e-7) / aspect).floor();
                if highest * aspect > width_of_image {
                    highest -= 1.0;
                }
            }
            let highest = highest.min(h as f64);
            let height = between(tall(least).min(highest), highest, rng).round_ties_even();
            let width = (height * aspect).round_ties_even();
            let covered = height * width;
            let fits = width <= width_of_image && height <= h as f64 && width >= 1.0 && height >= 1.0;
            if !fits || covered < least || covered > most || covered < self.min_covered * whole {
                continue;
            }
            let (height, width) = (height as usize, width as usize);
            // 64-bit draws, so that the place is the same on every machine.
            let mut offset = |room: usize| rng.random_range(0..=room as u64) as usize;
            return Window { y: offset(h - height), x: offset(w - width), height, width };
        }
        self.middle.window(h, w)
    }
}

impl Transform for EfficientNetRandomCrop {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        resized(sample, self.middle.filter, self.middle.size, |h, w| self.draw(h, w, rng))
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_alone(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;

    fn center(size: usize, padding: usize) -> EfficientNetCenterCrop {
        let filter = Filter { backend: Backend::Cv2, interpolation: Interpolation::Bicubic };
        EfficientNetCenterCrop { size, padding, filter }
    }

    /// MMPretrain: 224 / 256 · 375 = 328.125, int(23 + 328.125 - 1) = 350, int(86 + 328.125 - 1) = 413.
    #[test]
    fn the_window_in_the_middle_goes_by_the_shorter_side() {
        let window = |crop: EfficientNetCenterCrop, h, w| {
            let Window { y, x, height, width } = crop.window(h, w);
            (y, x, height, width)
        };
        assert_eq!(window(center(224, 32), 375, 500), (23, 86, 328, 328));
        assert_eq!(window(center(224, 0), 375, 500), (0, 62, 375, 375));
        assert_eq!(window(center(224, 32), 1, 1), (0, 0, 1, 1));
    }

    #[test]
    fn drawn_windows_keep_to_their_ranges() {
        let crop = EfficientNetRandomCrop {
            middle: center(224, 32),
            area: [0.08, 1.0],
            aspect: [0.75, 4.0 / 3.0],
            max_attempts: 10,
            min_covered: 0.1,
        };
        for draw in 0..500 {
            let Window { y, x, height, width } = crop.draw(300, 400, &mut keyed(0, "augment", draw, 0));
            assert!(y + height <= 300 && x + width <= 400);
            let part = (height * width) as f64 / 120_000.0;
            assert!((0.1..=1.0).contains(&part), "{part}");
            assert!((0.74..1.35).contains(&(width as f64 / height as f64)), "{width} × {height}");
        }
        let never = EfficientNetRandomCrop { max_attempts: 0, ..crop };
        assert_eq!(never.draw(300, 400, &mut keyed(0, "", 0, 0)), never.middle.window(300, 400));
    }
}
