//! Another size for an image of floating-point values, with or without smoothing.

use ndarray::{Array3, ArrayView3, s};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Cut;

/// How a value between pixels depends on those around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// Straight lines between pixel centres.
    #[default]
    Bilinear,
    /// Cubic parabolas (Keys with a = -0.5), as Pillow and torchvision have it.
    Bicubic,
}

impl Kernel {
    /// Beyond this many pixels its weight is 0.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Bicubic => 0.0,
        }
    }
}

/// How images are resized. Pixel centres lie at halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// How values between pixels are found.
    pub kernel: Kernel,
    /// Whether an image that shrinks is smoothed first, as Pillow does and torchvision with `antialias=True`; OpenCV does not.
    pub antialias: bool,
}

/// The first pixel that a new one depends on, and the weights from there on; they sum to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let spread = if filter.antialias { scale.max(1.0) } else { 1.0 };
    let reach = filter.kernel.support() * spread;
    let one = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |j: usize| filter.kernel.weight((j as f64 + 0.5 - centre) / spread);
        let sum: f64 = (first..end).map(weight).sum();
        Taps { first, weights: (first..end).map(|j| (weight(j) / sum) as f32).collect() }
    };
    (0..to).map(one).collect()
}

/// The window of `img` (height, width, channels) in the new size: along rows, then along columns.
pub(super) fn resampled(img: ArrayView3<'_, f32>, cut: Cut, filter: Filter) -> Array3<f32> {
    let w = cut.window;
    let img = img.slice_move(s![w.y..w.y + w.height, w.x..w.x + w.width, ..]);
    let channels = img.dim().2;
    let img = img.as_standard_layout();
    let values = img.as_slice().unwrap_or_default();
    let (columns, rows) = (taps(w.width, cut.width, filter), taps(w.height, cut.height, filter));

    let mut wide: Vec<f32> = Vec::with_capacity(w.height * cut.width * channels);
    for row in values.chunks_exact((w.width * channels).max(1)) {
        for tap in &columns {
            for c in 0..channels {
                let pixels = row[tap.first * channels + c..].iter().step_by(channels);
                wide.push(tap.weights.iter().zip(pixels).map(|(weight, v)| weight * v).sum());
            }
        }
    }
    let len = cut.width * channels;
    let mut out = vec![0.0f32; cut.height * len];
    for (line, tap) in out.chunks_exact_mut(len.max(1)).zip(&rows) {
        for (weight, row) in tap.weights.iter().zip(wide[tap.first * len..].chunks_exact(len.max(1))) {
            line.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
        }
    }
    Array3::from_shape_vec((cut.height, cut.width, channels), out).unwrap_or_default()
}
