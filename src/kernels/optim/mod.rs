//! The updates of optimizers, each in one walk over value, gradient and state.

mod adam;
mod muon;
mod sgd;
mod walk;

pub use adam::{AdamStep, adam};
pub use muon::{MuonStep, muon};
pub use sgd::{SgdStep, sgd_momentum};
pub use walk::{walk, walk_and_sum};
