//! Pooling over a given number of parts of a plane, however large it is.
#![allow(unsafe_code)]

use super::pool2d::scatter_max;
use crate::base::{Elem, Error, Result};
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::isa::multiversion;
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use std::ops::Range;

/// The shape of an adaptive pooling: `x` is [planes, h, w], `y` is [planes, out].
///
/// Part i of o along an axis of size s runs from ⌊i s / o⌋ to ⌈(i + 1) s / o⌉, as in PyTorch; neighbours may overlap by
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptivePoolGeom {
    /// Planes: images times channels.
    pub planes: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Output height and width.
    pub out: [usize; 2],
}

impl AdaptivePoolGeom {
    /// The geometry for an input of shape [n, c, h, w].
    ///
    /// # Errors
    /// If there is nothing to cut, or no part.
    pub fn new(input: [usize; 4], out: [usize; 2]) -> Result<Self> {
        let [n, c, h, w] = input;
        if h == 0 || w == 0 || out.contains(&0) {
            return Err(Error::invalid(format!(
                "an adaptive pooling cannot cut {h} x {w} into {} x {} parts",
                out[0], out[1]
            )));
        }
        Ok(Self { planes: n * c, h, w, out })
    }

    /// Elements of the input.
    pub fn x_len(&self) -> usize {
        self.planes * self.h * self.w
    }

    /// Elements of the output.
    pub fn y_len(&self) -> usize {
        self.planes * self.out[0] * self.out[1]
    }

    /// The rows of each row of parts, and the columns of each column of them; none where there is no plane to cut.
    fn bins(self) -> [Vec<Range<usize>>; 2] {
        if self.planes == 0 {
            return [Vec::new(), Vec::new()];
        }
        let bin = |i: usize, size: usize, out: usize| {
            // Whole parts and the rest apart, so that no product overflows.
            let (whole, rest) = (size / out, size % out);
            let at = |i: usize| i * whole + (i as u128 * rest as u128 / out as u128) as usize;
            let behind = |i: usize| i * whole + (i as u128 * rest as u128).div_ceil(out as u128) as usize;
            at(i)..behind(i + 1)
        };
        [(self.h, self.out[0]), (self.w, self.out[1])].map(|(s, o)| (0..o).map(|i| bin(i, s, o)).collect())
    }
}

/// `y`: the mean of each part.
pub fn adaptive_avg_pool2d(g: &AdaptivePoolGeom, x: &[Elem], y: &mut [Elem]) {
    assert!(x.len() == g.x_len() && y.len() == g.y_len(), "slices do not fit {g:?}");
    let (plane, [rows, cols]) = (g.h * g.w, g.bins());
    par::each_reduced(plane, (g.out[0] * g.out[1]).max(1), y, |p, y| {
        means(g.w, &rows, &cols, &x[p * plane..][..plane], y);
    });
}

multiversion! {
    /// The mean of each part of a plane: its rows are added up first, side by side.
    fn means(w: usize, rows: &[Range<usize>], cols: &[Range<usize>], x: &[Elem], y: &mut [Elem]) {
        let mut sums = Scratch::take(w);
        for (y, rows) in y.chunks_exact_mut(cols.len()).zip(rows) {
            sums.fill(0.0);
            for x in x[rows.start * w..rows.end * w].chunks_exact(w) {
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += *x);
            }
            for (y, cols) in y.iter_mut().zip(cols) {
                let count = (rows.len() * cols.len()) as Elem;
                *y = sums[cols.clone()].iter().sum::<Elem>() / count;
            }
        }
    }
}

/// `dx`: the gradient of each mean, spread over its part; overwritten.
pub fn adaptive_avg_pool2d_backward(g: &AdaptivePoolGeom, dy: &[Elem], dx: &mut [Elem]) {
    assert!(dx.len() == g.x_len() && dy.len() == g.y_len(), "slices do not fit {g:?}");
    let (out, [rows, cols]) = (g.out[0] * g.out[1], g.bins());
    par::each_index((g.h * g.w).max(1), dx, |p, dx| {
        shares(g.w, &rows, &cols, &dy[p * out..][..out], dx);
    });
}

multiversion! {
    /// The gradient of each mean to all of its part: a row of shares is made once and added to each row of the part.
    fn shares(w: usize, rows: &[Range<usize>], cols: &[Range<usize>], dy: &[Elem], dx: &mut [Elem]) {
        let mut row = Scratch::take(w);
        dx.fill(0.0);
        for (dy, rows) in dy.chunks_exact(cols.len()).zip(rows) {
            row.fill(0.0);
            for (dy, cols) in dy.iter().zip(cols) {
                let share = dy / (rows.len() * cols.len()) as Elem;
                row[cols.clone()].iter_mut().for_each(|d| *d += share);
            }
            for dx in dx[rows.start * w..rows.end * w].chunks_exact_mut(w) {
                dx.iter_mut().zip(&*row).for_each(|(d, share)| *d += *share);
            }
        }
    }
}

/// `y`: the largest element of each part; `argmax`: its position in its plane (`y * w + x`), the first of equals. NaN
/// counts as largest.
pub fn adaptive_max_pool2d(g: &AdaptivePoolGeom, x: &[Elem], y: &mut [Elem], argmax: &mut [u32]) {
    assert!(
        x.len() == g.x_len() && y.len() == g.y_len() && argmax.len() == y.len(),
        "slices do not fit {g:?}"
    );
    let (plane, out) = (g.h * g.w, (g.out[0] * g.out[1]).max(1));
    let (at, [rows, cols]) = (DisjointMut::from(y), g.bins());
    par::each_reduced(plane, out, argmax, |p, argmax| {
        // SAFETY: one task for each plane.
        let y = unsafe { at.slice(p * out, out) };
        let x = &x[p * plane..][..plane];
        let parts = rows.iter().flat_map(|rows| cols.iter().map(move |cols| (rows.clone(), cols.clone())));
        for ((y, argmax), (rows, cols)) in y.iter_mut().zip(argmax).zip(parts) {
            let first = rows.start * g.w + cols.start;
            (*y, *argmax) = (x[first], first as u32);
            for r in rows {
                let from = r * g.w + cols.start;
                for (i, x) in (from..).zip(&x[from..][..cols.len()]) {
                    if *x > *y || x.is_nan() {
                        (*y, *argmax) = (*x, i as u32);
                    }
                }
            }
        }
    });
}

/// `dx`: each gradient goes to the position that won; overwritten.
pub fn adaptive_max_pool2d_backward(g: &AdaptivePoolGeom, dy: &[Elem], argmax: &[u32], dx: &mut [Elem]) {
    assert!(
        dx.len() == g.x_len() && dy.len() == g.y_len() && argmax.len() == dy.len(),
        "slices do not fit {g:?}"
    );
    scatter_max(g.h * g.w, g.out[0] * g.out[1], dy.into(), argmax, None, dx.into());
}
