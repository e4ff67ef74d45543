//! Elements by their places.

use ndarray::ArrayD;

use crate::base::{Elem, Error, Result, left_out};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::broadcast::joint_shape;
use super::reduce::offsets;
use super::{axis_of, zeros};

impl<'t> Var<'t> {
    /// The places `index` of an axis, in that order; a place may come several times.
    pub fn index_select(self, axis: isize, index: &[i64]) -> Self {
        self.attempt(|| {
            let shape = self.shape();
            let axis = axis_of("index_select", &shape, axis)?;
            let places = places("index_select", index.iter(), &shape, axis)?;
            Ok(self.taken("index_select", axis, places.into_iter().map(Some).collect(), 0.0))
        })
    }

    /// The elements where `mask` is true, in row-major order: one axis, as long as there are such. Both broadcast.
    pub fn masked_select(self, mask: &ArrayD<bool>) -> Self {
        self.attempt(|| {
            let shape = joint_shape("masked_select", &self.shape(), mask.shape())?;
            let x = if self.shape() == shape { self } else { self.expand(&shape) };
            let chosen = mask.broadcast(shape.as_slice()).into_iter().flatten().enumerate();
            let places = chosen.filter(|(_, chosen)| **chosen).map(|(i, _)| Some(i)).collect();
            Ok(x.reshape(&[shape.iter().product()]).taken("masked_select", 0, places, 0.0))
        })
    }

    /// `y[i][j] = x[i][index[i][j]]` along an axis, as PyTorch's `gather`: `index` has the shape of the result, and is
    /// not longer than `x` along the other axes.
    pub fn gather(self, axis: isize, index: &ArrayD<i64>) -> Self {
        self.attempt(|| {
            let x = self.value();
            let axis = axis_of("gather", x.shape(), axis)?;
            expect_within("gather", axis, x.shape(), index)?;
            let places = places("gather", index.iter(), x.shape(), axis)?;
            let (shape, own) = (x.shape().to_vec(), index.shape().to_vec());
            let mut y = self.tape.take(index.len());
            indexed(&shape, axis, &own, &places, |i, at| y[i] = slice(&x)[at]);
            Ok(self.tape.node("gather", tensor(&own, y), &[self], move |dy, grads| {
                let mut dx = grads.pool.take(shape.iter().product());
                dx.fill(0.0);
                indexed(&shape, axis, &own, &places, |i, at| dx[at] += dy[i]);
                grads.pool.give(dy);
                grads.add(0, dx);
            }))
        })
    }

    /// `y = x`, then `y[i][index[i][j]] += source[i][j]` along an axis, as PyTorch's `scatter_add`: `index` is not
    /// longer than `source` along any axis, nor than `x` along the others. Sums are taken in the order of the index.
    pub fn scatter_add(self, axis: isize, index: &ArrayD<i64>, source: Self) -> Self {
        self.attempt(|| {
            let (x, s) = (self.value(), source.value());
            let axis = axis_of("scatter_add", x.shape(), axis)?;
            expect_within("scatter_add", axis, x.shape(), index)?;
            if s.ndim() != index.ndim() || s.shape().iter().zip(index.shape()).any(|(s, i)| i > s) {
                return Err(Error::invalid(format!(
                    "`scatter_add` got an index of shape {:?} for a source of shape {:?}: the index must not be longer \
                     along any axis",
                    index.shape(),
                    s.shape()
                )));
            }
            let places = places("scatter_add", index.iter(), x.shape(), axis)?;
            let mut sources = Vec::with_capacity(places.len());
            offsets(index.shape(), &row_major(s.shape()), |at| sources.push(at));
            let mut y = self.tape.take(x.len());
            y.copy_from_slice(slice(&x));
            let (shape, own, len) = (x.shape().to_vec(), index.shape().to_vec(), s.len());
            indexed(&shape, axis, &own, &places, |i, at| y[at] += slice(&s)[sources[i]]);
            Ok(self.tape.node("scatter_add", tensor(x.shape(), y), &[self, source], move |dy, grads| {
                if grads.wants(1) {
                    let mut ds = grads.pool.take(len);
                    ds.fill(0.0);
                    indexed(&shape, axis, &own, &places, |i, at| ds[sources[i]] = dy[at]);
                    grads.add(1, ds);
                }
                grads.add(0, dy);
            }))
        })
    }

    /// The place of the largest element along an axis, which disappears: the first of equal ones, and of NaN if there
    /// is any, as in PyTorch.
    ///
    /// # Errors
    /// When there is no such axis, or nothing along it.
    pub fn argmax(self, axis: isize) -> Result<ArrayD<i64>> {
        self.extreme_place("argmax", axis, |x, best| x > best)
    }

    /// The place of the smallest element along an axis, which disappears: the first of equal ones, and of NaN if there
    /// is any.
    ///
    /// # Errors
    /// When there is no such axis, or nothing along it.
    pub fn argmin(self, axis: isize) -> Result<ArrayD<i64>> {
        self.extreme_place("argmin", axis, |x, best| x < best)
    }

    fn extreme_place(self, op: &str, axis: isize, better: fn(Elem, Elem) -> bool) -> Result<ArrayD<i64>> {
        let x = self.value();
        let axis = axis_of(op, x.shape(), axis)?;
        if x.shape()[axis] == 0 {
            return Err(Error::invalid(format!(
                "`{op}` has nothing to choose from in shape {:?}",
                x.shape()
            )));
        }
        let place = |lane: ndarray::ArrayView1<'_, Elem>| {
            let first = (0, lane[0]);
            let best = lane.iter().copied().enumerate().fold(first, |best, (i, x)| {
                if better(x, best.1) || (x.is_nan() && !best.1.is_nan()) { (i, x) } else { best }
            });
            best.0 as i64
        };
        Ok(x.map_axis(ndarray::Axis(axis), place))
    }

    /// Along an axis the places of `map`, in that order; `fill` where there is none.
    pub(super) fn taken(self, op: &'static str, axis: usize, map: Vec<Option<usize>>, fill: Elem) -> Self {
        let x = self.value();
        let mut shape = x.shape().to_vec();
        let inner: usize = shape[axis + 1..].iter().product();
        let (from, to) = (shape[axis] * inner, map.len() * inner);
        shape[axis] = map.len();
        let len = x.len();
        let mut y = self.tape.take(shape.iter().product());
        let computed = if left_out(y.len()) { 0 } else { y.len() };
        for (outer, y) in y[..computed].chunks_exact_mut(to.max(1)).enumerate() {
            let x = &slice(&x)[outer * from..][..from];
            for (y, place) in y.chunks_exact_mut(inner).zip(&map) {
                match place {
                    Some(place) => y.copy_from_slice(&x[place * inner..][..inner]),
                    None => y.fill(fill),
                }
            }
        }
        self.tape.node(op, tensor(&shape, y), &[self], move |dy, grads| {
            let mut dx = zeros(grads.pool, len);
            let computed = if left_out(dy.len()) { 0 } else { dy.len() };
            for (outer, dy) in dy[..computed].chunks_exact(to.max(1)).enumerate() {
                let dx = &mut dx[outer * from..][..from];
                for (dy, place) in dy.chunks_exact(inner).zip(&map) {
                    if let Some(place) = place {
                        dx[place * inner..][..inner].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
                    }
                }
            }
            grads.pool.give(dy);
            grads.add(0, dx);
        })
    }
}

/// The places of an axis, checked.
fn places<'a>(
    op: &str,
    index: impl Iterator<Item = &'a i64>,
    shape: &[usize],
    axis: usize,
) -> Result<Vec<usize>> {
    let place = |i: &i64| {
        usize::try_from(*i).ok().filter(|i| *i < shape[axis]).ok_or_else(|| {
            Error::invalid(format!(
                "`{op}` got place {i} of axis {axis}, which has {} in shape {shape:?}",
                shape[axis]
            ))
        })
    };
    index.map(place).collect()
}

/// Refuses an index that is longer than what it means along another axis than `axis`.
fn expect_within(op: &str, axis: usize, shape: &[usize], index: &ArrayD<i64>) -> Result<()> {
    let fits = |i: usize| i == axis || index.shape()[i] <= shape[i];
    if index.ndim() == shape.len() && (0..shape.len()).all(fits) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`{op}` along axis {axis} of shape {shape:?} got an index of shape {:?}: along the other axes it \
         must not be longer",
        index.shape()
    )))
}

/// Calls `f` with the number of each element of an index of shape `own`, and the offset, in an array of this shape, of
/// the element that it means.
fn indexed(shape: &[usize], axis: usize, own: &[usize], places: &[usize], mut f: impl FnMut(usize, usize)) {
    let mut strides = row_major(shape);
    let step = std::mem::take(&mut strides[axis]);
    let mut all = places.iter().enumerate();
    offsets(own, &strides, |at| {
        if let Some((i, place)) = all.next() {
            f(i, at + place * step);
        }
    });
}

/// By how much the offset grows along each axis.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}
