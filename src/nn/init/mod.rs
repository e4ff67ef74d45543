//! Initial weights.

pub mod draw;
mod fan;

pub use fan::Fans;
