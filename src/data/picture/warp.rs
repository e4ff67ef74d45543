//! A picture moved by an affine map, as OpenCV's `warpAffine` does it: each new pixel is looked up where it came from,
//! and what lies beyond the rim has one colour.

use crate::base::{Error, Result};

use super::canvas::{Canvas, Draw, Pixel, too_deep};
use super::taps::cubic;
use super::{Interpolation, taps};

/// From (x, y) of a picture to (x, y) of another: `[a, b, c]` gives a x + b y + c.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::data) struct Affine {
    x: [f64; 3],
    y: [f64; 3],
}

impl Affine {
    /// Columns move in proportion to their row.
    pub(in crate::data) fn shear_x(by: f64) -> Self {
        Self { x: [1.0, by, 0.0], y: [0.0, 1.0, 0.0] }
    }

    /// Rows move in proportion to their column.
    pub(in crate::data) fn shear_y(by: f64) -> Self {
        Self { x: [1.0, 0.0, 0.0], y: [by, 1.0, 0.0] }
    }

    /// To the right and down by so many pixels.
    pub(in crate::data) fn shift(x: f64, y: f64) -> Self {
        Self { x: [1.0, 0.0, x], y: [0.0, 1.0, y] }
    }

    /// Clockwise around a point (x, y), and larger by `scale`.
    pub(in crate::data) fn rotation(degrees: f64, [x, y]: [f64; 2], scale: f64) -> Self {
        let (sin, cos) = libm::sincos(degrees.to_radians());
        let (sin, cos) = (scale * sin, scale * cos);
        Self { x: [cos, -sin, (1.0 - cos) * x + sin * y], y: [sin, cos, (1.0 - cos) * y - sin * x] }
    }

    /// The way back.
    fn inverse(self) -> Result<Self> {
        let (Self { x: [a, b, c], y: [d, e, f] }, det) =
            (self, self.x[0] * self.y[1] - self.x[1] * self.y[0]);
        if !det.is_normal() {
            return Err(Error::invalid("it makes a line of the picture: `scale` is to be above 0"));
        }
        let (a, b, d, e) = (e / det, -b / det, -d / det, a / det);
        Ok(Self { x: [a, b, -a * c - b * f], y: [d, e, -d * c - e * f] })
    }
}

/// A picture moved, its size kept.
pub(in crate::data) struct Warp<'a> {
    /// Where the pixels go.
    pub(in crate::data) map: Affine,
    /// How values between pixels are found: nearest, bilinear, bicubic or lanczos; `area` means bilinear.
    pub(in crate::data) interpolation: Interpolation,
    /// The colour of what lies beyond the rim.
    pub(in crate::data) fill: &'a [f64],
}

impl Draw for Warp<'_> {
    fn draw<P: Pixel>(self, canvas: &mut Canvas<'_, P>) -> Result<()> {
        let (back, fill) = (self.map.inverse()?, canvas.pixel(self.fill, "pad_val")?);
        let exact = |row: f64, column: f64| row + column;
        match self.interpolation {
            Interpolation::Nearest => nearest(canvas, back, &fill),
            Interpolation::Bicubic => smooth(canvas, back, &fill, exact, |x| {
                [cubic(x + 1.0, -0.75), cubic(x, -0.75), cubic(1.0 - x, -0.75), cubic(2.0 - x, -0.75)]
            }),
            Interpolation::Lanczos => {
                let each: [[f64; 8]; 32] = std::array::from_fn(|part| {
                    let x = part as f64 / 32.0 + 3.0;
                    let weights: [f64; 8] = std::array::from_fn(|k| taps::lanczos(x - k as f64, 4.0));
                    let sum: f64 = weights.iter().sum();
                    weights.map(|weight| weight / sum)
                });
                smooth(canvas, back, &fill, in_32nds, |x| each[(x * 32.0) as usize % 32])
            }
            _ => smooth(canvas, back, &fill, exact, |x| [1.0 - x, x]),
        }
    }
}

fn nearest<P: Pixel>(canvas: &mut Canvas<'_, P>, back: Affine, fill: &[P; 4]) -> Result<()> {
    let Canvas { height, width, depth, .. } = *canvas;
    let fill = fill.get(..depth).ok_or_else(|| too_deep(depth))?;
    let mut out = Vec::with_capacity(canvas.pixels.len());
    // A place half-way between two pixels belongs to the second: by even and odd, as OpenCV 5 has it, a shift by half a
    // pixel would double every other one.
    let pixel = |place: f64| (place + 0.5).floor();
    for y in 0..height {
        let (sx, sy) = start(back, y);
        for x in 0..width {
            let (x, y) = (pixel(sx + back.x[0] * x as f64), pixel(sy + back.y[0] * x as f64));
            // The casts cut off at 0; what is below has been found out before.
            let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
            match inside {
                true => out
                    .extend_from_slice(&canvas.pixels[(y as usize * width + x as usize) * depth..][..depth]),
                false => out.extend_from_slice(fill),
            }
        }
    }
    *canvas.pixels = out;
    Ok(())
}

/// By weights of K pixels along each axis, of the part of a pixel by which a place lies behind the middle one.
fn smooth<P: Pixel, const K: usize>(
    canvas: &mut Canvas<'_, P>,
    back: Affine,
    fill: &[P; 4],
    place: impl Fn(f64, f64) -> f64,
    weights: impl Fn(f64) -> [f64; K],
) -> Result<()> {
    match canvas.depth {
        1 => smoothed::<P, K, 1>(canvas, back, fill, place, weights),
        2 => smoothed::<P, K, 2>(canvas, back, fill, place, weights),
        3 => smoothed::<P, K, 3>(canvas, back, fill, place, weights),
        4 => smoothed::<P, K, 4>(canvas, back, fill, place, weights),
        depth => return Err(too_deep(depth)),
    }
    Ok(())
}

fn smoothed<P: Pixel, const K: usize, const D: usize>(
    canvas: &mut Canvas<'_, P>,
    back: Affine,
    fill: &[P; 4],
    place: impl Fn(f64, f64) -> f64,
    weights: impl Fn(f64) -> [f64; K],
) {
    let Canvas { height, width, .. } = *canvas;
    let fill: [f32; D] = std::array::from_fn(|c| fill[c].value());
    let (pixels, _) = canvas.pixels.as_chunks::<D>();
    // Bicubic and lanczos overshoot beside edges. Bytes are cut off as they are made; values that could be bytes are
    // too, or what works on bytes would refuse the picture afterwards.
    let is_byte = |value: f32| (0.0..=255.0).contains(&value);
    let bytes = fill.iter().all(|value| is_byte(*value)) && canvas.pixels.iter().all(|v| is_byte(v.value()));
    let at = |x: isize, y: isize| {
        let inside = (0..width as isize).contains(&x) && (0..height as isize).contains(&y);
        if inside { pixels[y as usize * width + x as usize].map(P::value) } else { fill }
    };
    let mut out = Vec::with_capacity(canvas.pixels.len());
    for y in 0..height {
        let (sx, sy) = start(back, y);
        for x in 0..width {
            let (sx, sy) = (place(sx, back.x[0] * x as f64), place(sy, back.y[0] * x as f64));
            let (left, top) = (sx.floor(), sy.floor());
            let before = (K / 2) as isize - 1;
            let (first_x, first_y) =
                ((left as isize).saturating_sub(before), (top as isize).saturating_sub(before));
            let (across, down) = (weights(sx - left).map(|w| w as f32), weights(sy - top).map(|w| w as f32));
            let mut sum = [0.0f32; D];
            for (j, down) in down.iter().enumerate() {
                let mut row = [0.0f32; D];
                for (i, across) in across.iter().enumerate() {
                    let pixel = at(first_x.saturating_add(i as isize), first_y.saturating_add(j as isize));
                    (0..D).for_each(|c| row[c] += across * pixel[c]);
                }
                (0..D).for_each(|c| sum[c] += down * row[c]);
            }
            out.extend(sum.map(|v| P::of(if bytes { v.clamp(0.0, 255.0) } else { v })));
        }
    }
    *canvas.pixels = out;
}

/// A place as OpenCV rounds it where it has weights for each 32nd of a pixel alone.
fn in_32nds(row: f64, column: f64) -> f64 {
    let fixed = |part: f64| (part * 1024.0).round_ties_even();
    ((fixed(row) + fixed(column) + 16.0) / 32.0).floor() / 32.0
}

/// Where the first pixel of a row came from.
fn start(back: Affine, y: usize) -> (f64, f64) {
    let place = |[_, by_row, at]: [f64; 3]| by_row * y as f64 + at;
    (place(back.x), place(back.y))
}
