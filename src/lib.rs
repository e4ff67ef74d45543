//! shanty: a hook-driven training runner for YAML configs and for programs, after MMEngine's Runner.

extern crate self as shanty;

pub mod base;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod comm;
pub mod config;
pub mod data;
pub mod fusion;
pub mod hook;
pub mod kernels;
pub mod metric;
pub mod model;
pub mod nn;
pub mod optim;
pub mod params;
pub mod plugin;
pub mod prelude;
pub mod registry;
pub mod run;
pub mod testing;
pub mod vis;

/// The arrays that values are made of, in the version that the library uses.
pub use ndarray;

/// The README's Rust blocks are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// The blocks of docs/extending.md are tests too.
#[cfg(doctest)]
#[doc = include_str!("../docs/extending.md")]
pub struct Extending;

/// The Rust blocks of the page on data are tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/data.md")]
pub struct DataPage;

/// So are those of the page on tensors.
#[cfg(doctest)]
#[doc = include_str!("../docs/tensors.md")]
pub struct TensorsPage;

/// And of those on modules and on what they cost.
#[cfg(doctest)]
#[doc = include_str!("../docs/modules.md")]
pub struct ModulesPage;
#[cfg(doctest)]
#[doc = include_str!("../docs/complexity.md")]
pub struct ComplexityPage;

/// And of that on mixed precision.
#[cfg(doctest)]
#[doc = include_str!("../docs/mixed_precision.md")]
pub struct MixedPrecisionPage;

/// What the macros need, so that a plugin crate need not depend on it.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use ndarray;
}
