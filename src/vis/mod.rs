//! Where numbers go to be looked at.

mod local;

pub use local::{LocalVisBackend, SCALARS, Scalars, TABLES, TableLine, Written, read_scalars, to_json};
