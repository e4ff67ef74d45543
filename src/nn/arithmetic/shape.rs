//! Other shapes of the same elements.

use ndarray::IxDyn;

use crate::base::{Error, Result};
use crate::nn::Var;
use crate::nn::buffer_pool::tensor;

use super::{assign, axis_of, view, view_mut};

impl<'t> Var<'t> {
    /// The same elements in row-major order under another shape; nothing is copied.
    pub fn reshape(self, shape: &[usize]) -> Self {
        self.attempt(|| {
            let x = self.value();
            let from = x.shape().to_vec();
            let y = x.into_shape_with_order(IxDyn(shape)).map_err(|_| {
                Error::invalid(format!(
                    "a tensor of shape {from:?} cannot be reshaped to {shape:?}: other number of elements"
                ))
            })?;
            Ok(self.tape.node("reshape", y, &[self], |dy, grads| grads.add(0, dy)))
        })
    }

    /// Joins the axes `start..=end` into one, as PyTorch's `flatten`; negative numbers count from the end.
    pub fn flatten(self, start: isize, end: isize) -> Self {
        self.attempt(|| {
            let shape = self.shape();
            let axes = shape.len() as isize;
            let axis = |i: isize| if i < 0 { i + axes } else { i };
            let (from, to) = (axis(start), axis(end));
            if from < 0 || to >= axes || from > to {
                return Err(Error::invalid(format!(
                    "flatten from axis {start} to {end} does not fit an input of shape {shape:?}"
                )));
            }
            let (from, to) = (from as usize, to as usize);
            let mut joined = shape[..from].to_vec();
            joined.push(shape[from..=to].iter().product());
            joined.extend_from_slice(&shape[to + 1..]);
            Ok(self.reshape(&joined))
        })
    }

    /// A new axis of size 1; −1 puts it last.
    pub fn unsqueeze(self, axis: isize) -> Self {
        self.attempt(|| {
            let mut shape = self.shape();
            let among: Vec<usize> = shape.iter().copied().chain([1]).collect();
            let axis = axis_of("unsqueeze", &among, axis)?;
            shape.insert(axis, 1);
            Ok(self.reshape(&shape))
        })
    }

    /// Without an axis, which has size 1.
    pub fn squeeze(self, axis: isize) -> Self {
        self.attempt(|| {
            let mut shape = self.shape();
            let axis = axis_of("squeeze", &shape, axis)?;
            if shape[axis] != 1 {
                return Err(Error::invalid(format!(
                    "`squeeze` takes axis {axis} away from shape {shape:?}, but its size is not 1"
                )));
            }
            shape.remove(axis);
            Ok(self.reshape(&shape))
        })
    }

    /// The axes in another order: axis i of the result is axis `axes[i]`.
    pub fn permute(self, axes: &[isize]) -> Self {
        self.attempt(|| {
            let shape = self.shape();
            let order: Vec<usize> =
                axes.iter().map(|axis| axis_of("permute", &shape, *axis)).collect::<Result<_>>()?;
            let mut back = vec![usize::MAX; shape.len()];
            order.iter().enumerate().for_each(|(i, axis)| back[*axis] = i);
            if order.len() != shape.len() || back.contains(&usize::MAX) {
                return Err(Error::invalid(format!(
                    "`permute` by {axes:?} does not name each axis of shape {shape:?} once"
                )));
            }
            Ok(self.reordered("permute", &order, back))
        })
    }

    /// With two axes exchanged.
    pub fn transpose(self, a: isize, b: isize) -> Self {
        self.attempt(|| {
            let shape = self.shape();
            let (a, b) = (axis_of("transpose", &shape, a)?, axis_of("transpose", &shape, b)?);
            let mut order: Vec<usize> = (0..shape.len()).collect();
            order.swap(a, b);
            let back = order.clone();
            Ok(self.reordered("transpose", &order, back))
        })
    }

    fn reordered(self, op: &'static str, order: &[usize], back: Vec<usize>) -> Self {
        let x = self.value();
        let turned = x.view().permuted_axes(IxDyn(order));
        let mut y = self.tape.take(x.len());
        assign(view_mut(turned.shape(), &mut y), &turned);
        let shape = turned.shape().to_vec();
        self.tape.node(op, tensor(&shape, y), &[self], move |dy, grads| {
            let straight = view(&shape, &dy).permuted_axes(IxDyn(&back));
            let mut dx = grads.pool.take(dy.len());
            assign(view_mut(straight.shape(), &mut dx), &straight);
            grads.pool.give(dy);
            grads.add(0, dx);
        })
    }
}
