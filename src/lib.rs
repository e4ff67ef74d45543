//! shanty: a hook-driven training runner.
extern crate self as shanty;

pub mod base;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod metric;
pub mod nn;
pub mod params;
pub mod registry;

/// For the macros of this crate.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
}
