//! Broadcasting, and the sums that undo it on the way back.

use ndarray::Zip;

use crate::base::{Elem, Error, Result, Tensor, left_out};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{BufferPool, Var};

use super::reduce::fold;
use super::{assign, view, view_mut};

/// The shape that two shapes have in common.
pub(super) fn joint_shape(op: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let axes = a.len().max(b.len());
    let size = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(axes).map_or(1, |i| shape[i]);
    let joint = (0..axes).map(|i| match (size(a, i), size(b, i)) {
        (a, b) if a == b => Some(a),
        (1, size) | (size, 1) => Some(size),
        _ => None,
    });
    joint.collect::<Option<_>>().ok_or_else(|| {
        Error::invalid(format!(
            "`{op}` wants shapes that broadcast, got {a:?} and {b:?}: counted from the last, two axes are equal or one is 1"
        ))
    })
}

/// The sum of `grad`, of shape `from`, over the axes along which a value of shape `to` was repeated.
pub(super) fn sum_to(grad: Vec<Elem>, from: &[usize], to: &[usize], pool: &mut BufferPool) -> Vec<Elem> {
    if from == to {
        return grad;
    }
    let new = from.len() - to.len();
    let repeated: Vec<bool> =
        from.iter().enumerate().map(|(i, size)| i < new || (to[i - new] == 1 && *size != 1)).collect();
    let sums = fold(&grad, from, &repeated, 0.0, |sum, x| sum + x);
    let mut out = pool.take(sums.len());
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as Elem);
    pool.give(grad);
    out
}

/// `y = f(a, b)`, element by element, of values that broadcast to `shape`.
fn zip(shape: &[usize], [a, b]: [&Tensor; 2], y: &mut [Elem], f: impl Fn(Elem, Elem) -> Elem) {
    if left_out(y.len()) {
        return;
    }
    if a.shape() == b.shape() {
        return y.iter_mut().zip(slice(a)).zip(slice(b)).for_each(|((y, a), b)| *y = f(*a, *b));
    }
    let to = Zip::from(view_mut(shape, y));
    to.and_broadcast(a.view()).and_broadcast(b.view()).for_each(|y, a, b| *y = f(*a, *b));
}

/// `dx = df(dy, a, b)`, element by element.
fn zip_back(
    shape: &[usize],
    dy: &[Elem],
    [a, b]: [&Tensor; 2],
    dx: &mut [Elem],
    df: impl Fn(Elem, Elem, Elem) -> Elem,
) {
    if left_out(dx.len()) {
        return;
    }
    let to = Zip::from(view_mut(shape, dx)).and(view(shape, dy));
    to.and_broadcast(a.view()).and_broadcast(b.view()).for_each(|dx, dy, a, b| *dx = df(*dy, *a, *b));
}

impl Var<'_> {
    /// An op of two values, element by element. `df` takes the gradient of the result, and both elements, to the
    /// gradient of the first and of the second.
    pub(super) fn binary(
        self,
        op: &'static str,
        other: Self,
        f: impl Fn(Elem, Elem) -> Elem,
        df: [fn(Elem, Elem, Elem) -> Elem; 2],
    ) -> Self {
        self.attempt(|| {
            let (a, b) = (self.value(), other.value());
            let shape = joint_shape(op, a.shape(), b.shape())?;
            let mut y = self.tape.take(shape.iter().product());
            zip(&shape, [&a, &b], &mut y, f);
            Ok(self.tape.node(op, tensor(&shape, y), &[self, other], move |dy, grads| {
                for (i, input) in [(0, &a), (1, &b)] {
                    if grads.wants(i) {
                        let mut dx = grads.pool.take(dy.len());
                        zip_back(&shape, &dy, [&a, &b], &mut dx, df[i]);
                        let dx = sum_to(dx, &shape, input.shape(), grads.pool);
                        grads.add(i, dx);
                    }
                }
                grads.pool.give(dy);
            }))
        })
    }

    /// The value repeated to this shape, as PyTorch's `expand`.
    pub fn expand(self, shape: &[usize]) -> Self {
        self.attempt(|| {
            let x = self.value();
            let Some(repeated) = x.broadcast(shape) else {
                return Err(Error::invalid(format!(
                    "`expand` cannot repeat shape {:?} to {shape:?}: counted from the last, its axes are equal or 1",
                    x.shape()
                )));
            };
            let mut y = self.tape.take(shape.iter().product());
            assign(view_mut(shape, &mut y), &repeated);
            let (from, to) = (x.shape().to_vec(), shape.to_vec());
            Ok(self.tape.node("expand", tensor(shape, y), &[self], move |dy, grads| {
                let dx = sum_to(dy, &to, &from, grads.pool);
                grads.add(0, dx);
            }))
        })
    }
}
