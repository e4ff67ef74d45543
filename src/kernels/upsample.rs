//! Images made larger or smaller, by the nearest pixel or by a mean of four, with PyTorch's rules for where a pixel
//! comes from (`UpSample.h` of ATen).

use super::isa::multiversion;
use super::par;
use super::scratch::Scratch;
use crate::base::{Elem, Error, Result};

/// Where the pixels of a resized image come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpsampleMode {
    /// The pixel at ⌊i · s / o⌋.
    Nearest,
    /// The mean of the two nearest along each axis, weighted by distance.
    Bilinear {
        /// Whether the centres of the corner pixels stay where they are, instead of the corners of the image.
        align_corners: bool,
    },
}

/// The two places of an axis that each output position lies between, and how near it is to the second.
#[derive(Debug, Clone)]
struct Axis {
    low: Vec<u32>,
    high: Vec<u32>,
    share: Vec<Elem>,
    /// Whether it becomes twice as long, the usual case, which has loops of its own.
    doubles: Option<Doubling>,
}

/// How an axis of at least three pixels becomes twice as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubling {
    Nearest,
    Bilinear,
}

impl Axis {
    /// `scale`: the factor that the caller asked for, where it is not output by input.
    fn new(size: usize, out: usize, mode: UpsampleMode, scale: Option<f64>) -> Self {
        let last = size - 1;
        let ratio = |align: bool| match scale {
            _ if align => {
                if out > 1 {
                    last as Elem / (out - 1) as Elem
                } else {
                    0.0
                }
            }
            Some(scale) => (1.0 / scale) as Elem,
            None => size as Elem / out as Elem,
        };
        let place = |i: usize| match mode {
            UpsampleMode::Nearest => (((i as Elem * ratio(false)).floor() as usize).min(last), 0.0),
            _ if size == out => (i, 0.0),
            UpsampleMode::Bilinear { align_corners } => {
                let ratio = ratio(align_corners);
                let exact = if align_corners { ratio * i as Elem } else { ratio * (i as Elem + 0.5) - 0.5 };
                let exact = exact.max(0.0);
                let low = (exact as usize).min(last);
                (low, (exact - low as Elem).clamp(0.0, 1.0))
            }
        };
        let places: Vec<(usize, Elem)> = (0..out).map(place).collect();
        let nearest = mode == UpsampleMode::Nearest || size == out;
        let high = |low: usize| if nearest { low } else { (low + 1).min(last) };
        Self {
            low: places.iter().map(|p| p.0 as u32).collect(),
            high: places.iter().map(|p| high(p.0) as u32).collect(),
            share: places.iter().map(|p| p.1).collect(),
            doubles: match mode {
                _ if out != 2 * size || size < 3 || scale.is_some_and(|scale| scale != 2.0) => None,
                UpsampleMode::Nearest => Some(Doubling::Nearest),
                UpsampleMode::Bilinear { align_corners } => (!align_corners).then_some(Doubling::Bilinear),
            },
        }
    }

    /// (low, high, share of high) of a position.
    fn at(&self, i: usize) -> (usize, usize, Elem) {
        (self.low[i] as usize, self.high[i] as usize, self.share[i])
    }
}

/// The shape of a resizing: `x` is [planes, h, w], `y` is [planes, out].
#[derive(Debug, Clone)]
pub struct UpsampleGeom {
    planes: usize,
    size: [usize; 2],
    /// Output height and width.
    pub out: [usize; 2],
    rows: Axis,
    cols: Axis,
}

impl UpsampleGeom {
    /// The geometry for an input of shape [n, c, h, w]; `scale` are the factors where the caller gave them instead of a
    /// size, vertical and horizontal.
    ///
    /// # Errors
    /// If the input or the output has no pixel.
    pub fn new(
        input: [usize; 4],
        out: [usize; 2],
        mode: UpsampleMode,
        scale: Option<[f64; 2]>,
    ) -> Result<Self> {
        let [n, c, h, w] = input;
        if h == 0 || w == 0 || out.contains(&0) {
            return Err(Error::invalid(format!(
                "an image of {h} x {w} cannot be resized to {} x {}",
                out[0], out[1]
            )));
        }
        let axis = |i: usize, size: usize| Axis::new(size, out[i], mode, scale.map(|s| s[i]));
        Ok(Self { planes: n * c, size: [h, w], out, rows: axis(0, h), cols: axis(1, w) })
    }

    /// Elements of the input.
    pub fn x_len(&self) -> usize {
        self.planes * self.size[0] * self.size[1]
    }

    /// Elements of the output.
    pub fn y_len(&self) -> usize {
        self.planes * self.out[0] * self.out[1]
    }
}

/// `y`: the planes of `x` in their new size.
pub fn upsample(g: &UpsampleGeom, x: &[Elem], y: &mut [Elem]) {
    assert!(x.len() == g.x_len() && y.len() == g.y_len(), "slices do not fit {g:?}");
    let plane = g.size[0] * g.size[1];
    par::each_index(g.out[0] * g.out[1], y, |p, y| resized(g, &x[p * plane..][..plane], y));
}

multiversion! {
    /// One plane. Each row that is needed is resized once, then rows are mixed.
    fn resized(g: &UpsampleGeom, x: &[Elem], y: &mut [Elem]) {
        let (w, out_w) = (g.size[1], g.out[1]);
        // Rows with an even and with an odd number: those on both sides of a position are one of each.
        let mut wide = Scratch::take(2 * out_w);
        let (even, odd) = wide.split_at_mut(out_w);
        let mut held = [usize::MAX; 2];
        for (i, y) in y.chunks_exact_mut(out_w).enumerate() {
            let (low, high, share) = g.rows.at(i);
            for row in [low, high] {
                if held[row % 2] != row {
                    let to = if row % 2 == 0 { &mut *even } else { &mut *odd };
                    widen(&g.cols, &x[row * w..][..w], to);
                    held[row % 2] = row;
                }
            }
            let of = |row: usize| if row.is_multiple_of(2) { &*even } else { &*odd };
            if share == 0.0 { y.copy_from_slice(of(low)) } else { mix(share, of(low), of(high), y) }
        }
    }
}

/// `dx`: the gradient of each pixel goes to those it came from; overwritten.
pub fn upsample_backward(g: &UpsampleGeom, dy: &[Elem], dx: &mut [Elem]) {
    assert!(dx.len() == g.x_len() && dy.len() == g.y_len(), "slices do not fit {g:?}");
    let plane = g.out[0] * g.out[1];
    par::each_index(g.size[0] * g.size[1], dx, |p, dx| gathered(g, &dy[p * plane..][..plane], dx));
}

multiversion! {
    /// The gradient of one plane.
    fn gathered(g: &UpsampleGeom, dy: &[Elem], dx: &mut [Elem]) {
        let ([h, w], out_w) = (g.size, g.out[1]);
        let mut wide = Scratch::take(h * out_w);
        wide.fill(0.0);
        for (i, dy) in dy.chunks_exact(out_w).enumerate() {
            let (low, high, share) = g.rows.at(i);
            add_part(1.0 - share, dy, &mut wide[low * out_w..][..out_w]);
            if share != 0.0 {
                add_part(share, dy, &mut wide[high * out_w..][..out_w]);
            }
        }
        for (dx, wide) in dx.chunks_exact_mut(w).zip(wide.chunks_exact(out_w)) {
            narrow(&g.cols, wide, dx);
        }
    }
}

/// `y += part * x`.
#[inline(always)]
fn add_part(part: Elem, x: &[Elem], y: &mut [Elem]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += part * *x);
}

/// The places of one row.
#[inline(always)]
fn widen(axis: &Axis, x: &[Elem], y: &mut [Elem]) {
    let inner = match axis.doubles {
        Some(Doubling::Nearest) => return twice(x, y),
        Some(Doubling::Bilinear) => {
            twice_between(x, y);
            2..y.len() - 2
        }
        None => 0..0,
    };
    for j in (0..inner.start).chain(inner.end..y.len()) {
        let (low, high, share) = axis.at(j);
        y[j] = if share == 0.0 { x[low] } else { (1.0 - share) * x[low] + share * x[high] };
    }
}

/// The gradient of a row from that of its places.
#[inline(always)]
fn narrow(axis: &Axis, dy: &[Elem], dx: &mut [Elem]) {
    if axis.doubles == Some(Doubling::Nearest) {
        return half(dy, dx);
    }
    dx.fill(0.0);
    // Pixels that have all of theirs, and the places that the others take from.
    let (mut done, mut first, mut last) = (0..0, dy.len(), dy.len());
    if axis.doubles.is_some() {
        half_between(dy, dx);
        (done, first, last) = (1..dx.len() - 1, 4, dy.len().saturating_sub(4).max(4));
    }
    for j in (0..first).chain(last..dy.len()) {
        let (low, high, share) = axis.at(j);
        for (to, part) in [(low, 1.0 - share), (high, share)] {
            if !done.contains(&to) {
                dx[to] += part * dy[j];
            }
        }
    }
}

/// `y = (1 - share) * a + share * b`.
#[inline(always)]
fn mix(share: Elem, a: &[Elem], b: &[Elem], y: &mut [Elem]) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = (1.0 - share) * *a + share * *b;
    }
}

/// Each pixel twice.
#[inline(always)]
fn twice(x: &[Elem], y: &mut [Elem]) {
    for (y, x) in y.as_chunks_mut::<2>().0.iter_mut().zip(x) {
        *y = [*x, *x];
    }
}

/// The sum of each two.
#[inline(always)]
fn half(dy: &[Elem], dx: &mut [Elem]) {
    for (d, [a, b]) in dx.iter_mut().zip(dy.as_chunks::<2>().0) {
        *d = *a + *b;
    }
}

/// The two places of each pixel but the outer ones: a quarter of the way to its neighbours.
#[inline(always)]
fn twice_between(x: &[Elem], y: &mut [Elem]) {
    let places = y[2..].as_chunks_mut::<2>().0.iter_mut();
    for (((y, before), x), behind) in places.zip(x).zip(&x[1..]).zip(&x[2..]) {
        *y = [0.25 * *before + 0.75 * *x, 0.75 * *x + 0.25 * *behind];
    }
}

/// The gradient of each pixel but the outer ones, by [`twice_between`].
#[inline(always)]
fn half_between(dy: &[Elem], dx: &mut [Elem]) {
    let inner = dx.len() - 1;
    // [own, own] of pixel i are places 2 i and 2 i + 1; a quarter comes from the places on both sides.
    let (pairs, last) = (dy.as_chunks::<2>().0, &dy[1..]);
    let before = last.as_chunks::<2>().0;
    for (i, d) in dx[1..inner].iter_mut().enumerate() {
        let ([a, b], [left, _]) = (pairs[i + 1], before[i]);
        let [_, right] = before[i + 1];
        *d = 0.75 * (a + b) + 0.25 * (left + right);
    }
}
