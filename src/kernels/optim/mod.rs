//! The updates of optimizers, each in one walk over value, gradient and state.

mod adam;
mod sgd;

pub use adam::{AdamStep, adam};
pub use sgd::{SgdStep, sgd_momentum};
