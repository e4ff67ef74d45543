//! Another size for an image of values. Bytes take this way where there is none that works on bytes alone.

use std::borrow::Cow;

use ndarray::{Array3, ArrayView3, s};

use crate::base::{Error, Result};

use super::bilinear::bilinear;
use super::taps::taps;
use super::{Backend, Cut, Filter};

/// The window of `img` (height, width, channels) in the new size.
///
/// # Errors
/// When Pillow's way is asked for and a value is none of a byte's: Pillow resizes bytes, and cuts what a kernel makes
/// of them off at 0 and 255.
pub(super) fn resampled(img: ArrayView3<'_, f32>, cut: Cut, filter: Filter) -> Result<Array3<f32>> {
    let w = cut.window;
    let img = img.slice_move(s![w.y..w.y + w.height, w.x..w.x + w.width, ..]);
    let channels = img.dim().2;
    let values = match img.to_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(img.iter().copied().collect()),
    };
    if filter.backend == Backend::Pillow
        && let Some(bad) = values.iter().find(|v| !(0.0..=255.0).contains(*v))
    {
        return Err(Error::invalid(format!(
            "`backend: pillow` resizes values from 0 to 255, the image has {bad}: resize it before Normalize, or, as a picture \
             of 16 bits, with `backend: cv2`"
        )));
    }
    let out = rescaled(&values, (w.height, w.width, channels), (cut.height, cut.width), filter);
    Array3::from_shape_vec((cut.height, cut.width, channels), out).map_err(|e| Error::invalid(e.to_string()))
}

/// The same for the window of bytes, rounded.
pub(super) fn by_values(
    bytes: &[u8],
    shape: (usize, usize, usize),
    cut: Cut,
    filter: Filter,
) -> Result<Vec<u8>> {
    let (_, width, depth) = shape;
    let w = cut.window;
    let rows = bytes.chunks_exact((width * depth).max(1)).skip(w.y).take(w.height);
    let values: Vec<f32> =
        rows.flat_map(|row| &row[w.x * depth..][..w.width * depth]).map(|&b| f32::from(b)).collect();
    let out = rescaled(&values, (w.height, w.width, depth), (cut.height, cut.width), filter);
    // Halves go up; the cast cuts off at 0 and 255.
    Ok(out.into_iter().map(|v| (v + 0.5) as u8).collect())
}

/// Along rows, then along columns.
fn rescaled(values: &[f32], shape: (usize, usize, usize), to: (usize, usize), filter: Filter) -> Vec<f32> {
    let ((height, width, channels), (to_height, to_width)) = (shape, to);
    if (height, width) == to {
        return values.to_vec();
    }
    if filter == Filter::CV2 {
        return bilinear(values, shape, to);
    }
    let shrinks = to_height <= height && to_width <= width;
    let (columns, rows) = (taps(width, to_width, filter, shrinks), taps(height, to_height, filter, shrinks));

    let mut wide: Vec<f32> = Vec::with_capacity(height * to_width * channels);
    for row in values.chunks_exact((width * channels).max(1)) {
        for tap in &columns {
            for c in 0..channels {
                let pixels = row[tap.first * channels + c..].iter().step_by(channels);
                wide.push(tap.weights.iter().zip(pixels).map(|(weight, v)| weight * v).sum());
            }
        }
    }
    // Pillow keeps bytes between the two, and after them.
    let clip = |values: &mut [f32]| {
        if filter.backend == Backend::Pillow && filter.overshoots() {
            values.iter_mut().for_each(|v| *v = v.clamp(0.0, 255.0));
        }
    };
    clip(&mut wide);
    let len = to_width * channels;
    let mut out = vec![0.0f32; to_height * len];
    for (line, tap) in out.chunks_exact_mut(len.max(1)).zip(&rows) {
        for (weight, row) in tap.weights.iter().zip(wide[tap.first * len..].chunks_exact(len.max(1))) {
            line.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
        }
    }
    clip(&mut out);
    out
}
