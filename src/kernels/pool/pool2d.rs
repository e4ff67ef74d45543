//! Pooling over windows and over whole planes.
#![allow(unsafe_code)]

use super::plane::{max_plane, mean_plane, spread_plane};
use crate::base::{Elem, Error, Result};
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::{Slope, scale};
use crate::kernels::number::{Number, Numbers, NumbersMut, bf16};
use crate::kernels::par;
use crate::kernels::reduce::row_sums;
use crate::kernels::scratch::Scratch;
use crate::kernels::window::{TOO_SMALL, Window};

/// The shape of a pooling: `x` is [n, c, h, w], `y` is [n, c, out].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolGeom {
    /// Planes: images times channels.
    pub planes: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Padding on each side: minus infinity for the maximum, zeros for the mean.
    pub padding: [usize; 2],
    /// Distance of two taps.
    pub dilation: [usize; 2],
    /// Output height and width.
    pub out: [usize; 2],
}

impl PoolGeom {
    /// The geometry for an input of shape [n, c, h, w]; PyTorch's rules (with `ceil_mode` the last window must start
    /// inside the input or its left padding).
    ///
    /// # Errors
    /// If a kernel size, stride or dilation is 0, the padding is more than half the kernel, or the window does not fit.
    pub fn new(input: [usize; 4], window: Window, ceil_mode: bool) -> Result<Self> {
        let [n, c, h, w] = input;
        if let Some((name, v)) = window.zero() {
            return Err(Error::invalid(format!("the {name} of a pooling is {v:?}; it must be at least 1")));
        }
        let Window { kernel, stride, padding, dilation } = window;
        if padding[0] * 2 > kernel[0] || padding[1] * 2 > kernel[1] {
            return Err(Error::invalid(format!(
                "the padding {padding:?} of a pooling is more than half of its kernel {kernel:?}"
            )));
        }
        let positions = |axis: usize, size: usize| {
            let exact = window.rest(axis, size).is_none_or(|rest| rest.is_multiple_of(stride[axis]));
            match window.positions(axis, size) {
                Some(o) if ceil_mode && !exact && o * stride[axis] < size + padding[axis] => Ok(o + 1),
                Some(o) => Ok(o),
                None => Err(Error::invalid(format!(
                    "a pooling window of {kernel:?} with dilation {dilation:?} and padding {padding:?} does not fit an \
                     input of {h} x {w}: {TOO_SMALL}"
                ))),
            }
        };
        let out = [positions(0, h)?, positions(1, w)?];
        Ok(Self { planes: n * c, h, w, kernel, stride, padding, dilation, out })
    }

    /// Elements of the input.
    pub fn x_len(&self) -> usize {
        self.planes * self.h * self.w
    }

    /// Elements of the output.
    pub fn y_len(&self) -> usize {
        self.planes * self.out[0] * self.out[1]
    }

    /// What the mean of the window (oy, ox) divides by: with `count_include_pad` the window clipped to the padded
    /// input, else the number of inputs it holds.
    pub(super) fn divisor(&self, oy: usize, ox: usize, count_include_pad: bool) -> Elem {
        let axis = |i: usize, o: usize, size: usize| {
            let start = o * self.stride[i];
            let end = (start + self.kernel[i]).min(size + 2 * self.padding[i]);
            if count_include_pad {
                end - start
            } else {
                end.min(size + self.padding[i]).saturating_sub(start.max(self.padding[i]))
            }
        };
        (axis(0, oy, self.h) * axis(1, ox, self.w)) as Elem
    }
}

/// `y`: the largest element of each window; `argmax`: its position in its plane (`y * w + x`), the first of equals.
/// NaN counts as largest. `x` and `y` are stored in the same way.
pub fn max_pool2d<'a>(
    g: &PoolGeom,
    x: impl Into<Numbers<'a>>,
    y: impl Into<NumbersMut<'a>>,
    argmax: &mut [u32],
) {
    match y.into() {
        NumbersMut::Full(y) => max_planes::<Elem>(g, Number::all(x.into()), y, argmax),
        NumbersMut::Half(y) => max_planes::<bf16>(g, Number::all(x.into()), y, argmax),
    }
}

fn max_planes<X: Number>(g: &PoolGeom, x: &[X], y: &mut [X], argmax: &mut [u32]) {
    assert!(
        x.len() == g.x_len() && y.len() == g.y_len() && argmax.len() == y.len(),
        "slices do not fit {g:?}"
    );
    let (plane, out) = (g.h * g.w, (g.out[0] * g.out[1]).max(1));
    let at = DisjointMut::from(y);
    par::each_reduced(plane, out, argmax, |p, argmax| {
        // SAFETY: one task for each plane.
        let y = unsafe { at.slice(p * out, out) };
        max_plane(g, &x[p * plane..][..plane], y, argmax);
    });
}

/// `dx`: each gradient goes to the position that won, times the `slope` of the activation before; overwritten.
pub fn max_pool2d_backward<'a>(
    g: &PoolGeom,
    dy: impl Into<Numbers<'a>>,
    argmax: &[u32],
    slope: Option<Slope<'_>>,
    dx: impl Into<NumbersMut<'a>>,
) {
    let (dy, dx) = (dy.into(), dx.into());
    assert!(
        dx.len() == g.x_len() && dy.len() == g.y_len() && argmax.len() == dy.len(),
        "slices do not fit {g:?}"
    );
    scatter_max(g.h * g.w, g.out[0] * g.out[1], dy, argmax, slope, dx);
}

/// Each gradient of a plane of `out` elements goes to its position in a plane of `plane`, times the slope there; sums that
/// are to be rounded are rounded once.
pub(super) fn scatter_max(
    plane: usize,
    out: usize,
    dy: Numbers<'_>,
    argmax: &[u32],
    slope: Option<Slope<'_>>,
    dx: NumbersMut<'_>,
) {
    let scatter = |p: usize, dx: &mut [Elem]| {
        dx.fill(0.0);
        let window = p * out..(p + 1) * out;
        match dy {
            Numbers::Full(dy) => add_at(&dy[window.clone()], &argmax[window], dx),
            Numbers::Half(dy) => add_at(&dy[window.clone()], &argmax[window], dx),
        }
        if let Some(slope) = slope {
            slope.take(p * plane, dx);
        }
    };
    match dx {
        NumbersMut::Full(dx) => par::each_reduced(out, plane.max(1), dx, scatter),
        NumbersMut::Half(dx) => par::each_reduced(out, plane.max(1), dx, |p, dx| {
            let mut sums = Scratch::take(plane);
            scatter(p, &mut sums);
            bf16::write(&sums, dx);
        }),
    }
}

fn add_at<D: Number>(dy: &[D], at: &[u32], dx: &mut [Elem]) {
    for (d, at) in dy.iter().zip(at) {
        dx[*at as usize] += d.wide();
    }
}

/// `y`: the mean of each window. The dilation must be 1.
pub fn avg_pool2d(g: &PoolGeom, count_include_pad: bool, x: &[Elem], y: &mut [Elem]) {
    assert!(x.len() == g.x_len() && y.len() == g.y_len() && g.dilation == [1, 1], "slices do not fit {g:?}");
    let plane = g.h * g.w;
    par::each_reduced(plane, (g.out[0] * g.out[1]).max(1), y, |p, y| {
        mean_plane(g, count_include_pad, &x[p * plane..][..plane], y);
    });
}

/// `dx`: the gradient of the mean, spread over its window, times the `slope` of the activation before; overwritten.
pub fn avg_pool2d_backward(
    g: &PoolGeom,
    count_include_pad: bool,
    dy: &[Elem],
    slope: Option<Slope<'_>>,
    dx: &mut [Elem],
) {
    assert!(
        dx.len() == g.x_len() && dy.len() == g.y_len() && g.dilation == [1, 1],
        "slices do not fit {g:?}"
    );
    let out = g.out[0] * g.out[1];
    par::each_index((g.h * g.w).max(1), dx, |p, dx| {
        spread_plane(g, count_include_pad, &dy[p * out..][..out], dx);
        if let Some(slope) = slope {
            slope.take(p * g.h * g.w, dx);
        }
    });
}

/// `y[p]`: the mean of plane p of `x` ([planes, inner]).
pub fn global_avg_pool(inner: usize, x: &[Elem], y: &mut [Elem]) {
    assert_eq!(x.len(), y.len() * inner);
    row_sums(x, 0.0, y);
    scale(1.0 / inner as Elem, y);
}

/// `dx[p, ..] = dy[p] / inner`; overwritten.
pub fn global_avg_pool_backward(inner: usize, dy: &[Elem], dx: &mut [Elem]) {
    assert_eq!(dx.len(), dy.len() * inner);
    par::each_index(inner.max(1), dx, |p, dx| dx.fill(dy[p] / inner as Elem));
}
