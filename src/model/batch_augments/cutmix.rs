//! A part of another image.

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{BatchAugment, Mixed, Stack};
use crate::base::{Elem, Error, Result, Rng, beta};
use crate::config::yes;
use crate::register;
use crate::registry::BuildCx;

/// The keys of `{type: CutMix, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct CutMixConfig {
    /// Of Beta(alpha, alpha) is drawn how much of an image is its own.
    #[schemars(range(min = 1e-3, max = 1e6))]
    pub alpha: f64,
    /// Least and largest part of each side that is exchanged, instead of a ratio by `alpha`.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub cutmix_minmax: Option<[f64; 2]>,
    /// Whether targets are mixed by the area that was exchanged, of which the rim may have cut off some; else by the ratio
    /// that was drawn. With `cutmix_minmax` always by the area.
    #[serde(default = "yes")]
    pub correct_lam: bool,
}

/// A window of each image is that of another one, and targets are mixed by its area (Yun et al. 2019). The window is
/// one for the batch: its sides are √(1 - λ) of the image's, λ drawn of Beta(α, α), and what leaves the image is cut off.
#[derive(Debug, Clone, PartialEq)]
pub struct CutMix(CutMixConfig);

register! { /// Replaces a window of each image of a batch by that of another image.
dyn BatchAugment, "CutMix" => fn CutMix::from_config }

/// Rows from `top` to `bottom`, columns from `left` to `right`, the ends left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) top: usize,
    pub(super) bottom: usize,
    pub(super) left: usize,
    pub(super) right: usize,
}

impl Area {
    fn pixels(self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }
}

impl CutMix {
    /// With areas by Beta(`alpha`, `alpha`).
    pub fn new(alpha: f64) -> Self {
        Self(CutMixConfig { alpha, cutmix_minmax: None, correct_lam: true })
    }

    pub(super) fn from_config(p: CutMixConfig, _: &mut BuildCx) -> Result<Self> {
        match p.cutmix_minmax {
            Some([low, high]) if low >= high => Err(Error::config(format!(
                "`cutmix_minmax` is two parts of a side, the smaller one first, got [{low}, {high}]"
            ))),
            _ => Ok(Self(p)),
        }
    }

    /// The keys that it was made of.
    pub(super) fn keys(&self) -> &CutMixConfig {
        &self.0
    }

    /// The window of this batch, and how much of each target stays.
    pub(super) fn window(&self, [h, w]: [usize; 2], lam: f64, rng: &mut Rng) -> Result<(Area, f64)> {
        let area = match self.0.cutmix_minmax {
            Some(parts) => between(parts, [h, w], rng)?,
            None => {
                // 64-bit draws, so that the place is the same on every machine.
                let y = rng.random_range(0..h as u64) as usize;
                let x = rng.random_range(0..w as u64) as usize;
                around([y, x], [h, w], lam)
            }
        };
        let by_area = self.0.correct_lam || self.0.cutmix_minmax.is_some();
        Ok((area, if by_area { 1.0 - area.pixels() as f64 / (h * w) as f64 } else { lam }))
    }
}

/// A window around a pixel, of 1 - `lam` of the image, as far as it lies within.
fn around([y, x]: [usize; 2], [h, w]: [usize; 2], lam: f64) -> Area {
    let ratio = (1.0 - lam).sqrt();
    let half = |side: usize| (side as f64 * ratio) as usize / 2;
    let (tall, wide) = (half(h), half(w));
    Area {
        top: y.saturating_sub(tall),
        bottom: (y + tall).min(h),
        left: x.saturating_sub(wide),
        right: (x + wide).min(w),
    }
}

/// A window whose sides are parts of the image's between these two.
fn between([low, high]: [f64; 2], [h, w]: [usize; 2], rng: &mut Rng) -> Result<Area> {
    let mut place = |side: usize| {
        let (least, end) = ((side as f64 * low) as u64, (side as f64 * high) as u64);
        if least >= end {
            return Err(Error::invalid(format!(
                "`cutmix_minmax: [{low}, {high}]` leaves no whole number of pixels on a side of {side}"
            )));
        }
        let len = rng.random_range(least..end);
        let first = rng.random_range(0..side as u64 - len);
        Ok((first as usize, (first + len) as usize))
    };
    let ((top, bottom), (left, right)) = (place(h)?, place(w)?);
    Ok(Area { top, bottom, left, right })
}

impl BatchAugment for CutMix {
    fn mix(&self, batch: Stack<'_>, mixed: &mut [Elem], rng: &mut Rng) -> Result<Mixed> {
        let [_, h, w] = batch.images()?;
        let lam = beta(self.0.alpha, self.0.alpha, rng);
        let how = Mixed::drawn(batch.len(), rng);
        let (area, share) = self.window([h, w], lam, rng)?;
        mixed.copy_from_slice(batch.values);
        let samples = mixed.chunks_exact_mut(batch.size().max(1));
        for (mixed, partner) in samples.zip(&how.partners) {
            let planes = mixed.chunks_exact_mut(h * w).zip(batch.sample(*partner).chunks_exact(h * w));
            for (to, from) in planes {
                for y in area.top..area.bottom {
                    let row = y * w + area.left..y * w + area.right;
                    to[row.clone()].copy_from_slice(&from[row]);
                }
            }
        }
        Ok(Mixed { share, ..how })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;

    /// MMPretrain's `rand_bbox`: int(10 √0.36) = 6, so 3 to each side.
    #[test]
    fn windows_are_cut_off_at_the_rim() {
        let area = around([1, 9], [10, 10], 0.64);
        assert_eq!(area, Area { top: 0, bottom: 4, left: 6, right: 10 });
        assert_eq!(around([5, 5], [10, 10], 1.0).pixels(), 0);
        assert_eq!(around([4, 4], [9, 9], 0.0), Area { top: 0, bottom: 8, left: 0, right: 8 });
    }

    #[test]
    fn targets_are_mixed_by_the_pixels_that_came_from_the_partner() {
        let (n, c, h, w) = (6, 2, 8, 9);
        let values: Vec<Elem> = (0..n).flat_map(|i| vec![i as Elem; c * h * w]).collect();
        let minmax = CutMixConfig { cutmix_minmax: Some([0.3, 0.8]), ..CutMix::new(1.0).0 };
        for cutmix in [CutMix::new(1.0), CutMix(minmax)] {
            for draw in 0..100 {
                let mut mixed = vec![0.0; values.len()];
                let batch = Stack { values: &values, shape: &[n, c, h, w] };
                let how = cutmix.mix(batch, &mut mixed, &mut keyed(0, "test", draw, 0)).unwrap();
                for (i, (image, partner)) in mixed.chunks(c * h * w).zip(&how.partners).enumerate() {
                    let own = image.iter().filter(|v| **v == i as Elem).count() as f64;
                    assert!(image.iter().all(|v| *v == i as Elem || *v == *partner as Elem));
                    if *partner != i {
                        assert!((own / (c * h * w) as f64 - how.share).abs() < 1e-12, "{how:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let batch = Stack { values: &[0.0; 6], shape: &[2, 3] };
        let error = CutMix::new(1.0).mix(batch, &mut [0.0; 6], &mut keyed(0, "", 0, 0)).unwrap_err();
        assert!(error.to_string().contains("the shape [2, 3]: Mixup mixes any"), "{error}");
    }
}
