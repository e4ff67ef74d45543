//! Other shapes of the same elements.

use ndarray::IxDyn;

use crate::base::{Error, Result};
use crate::nn::Var;

impl<'t> Var<'t> {
    /// The same elements in row-major order under another shape; nothing is copied.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(self, shape: &[usize]) -> Result<Self> {
        let x = self.value();
        let from = x.shape().to_vec();
        let y = x.into_shape_with_order(IxDyn(shape)).map_err(|_| {
            Error::invalid(format!(
                "a tensor of shape {from:?} cannot be reshaped to {shape:?}: other number of elements"
            ))
        })?;
        Ok(self.tape.node(y, &[self], |dy, grads| grads.add(0, dy)))
    }

    /// Joins the axes `start..=end` into one, as PyTorch's `flatten`; negative numbers count from the end.
    ///
    /// # Errors
    /// When the axes are not there or the wrong way round.
    pub fn flatten(self, start: isize, end: isize) -> Result<Self> {
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
        self.reshape(&joined)
    }
}
