//! Along one axis: on which pixels a new one depends, and how much, for each way of resizing.

use std::f64::consts::PI;

use super::{Backend, Filter, Interpolation};

/// The first pixel that a new one depends on, and the weights from there on; they sum to 1.
pub(super) struct Taps {
    pub(super) first: usize,
    pub(super) weights: Vec<f32>,
}

/// Those of all new pixels of an axis. `shrinks`: whether no axis of the image grows, of which OpenCV makes its `area`
/// depend.
pub(super) fn taps(from: usize, to: usize, filter: Filter, shrinks: bool) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let one = |i: usize| match (filter.backend, filter.interpolation) {
        // OpenCV takes the upper left corner of the new pixel, Pillow its middle.
        (Backend::Cv2, Interpolation::Nearest) => {
            alone((i as f64 * (1.0 / (to as f64 / from as f64))) as usize, from)
        }
        (Backend::Pillow, Interpolation::Nearest) => alone(((i as f64 + 0.5) * scale) as usize, from),
        (Backend::Pillow, _) => smooth(i, from, scale, filter.interpolation),
        (_, Interpolation::Area) if shrinks => covered(i, from, scale),
        (_, Interpolation::Area) => {
            let low = (i as f64 * scale).floor();
            let beyond = (i + 1) as f64 - (low + 1.0) / scale;
            let weight = if beyond <= 0.0 { 0.0 } else { beyond - beyond.floor() };
            between(low as isize, from, &[1.0 - weight, weight])
        }
        (_, kind) => {
            let at = (i as f64 + 0.5) * scale - 0.5;
            let (low, x) = (at.floor(), at - at.floor());
            let weights = match kind {
                Interpolation::Bicubic => (-1..3).map(|k| cubic(x - f64::from(k), -0.75)).collect(),
                Interpolation::Lanczos => (-3..5).map(|k| lanczos(x - f64::from(k), 4.0)).collect(),
                _ => vec![1.0 - x, x],
            };
            between(low as isize - (weights.len() as isize / 2 - 1), from, &weights)
        }
    };
    (0..to).map(one).collect()
}

fn alone(at: usize, from: usize) -> Taps {
    Taps { first: at.min(from - 1), weights: vec![1.0] }
}

/// OpenCV's way: what lies beyond the rim is like the pixel at the rim.
fn between(low: isize, from: usize, weights: &[f64]) -> Taps {
    let inside = |at: isize| at.clamp(0, from as isize - 1) as usize;
    let first = inside(low);
    let sum: f64 = weights.iter().sum();
    let mut all = vec![0.0; inside(low + weights.len() as isize - 1) - first + 1];
    for (at, weight) in (low..).zip(weights) {
        all[inside(at) - first] += (weight / sum) as f32;
    }
    Taps { first, weights: all }
}

/// Pillow's way: the kernel grows with the pixels, and what lies beyond the rim does not count.
fn smooth(i: usize, from: usize, scale: f64, kind: Interpolation) -> Taps {
    let spread = scale.max(1.0);
    let reach = spread
        * match kind {
            Interpolation::Box => 0.5,
            Interpolation::Bicubic => 2.0,
            Interpolation::Lanczos => 3.0,
            _ => 1.0,
        };
    let centre = (i as f64 + 0.5) * scale;
    let first = (centre - reach + 0.5).max(0.0) as usize;
    let end = ((centre + reach + 0.5) as usize).min(from);
    let weight = |j: usize| {
        let x = (j as f64 + 0.5 - centre) / spread;
        match kind {
            Interpolation::Box => f64::from(-0.5 < x && x <= 0.5),
            Interpolation::Bicubic => cubic(x, -0.5),
            Interpolation::Lanczos => lanczos(x, 3.0),
            Interpolation::Hamming if x.abs() < 1.0 => sinc(x) * (0.54 + 0.46 * libm::cos(PI * x)),
            Interpolation::Hamming => 0.0,
            _ => (1.0 - x.abs()).max(0.0),
        }
    };
    let sum: f64 = (first..end).map(weight).sum();
    Taps { first, weights: (first..end).map(|j| (weight(j) / sum) as f32).collect() }
}

/// The parts of the pixels that a new one covers; parts below a thousandth are left out, as OpenCV does.
fn covered(i: usize, from: usize, scale: f64) -> Taps {
    let (start, end) = (i as f64 * scale, ((i + 1) as f64 * scale).min(from as f64));
    let part = |j: usize| {
        let part = end.min((j + 1) as f64) - start.max(j as f64);
        if part > 1e-3 { part } else { 0.0 }
    };
    let (first, end) = ((start as usize).min(from - 1), (end.ceil() as usize).min(from));
    let sum: f64 = (first..end).map(part).sum();
    Taps { first, weights: (first..end).map(|j| (part(j) / sum) as f32).collect() }
}

pub(super) fn cubic(x: f64, a: f64) -> f64 {
    match x.abs() {
        x if x < 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * a,
        _ => 0.0,
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { libm::sin(PI * x) / (PI * x) }
}

pub(super) fn lanczos(x: f64, lobes: f64) -> f64 {
    if x.abs() < lobes { sinc(x) * sinc(x / lobes) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_lie_within_whatever_the_sizes() {
        let kinds = [
            (Backend::Cv2, Interpolation::Nearest),
            (Backend::Cv2, Interpolation::Bilinear),
            (Backend::Cv2, Interpolation::Bicubic),
            (Backend::Cv2, Interpolation::Area),
            (Backend::Cv2, Interpolation::Lanczos),
            (Backend::Pillow, Interpolation::Nearest),
            (Backend::Pillow, Interpolation::Bilinear),
            (Backend::Pillow, Interpolation::Bicubic),
            (Backend::Pillow, Interpolation::Box),
            (Backend::Pillow, Interpolation::Hamming),
            (Backend::Pillow, Interpolation::Lanczos),
        ];
        for (backend, interpolation) in kinds {
            for (from, to) in (1..24).flat_map(|from| (1..24).map(move |to| (from, to))) {
                let all = taps(from, to, Filter { backend, interpolation }, to <= from);
                assert_eq!(all.len(), to);
                for (i, one) in all.iter().enumerate() {
                    let case = format!("{backend:?} {interpolation:?} {from} to {to}, pixel {i}");
                    let sum: f32 = one.weights.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{case}: {sum}");
                    assert!(one.first + one.weights.len() <= from, "{case}: {}", one.first);
                }
            }
        }
    }
}
