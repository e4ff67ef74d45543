//! What happens to each element alone: activations, dropout, sums and products of slices.
//!
//! Each function is one plain loop, compiled for every class of CPU (`isa`), over chunks that fit a first-level cache
//! (`par`).

mod activation;
mod dropout;
pub(super) mod gelu;
mod vector;

pub use activation::{Act, act_backward, act_forward, act_inplace};
pub use dropout::{dropout, dropout_inplace};
pub use vector::{add, add_assign, axpy, scale};
