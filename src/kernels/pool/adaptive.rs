//! Pooling over a given number of parts of a plane, however large it is.
#![allow(unsafe_code)]

use super::pool2d::scatter_max;
use crate::base::{Elem, Error, Result};
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::par;
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

    /// Rows and columns of each part, row by row.
    fn bins(self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let bin = |i: usize, size: usize, out: usize| {
            // Whole parts and the rest apart, so that no product overflows.
            let (whole, rest) = (size / out, size % out);
            let at = |i: usize| i * whole + (i as u128 * rest as u128 / out as u128) as usize;
            let behind = |i: usize| i * whole + (i as u128 * rest as u128).div_ceil(out as u128) as usize;
            at(i)..behind(i + 1)
        };
        (0..self.out[0]).flat_map(move |i| {
            (0..self.out[1]).map(move |j| (bin(i, self.h, self.out[0]), bin(j, self.w, self.out[1])))
        })
    }
}

/// `y`: the mean of each part.
pub fn adaptive_avg_pool2d(g: &AdaptivePoolGeom, x: &[Elem], y: &mut [Elem]) {
    assert!(x.len() == g.x_len() && y.len() == g.y_len(), "slices do not fit {g:?}");
    let plane = g.h * g.w;
    par::each_index((g.out[0] * g.out[1]).max(1), y, |p, y| {
        let x = &x[p * plane..][..plane];
        for (y, (rows, cols)) in y.iter_mut().zip(g.bins()) {
            let count = (rows.len() * cols.len()) as Elem;
            *y = rows.map(|r| x[r * g.w..][cols.clone()].iter().sum::<Elem>()).sum::<Elem>() / count;
        }
    });
}

/// `dx`: the gradient of each mean, spread over its part; overwritten.
pub fn adaptive_avg_pool2d_backward(g: &AdaptivePoolGeom, dy: &[Elem], dx: &mut [Elem]) {
    assert!(dx.len() == g.x_len() && dy.len() == g.y_len(), "slices do not fit {g:?}");
    let out = g.out[0] * g.out[1];
    par::each_index((g.h * g.w).max(1), dx, |p, dx| {
        dx.fill(0.0);
        for (dy, (rows, cols)) in dy[p * out..][..out].iter().zip(g.bins()) {
            let share = dy / (rows.len() * cols.len()) as Elem;
            rows.for_each(|r| dx[r * g.w..][cols.clone()].iter_mut().for_each(|d| *d += share));
        }
    });
}

/// `y`: the largest element of each part; `argmax`: its position in its plane (`y * w + x`), the first of equals. NaN
/// counts as largest.
pub fn adaptive_max_pool2d(g: &AdaptivePoolGeom, x: &[Elem], y: &mut [Elem], argmax: &mut [u32]) {
    assert!(
        x.len() == g.x_len() && y.len() == g.y_len() && argmax.len() == y.len(),
        "slices do not fit {g:?}"
    );
    let (plane, out) = (g.h * g.w, (g.out[0] * g.out[1]).max(1));
    let at = DisjointMut::from(y);
    par::each_index(out, argmax, |p, argmax| {
        // SAFETY: one task for each plane.
        let y = unsafe { at.slice(p * out, out) };
        let x = &x[p * plane..][..plane];
        for ((y, argmax), (rows, cols)) in y.iter_mut().zip(argmax).zip(g.bins()) {
            let first = rows.start * g.w + cols.start;
            (*y, *argmax) = (x[first], first as u32);
            for i in rows.flat_map(|r| cols.clone().map(move |c| r * g.w + c)) {
                if x[i] > *y || x[i].is_nan() {
                    (*y, *argmax) = (x[i], i as u32);
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
    scatter_max(g.h * g.w, g.out[0] * g.out[1], dy, argmax, dx);
}
