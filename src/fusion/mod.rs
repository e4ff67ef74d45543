//! Features of two kinds made one: what a descriptor measures and what a network has learnt, say.

mod dca;
mod svd;

pub use dca::{Dca, Fused};
