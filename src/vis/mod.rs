//! Where numbers go to be looked at.

mod local;

pub use local::{LocalVisBackend, Scalars, read_scalars, to_json};
