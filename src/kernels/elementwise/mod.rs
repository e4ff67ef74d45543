//! What happens to each element alone: activations, dropout, sums and products of slices.
//!
//! Each function is one plain loop, compiled for every class of CPU (`isa`), over chunks that fit a first-level cache
//! (`par`).

mod activation;
mod dropout;
mod gated;
pub(super) mod gelu;
mod prelu;
mod vector;

pub use activation::{Act, Slope, act_backward, act_forward, act_inplace};
pub use dropout::{dropout, dropout_inplace};
pub use gated::{Gate, gated, gated_backward};
pub use gelu::gelu_halves;
pub use prelu::{prelu, prelu_backward, prelu_slope_terms};
pub use vector::{add, add_assign, axpy, scale, unscale};
