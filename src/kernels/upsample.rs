//! Images made larger or smaller, by the nearest pixel or by a mean of four, with PyTorch's rules for where a pixel
//! comes from (`UpSample.h` of ATen).

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
    nearest: bool,
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
        let nearest = mode == UpsampleMode::Nearest;
        Ok(Self { planes: n * c, size: [h, w], out, rows: axis(0, h), cols: axis(1, w), nearest })
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
    let [h, w] = g.size;
    par::each_index(g.out[0] * g.out[1], y, |p, y| {
        let x = &x[p * h * w..][..h * w];
        let mut mixed = Scratch::take(w);
        for (i, y) in y.chunks_exact_mut(g.out[1]).enumerate() {
            let (low, high, share) = g.rows.at(i);
            let (low, high) = (&x[low * w..][..w], &x[high * w..][..w]);
            if g.nearest {
                y.iter_mut().zip(&g.cols.low).for_each(|(y, at)| *y = low[*at as usize]);
                continue;
            }
            for ((m, a), b) in mixed.iter_mut().zip(low).zip(high) {
                *m = (1.0 - share) * a + share * b;
            }
            for (j, y) in y.iter_mut().enumerate() {
                let (low, high, share) = g.cols.at(j);
                *y = (1.0 - share) * mixed[low] + share * mixed[high];
            }
        }
    });
}

/// `dx`: the gradient of each pixel goes to those it came from; overwritten.
pub fn upsample_backward(g: &UpsampleGeom, dy: &[Elem], dx: &mut [Elem]) {
    assert!(dx.len() == g.x_len() && dy.len() == g.y_len(), "slices do not fit {g:?}");
    let ([_, w], out) = (g.size, g.out[0] * g.out[1]);
    par::each_index(g.size[0] * w, dx, |p, dx| {
        let mut mixed = Scratch::take(w);
        dx.fill(0.0);
        for (i, dy) in dy[p * out..][..out].chunks_exact(g.out[1]).enumerate() {
            let (low, high, share) = g.rows.at(i);
            mixed.fill(0.0);
            for (j, d) in dy.iter().enumerate() {
                let (low, high, share) = g.cols.at(j);
                mixed[low] += (1.0 - share) * d;
                mixed[high] += share * d;
            }
            for (to, part) in [(low, 1.0 - share), (high, share)] {
                dx[to * w..][..w].iter_mut().zip(&mixed[..]).for_each(|(d, m)| *d += part * m);
            }
        }
    });
}
