//! Parts of a value.

use std::ops::{Bound, RangeBounds};

use ndarray::{ArrayD, Axis, Slice, Zip};

use crate::base::{Elem, Error, Result};
use crate::nn::Var;
use crate::nn::buffer_pool::tensor;

use super::broadcast::{joint_shape, sum_to};
use super::{assign, axis_of, view, view_mut, zeros};

impl<'t> Var<'t> {
    /// A range of an axis: `x.slice(1, 2..5)`, `x.slice(-1, ..3)`.
    pub fn slice(self, axis: isize, range: impl RangeBounds<usize>) -> Self {
        self.attempt(|| {
            let shape = self.shape();
            let axis = axis_of("slice", &shape, axis)?;
            let start = match range.start_bound() {
                Bound::Included(at) => *at,
                Bound::Excluded(at) => at.saturating_add(1),
                Bound::Unbounded => 0,
            };
            let end = match range.end_bound() {
                Bound::Included(at) => at.saturating_add(1),
                Bound::Excluded(at) => *at,
                Bound::Unbounded => shape[axis],
            };
            self.range("slice", axis, start, end)
        })
    }

    /// One place of an axis, which disappears.
    pub fn select(self, axis: isize, place: usize) -> Self {
        self.attempt(|| {
            let shape = self.shape();
            let axis = axis_of("select", &shape, axis)?;
            let part = self.range("select", axis, place, place.saturating_add(1))?;
            Ok(part.squeeze(axis as isize))
        })
    }

    /// Parts of these sizes, one behind the other along an axis, all of which they take.
    pub fn split(self, sizes: &[usize], axis: isize) -> Vec<Self> {
        let shape = self.shape();
        let parts = axis_of("split", &shape, axis).and_then(|axis| {
            if sizes.iter().sum::<usize>() != shape[axis] {
                return Err(Error::invalid(format!(
                    "`split` into {sizes:?} along axis {axis} does not take all of shape {shape:?}"
                )));
            }
            let mut start = 0;
            let part = |&size: &usize| {
                start += size;
                self.range("split", axis, start - size, start)
            };
            sizes.iter().map(part).collect::<Result<Vec<_>>>()
        });
        parts.unwrap_or_else(|error| vec![self.tape.fail(&shape, error); sizes.len()])
    }

    /// `N` parts of one size along an axis: `let [q, k, v] = x.chunk(-1);`.
    pub fn chunk<const N: usize>(self, axis: isize) -> [Self; N] {
        let shape = self.shape();
        let parts = axis_of("chunk", &shape, axis).and_then(|axis| {
            let Some(size) = shape[axis].checked_div(N).filter(|size| size * N == shape[axis]) else {
                return Err(Error::invalid(format!(
                    "`chunk` cannot cut axis {axis} of shape {shape:?} into {N} equal parts"
                )));
            };
            let part = |i: usize| self.range("chunk", axis, i * size, (i + 1) * size);
            (0..N).map(part).collect::<Result<Vec<_>>>()
        });
        match parts.map(<[Self; N]>::try_from) {
            Ok(Ok(parts)) => parts,
            Ok(Err(_)) => [self; N],
            Err(error) => [self.tape.fail(&shape, error); N],
        }
    }

    /// `start..end` of an axis.
    fn range(self, op: &'static str, axis: usize, start: usize, end: usize) -> Result<Self> {
        let x = self.value();
        let shape = x.shape().to_vec();
        if start > end || end > shape[axis] {
            return Err(Error::invalid(format!(
                "`{op}` of {start}..{end} along axis {axis} does not fit an input of shape {shape:?}"
            )));
        }
        let part = x.slice_axis(Axis(axis), Slice::from(start..end));
        let mut y = self.tape.take(part.len());
        assign(view_mut(part.shape(), &mut y), &part);
        let own = part.shape().to_vec();
        Ok(self.tape.node(op, tensor(&own, y), &[self], move |dy, grads| {
            let mut dx = zeros(grads.pool, shape.iter().product());
            let mut to = view_mut(&shape, &mut dx);
            assign(to.slice_axis_mut(Axis(axis), Slice::from(start..end)), &view(&own, &dy));
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }

    /// The own element where `mask` is true, that of `other` elsewhere, as PyTorch's `where`. All three broadcast.
    pub fn where_mask(self, mask: &ArrayD<bool>, other: Self) -> Self {
        self.attempt(|| {
            let (a, b) = (self.value(), other.value());
            let joint = joint_shape("where_mask", a.shape(), b.shape())?;
            let shape = joint_shape("where_mask", &joint, mask.shape())?;
            let mask = mask.broadcast(shape.as_slice()).map(|mask| mask.iter().copied().collect::<Vec<_>>());
            let mask = mask.unwrap_or_default();
            let mut y = self.tape.take(shape.iter().product());
            let to = Zip::from(view_mut(&shape, &mut y)).and_broadcast(a.view()).and_broadcast(b.view());
            let mut taken = mask.iter();
            to.for_each(|y, a, b| *y = if taken.next() == Some(&true) { *a } else { *b });
            let shapes = [a.shape().to_vec(), b.shape().to_vec()];
            Ok(self.tape.node("where_mask", tensor(&shape, y), &[self, other], move |dy, grads| {
                for (i, own) in shapes.iter().enumerate() {
                    if grads.wants(i) {
                        let mut dx = grads.pool.take(dy.len());
                        let parts = dy.iter().zip(&mask);
                        let keep = |(dy, taken): (&Elem, &bool)| if *taken == (i == 0) { *dy } else { 0.0 };
                        dx.iter_mut().zip(parts).for_each(|(dx, part)| *dx = keep(part));
                        let dx = sum_to(dx, &shape, own, grads.pool);
                        grads.add(i, dx);
                    }
                }
                grads.pool.give(dy);
            }))
        })
    }

    /// `value` where `mask` is true, the own element elsewhere.
    pub fn masked_fill(self, mask: &ArrayD<bool>, value: Elem) -> Self {
        self.tape.input(ArrayD::from_elem(vec![], value)).where_mask(mask, self)
    }
}
