//! The arithmetic of [`Var`](super::Var): operators, functions, reductions, and the shuffling of shapes, with which a
//! loss is written in one line.
//!
//! ```
//! use shanty::base::Tensor;
//! use shanty::nn::{BufferPool, Tape};
//!
//! let tape = Tape::new(BufferPool::default());
//! let scores = tape.input(Tensor::from_shape_vec(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap());
//! let target = tape.input(Tensor::from_shape_vec(vec![2], vec![1.0, 3.0]).unwrap());
//! let rmse = (scores - target).powi(2).mean().sqrt();
//! assert_eq!(rmse.item(), (1.5_f32).sqrt());
//! # Ok::<(), shanty::base::Error>(())
//! ```
//!
//! Shapes broadcast as in NumPy and PyTorch: they are aligned at their last axes, and an axis of size 1 is repeated;
//! the gradient is summed back. Axes are counted from 0, or from the end by negative numbers.
//!
//! Whatever gives one `Var` gives it without a `Result`: an op that does not fit its inputs notes its error on the
//! [`Tape`](super::Tape), which tells it. What hands out numbers besides, as a loss with its value for each sample,
//! returns a `Result`.

mod broadcast;
mod einsum;
mod elementwise;
mod index;
mod join;
mod like;
mod matmul;
mod operators;
mod pad;
mod reduce;
mod scan;
mod select;
mod shape;
mod softmax;
mod variance;

pub use pad::PadMode;

use ndarray::{ArrayViewD, ArrayViewMutD, IxDyn};

use super::BufferPool;
use crate::base::{Elem, Error, Result, left_out};

/// The axis that a number of either sign means.
pub(in crate::nn) fn axis_of(op: &str, shape: &[usize], axis: isize) -> Result<usize> {
    let axes = shape.len() as isize;
    let found = if axis < 0 { axis + axes } else { axis };
    if (0..axes).contains(&found) {
        return Ok(found as usize);
    }
    Err(Error::invalid(format!("`{op}` along axis {axis} does not fit an input of shape {shape:?}")))
}

/// The buffer of an op as an array of this shape.
#[allow(clippy::expect_used)] // Ops take the buffer by the length of the shape.
fn view<'a>(shape: &[usize], buffer: &'a [Elem]) -> ArrayViewD<'a, Elem> {
    ArrayViewD::from_shape(IxDyn(shape), buffer).expect("an op's buffer has the length of its shape")
}

/// Puts the elements of one array into another one of its shape.
fn assign(mut to: ArrayViewMutD<'_, Elem>, from: &ArrayViewD<'_, Elem>) {
    if !left_out(from.len()) {
        to.assign(from);
    }
}

/// A buffer of zeros.
fn zeros(pool: &mut BufferPool, len: usize) -> Vec<Elem> {
    let mut buffer = pool.take(len);
    if !left_out(len) {
        buffer.fill(0.0);
    }
    buffer
}

/// The buffer of an op as an array of this shape, to write.
#[allow(clippy::expect_used)] // Ops take the buffer by the length of the shape.
fn view_mut<'a>(shape: &[usize], buffer: &'a mut [Elem]) -> ArrayViewMutD<'a, Elem> {
    ArrayViewMutD::from_shape(IxDyn(shape), buffer).expect("an op's buffer has the length of its shape")
}
