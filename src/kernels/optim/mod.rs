//! The updates of optimizers, each in one walk over value, gradient and state.

mod sgd;

pub use sgd::{SgdStep, sgd_momentum};
