//! Another image, made small.

use schemars::JsonSchema;
use serde::Deserialize;

use super::cutmix::{CutMix, CutMixConfig};
use super::{BatchAugment, Mixed, Stack};
use crate::base::{Elem, Error, Result, Rng, beta};
use crate::config::yes;
use crate::kernels::{UpsampleGeom, UpsampleMode, upsample};
use crate::register;
use crate::registry::BuildCx;

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MixInterpolation {
    /// The pixel that covers the place.
    Nearest,
    /// Straight lines between pixel centres.
    #[default]
    Bilinear,
}

/// The keys of `{type: ResizeMix, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ResizeMixConfig {
    /// Of Beta(alpha, alpha), stretched from `lam_min` to `lam_max`, is drawn how much of an image is its own.
    #[schemars(range(min = 1e-3, max = 1e6))]
    pub alpha: f64,
    /// The least that is drawn.
    #[serde(default = "lam_min")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lam_min: f64,
    /// The most that is drawn.
    #[serde(default = "lam_max")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lam_max: f64,
    /// nearest or bilinear.
    #[serde(default)]
    pub interpolation: MixInterpolation,
    /// As CutMix has it.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub cutmix_minmax: Option<[f64; 2]>,
    /// As CutMix has it.
    #[serde(default = "yes")]
    pub correct_lam: bool,
}

fn lam_min() -> f64 {
    0.1
}

fn lam_max() -> f64 {
    0.8
}

/// A window of each image is the whole of another one, made small (Qin et al. 2020); the window is CutMix's.
#[derive(Debug, Clone, PartialEq)]
pub struct ResizeMix {
    window: CutMix,
    lam: [f64; 2],
    interpolation: MixInterpolation,
}

register! { /// Replaces a window of each image of a batch by the whole of another image, made small.
dyn BatchAugment, "ResizeMix" => fn ResizeMix::from_config }

impl ResizeMix {
    /// As the config says.
    ///
    /// # Errors
    /// When `lam_min` is above `lam_max`, or CutMix's keys do not fit.
    pub fn from_config(p: ResizeMixConfig, cx: &mut BuildCx) -> Result<Self> {
        if p.lam_min > p.lam_max {
            return Err(Error::config(format!("`lam_min: {}` is above `lam_max`, {}", p.lam_min, p.lam_max)));
        }
        let ResizeMixConfig { alpha, cutmix_minmax, correct_lam, .. } = p;
        let window = CutMix::from_config(CutMixConfig { alpha, cutmix_minmax, correct_lam }, cx)?;
        Ok(Self { window, lam: [p.lam_min, p.lam_max], interpolation: p.interpolation })
    }
}

impl BatchAugment for ResizeMix {
    fn mix(&self, batch: Stack<'_>, mixed: &mut [Elem], rng: &mut Rng) -> Result<Mixed> {
        let [channels, h, w] = batch.images()?;
        let alpha = self.window.keys().alpha;
        let lam = self.lam[0] + (self.lam[1] - self.lam[0]) * beta(alpha, alpha, rng);
        let how = Mixed::drawn(batch.len(), rng);
        let (area, share) = self.window.window([h, w], lam, rng)?;
        mixed.copy_from_slice(batch.values);
        let (tall, wide) = (area.bottom - area.top, area.right - area.left);
        if tall > 0 && wide > 0 {
            let mode = match self.interpolation {
                MixInterpolation::Nearest => UpsampleMode::Nearest,
                MixInterpolation::Bilinear => UpsampleMode::Bilinear { align_corners: false },
            };
            let geometry = UpsampleGeom::new([1, channels, h, w], [tall, wide], mode, None)?;
            let mut small = vec![0.0; geometry.y_len()];
            for (mixed, partner) in mixed.chunks_exact_mut(batch.size().max(1)).zip(&how.partners) {
                upsample(&geometry, batch.sample(*partner), &mut small);
                for (plane, small) in mixed.chunks_exact_mut(h * w).zip(small.chunks_exact(tall * wide)) {
                    for (y, row) in (area.top..area.bottom).zip(small.chunks_exact(wide)) {
                        plane[y * w + area.left..y * w + area.right].copy_from_slice(row);
                    }
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

    /// An image that is 0 on the left and 1 on the right keeps both halves when it is made small.
    #[test]
    fn the_window_holds_the_whole_partner() {
        let config = "{type: ResizeMix, alpha: 1.0, cutmix_minmax: [0.5, 0.7]}";
        let spec = crate::registry::Spec::<dyn BatchAugment>::parse(config).unwrap();
        let mix = spec.build(&mut BuildCx::new(0)).unwrap();
        let halves = |value: Elem| (0..64).map(move |i| if i % 8 < 4 { value } else { value + 1.0 });
        let values: Vec<Elem> = halves(10.0).chain(halves(20.0)).collect();
        for draw in 0..20 {
            let mut mixed = vec![0.0; 128];
            let batch = Stack { values: &values, shape: &[2, 1, 8, 8] };
            let how = mix.mix(batch, &mut mixed, &mut keyed(0, "test", draw, 0)).unwrap();
            // From int(8 · 0.5) = 4 on and below int(8 · 0.7) = 5: the side is 4 whatever is drawn.
            assert_eq!(how.share, 0.75);
            if how.partners == [1, 0] {
                let count = |value: Elem| mixed[..64].iter().filter(|v| **v == value).count();
                assert_eq!((count(20.0), count(21.0)), (8, 8));
            }
        }
    }
}
