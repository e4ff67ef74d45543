//! Tensor aliases: one element type for the whole build, any number of axes.

/// The element of every tensor: `f32`, or `f64` under `--cfg shanty_f64` (finite-difference checks).
#[cfg(not(shanty_f64))]
pub type Elem = f32;
/// The element of every tensor: `f32`, or `f64` under `--cfg shanty_f64` (finite-difference checks).
#[cfg(shanty_f64)]
pub type Elem = f64;

/// A tensor that is cheap to clone: clones share memory until one of them is written to.
pub type Tensor = ndarray::ArcArray<Elem, ndarray::IxDyn>;
