//! Sums, means, maxima and minima, of all elements or along axes.

use crate::base::{Elem, Error, Result, left_out};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::{axis_of, view, view_mut};

impl<'t> Var<'t> {
    /// The sum of all elements, shape `[]`.
    pub fn sum(self) -> Self {
        self.reduce("sum", 1.0)
    }

    /// The mean of all elements, shape `[]`; 0 for none.
    pub fn mean(self) -> Self {
        self.reduce("mean", 1.0 / self.value().len().max(1) as Elem)
    }

    fn reduce(self, op: &'static str, factor: Elem) -> Self {
        let x = self.value();
        let len = x.len();
        // In f64: a batch of per-sample losses must not lose digits to its size.
        let sum: f64 = slice(&x).iter().map(|&v| f64::from(v)).sum();
        let mut y = self.tape.take(1);
        y[0] = sum as Elem * factor;
        self.tape.node(op, tensor(&[], y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(len);
            dx.fill(dy[0] * factor);
            grads.pool.give(dy);
            grads.add(0, dx);
        })
    }

    /// The sums along these axes, which disappear.
    pub fn sum_axes(self, axes: &[isize]) -> Self {
        self.attempt(|| Axes::new("sum_axes", &self.shape(), axes, false).map(|axes| self.sums(&axes, false)))
    }

    /// The sums along these axes, which stay with size 1.
    pub fn sum_keepdim(self, axes: &[isize]) -> Self {
        self.attempt(|| {
            Axes::new("sum_keepdim", &self.shape(), axes, true).map(|axes| self.sums(&axes, false))
        })
    }

    /// The means along these axes, which disappear; 0 where there is nothing to average.
    pub fn mean_axes(self, axes: &[isize]) -> Self {
        self.attempt(|| Axes::new("mean_axes", &self.shape(), axes, false).map(|axes| self.sums(&axes, true)))
    }

    /// The means along these axes, which stay with size 1; 0 where there is nothing to average.
    pub fn mean_keepdim(self, axes: &[isize]) -> Self {
        self.attempt(|| {
            Axes::new("mean_keepdim", &self.shape(), axes, true).map(|axes| self.sums(&axes, true))
        })
    }

    /// The largest elements along these axes, which disappear. Equal ones share the gradient, as in PyTorch's `amax`.
    pub fn max_axes(self, axes: &[isize]) -> Self {
        self.attempt(|| self.extreme(&Axes::new("max_axes", &self.shape(), axes, false)?, 1.0))
    }

    /// The largest elements along these axes, which stay with size 1.
    pub fn max_keepdim(self, axes: &[isize]) -> Self {
        self.attempt(|| self.extreme(&Axes::new("max_keepdim", &self.shape(), axes, true)?, 1.0))
    }

    /// The smallest elements along these axes, which disappear. Equal ones share the gradient, as in PyTorch's `amin`.
    pub fn min_axes(self, axes: &[isize]) -> Self {
        self.attempt(|| self.extreme(&Axes::new("min_axes", &self.shape(), axes, false)?, -1.0))
    }

    /// The smallest elements along these axes, which stay with size 1.
    pub fn min_keepdim(self, axes: &[isize]) -> Self {
        self.attempt(|| self.extreme(&Axes::new("min_keepdim", &self.shape(), axes, true)?, -1.0))
    }

    fn sums(self, axes: &Axes, mean: bool) -> Self {
        let x = self.value();
        let count = if mean { axes.count().max(1) as f64 } else { 1.0 };
        let sums = fold(slice(&x), x.shape(), &axes.reduced, 0.0, |sum, x| sum + x);
        let mut y = self.tape.take(sums.len());
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = (sum / count) as Elem);
        let (shape, kept) = (x.shape().to_vec(), axes.kept_shape());
        let count = count as Elem;
        self.tape.node(axes.op, tensor(&axes.shape, y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(shape.iter().product());
            let mut to = view_mut(&shape, &mut dx);
            to.zip_mut_with(&view(&kept, &dy), |dx, dy| *dx = dy / count);
            grads.pool.give(dy);
            grads.add(0, dx);
        })
    }

    /// The largest elements for a `sign` of 1, the smallest for −1.
    fn extreme(self, axes: &Axes, sign: f64) -> Result<Self> {
        let x = self.value();
        if axes.count() == 0 {
            return Err(Error::invalid(format!(
                "`{}` has nothing to choose from in shape {:?}",
                axes.op,
                x.shape()
            )));
        }
        let larger = |best: f64, x: f64| if sign * x > best || x.is_nan() { sign * x } else { best };
        let best = fold(slice(&x), x.shape(), &axes.reduced, f64::NEG_INFINITY, larger);
        let mut y = self.tape.take(best.len());
        y.iter_mut().zip(best).for_each(|(y, best)| *y = (sign * best) as Elem);
        let y = tensor(&axes.shape, y);
        let (saved, kept, reduced) = (y.clone(), axes.kept_shape(), axes.reduced.clone());
        Ok(self.tape.node(axes.op, y, &[self], move |mut dy, grads| {
            let best = view(&kept, slice(&saved));
            let mut dx = grads.pool.take(x.len());
            let mut to = view_mut(x.shape(), &mut dx);
            to.assign(&x);
            to.zip_mut_with(&best, |x, best| *x = Elem::from(u8::from(*x == *best)));
            let ties = fold(&dx, x.shape(), &reduced, 0.0, |sum, x| sum + x);
            dy.iter_mut().zip(ties).for_each(|(dy, ties)| *dy /= ties as Elem);
            view_mut(x.shape(), &mut dx).zip_mut_with(&view(&kept, &dy), |chosen, dy| *chosen *= dy);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}

/// The axes along which an op goes.
pub(super) struct Axes {
    pub op: &'static str,
    /// For each axis of the input, whether it is one of them.
    pub reduced: Vec<bool>,
    /// The shape of the input.
    input: Vec<usize>,
    /// The shape of the result.
    pub shape: Vec<usize>,
}

impl Axes {
    pub fn new(op: &'static str, input: &[usize], axes: &[isize], keep: bool) -> Result<Self> {
        let mut reduced = vec![false; input.len()];
        for &axis in axes {
            if std::mem::replace(&mut reduced[axis_of(op, input, axis)?], true) {
                return Err(Error::invalid(format!("`{op}` names axis {axis} twice in {axes:?}")));
            }
        }
        let sizes = input.iter().zip(&reduced);
        let shape =
            sizes.filter(|(_, gone)| keep || !**gone).map(|(size, gone)| if *gone { 1 } else { *size });
        Ok(Self { op, shape: shape.collect(), input: input.to_vec(), reduced })
    }

    /// Elements that become one.
    pub fn count(&self) -> usize {
        self.input.iter().zip(&self.reduced).filter(|(_, gone)| **gone).map(|(size, _)| *size).product()
    }

    /// The shape of the result with the axes at size 1.
    pub fn kept_shape(&self) -> Vec<usize> {
        self.input.iter().zip(&self.reduced).map(|(size, gone)| if *gone { 1 } else { *size }).collect()
    }
}

/// Folds the elements of each group along the axes that are `reduced`, in row-major order and in `f64`.
pub(super) fn fold(
    x: &[Elem],
    shape: &[usize],
    reduced: &[bool],
    init: f64,
    f: impl Fn(f64, f64) -> f64,
) -> Vec<f64> {
    let mut strides = vec![0; shape.len()];
    let mut len = 1;
    for axis in (0..shape.len()).rev().filter(|axis| !reduced[*axis]) {
        strides[axis] = len;
        len *= shape[axis];
    }
    if left_out(x.len()) {
        // Of no other number are quotients and logarithms finite.
        return vec![1.0; len];
    }
    let mut out = vec![init; len];
    let row = shape.last().copied().unwrap_or(1);
    let one = reduced.last().copied().unwrap_or(true);
    let mut rows = x.chunks_exact(row.max(1));
    offsets(&shape[..shape.len().saturating_sub(1)], &strides, |at| {
        let Some(row) = rows.next() else { return };
        if one {
            out[at] = row.iter().fold(out[at], |sum, x| f(sum, f64::from(*x)));
        } else {
            out[at..].iter_mut().zip(row).for_each(|(sum, x)| *sum = f(*sum, f64::from(*x)));
        }
    });
    out
}

/// Calls `f` with the offset, by `strides`, of each place in an array of this shape, in row-major order.
pub(super) fn offsets(shape: &[usize], strides: &[usize], mut f: impl FnMut(usize)) {
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..shape.iter().product() {
        f(at);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}
