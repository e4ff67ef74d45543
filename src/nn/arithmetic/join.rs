//! Several values as one.

use ndarray::{Axis, Slice};

use crate::base::{Error, Result};
use crate::nn::buffer_pool::tensor;
use crate::nn::{Tape, Var};

use super::{assign, axis_of, view, view_mut};

impl Tape {
    /// Values one behind the other along an axis; their other axes are equal.
    pub fn concat<'t>(&'t self, values: &[Var<'t>], axis: isize) -> Var<'t> {
        self.try_concat(values, axis).unwrap_or_else(|error| self.fail(&[], error))
    }

    /// Values of one shape side by side along a new axis.
    pub fn stack<'t>(&'t self, values: &[Var<'t>], axis: isize) -> Var<'t> {
        let rows: Vec<Var<'t>> = values.iter().map(|value| value.unsqueeze(axis)).collect();
        self.concat(&rows, axis)
    }

    fn try_concat<'t>(&'t self, values: &[Var<'t>], axis: isize) -> Result<Var<'t>> {
        let Some(first) = values.first() else {
            return Err(Error::invalid("`concat` got no values"));
        };
        let mut shape = first.shape();
        let axis = axis_of("concat", &shape, axis)?;
        let mut starts = vec![0];
        for value in values {
            let other = value.shape();
            let same = |i: usize| i == axis || other[i] == shape[i];
            if other.len() != shape.len() || !(0..shape.len()).all(same) {
                return Err(Error::invalid(format!(
                    "`concat` along axis {axis} wants shapes that are equal in all other axes, got {:?} and {other:?}",
                    first.shape()
                )));
            }
            starts.push(starts[starts.len() - 1] + other[axis]);
        }
        shape[axis] = starts[values.len()];
        let mut y = self.take(shape.iter().product());
        let mut to = view_mut(&shape, &mut y);
        let part = |i: usize| Slice::from(starts[i]..starts[i + 1]);
        let mut in_place = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let mut to = to.slice_axis_mut(Axis(axis), part(i));
            let once = values.iter().filter(|other| other.id == value.id).count() == 1;
            // A product that waits is computed to its place, if that is one piece: nothing is copied.
            if once && to.as_slice_mut().is_some_and(|to| value.compute_to(to)) {
                in_place.push(i);
            } else {
                assign(to, &value.value().view());
            }
        }
        let y = tensor(&shape, y);
        for i in in_place {
            values[i].lies_in(y.clone().slice_axis_move(Axis(axis), part(i)));
        }
        Ok(self.node("concat", y, values, move |dy, grads| {
            for (i, range) in starts.windows(2).enumerate() {
                if grads.wants(i) {
                    let all = view(&shape, &dy);
                    let own = all.slice_axis(Axis(axis), Slice::from(range[0]..range[1]));
                    let mut dx = grads.pool.take(own.len());
                    assign(view_mut(own.shape(), &mut dx), &own);
                    grads.add(i, dx);
                }
            }
            grads.pool.give(dy);
        }))
    }
}
