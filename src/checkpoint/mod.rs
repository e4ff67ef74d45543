//! Checkpoints: what a run leaves on disk.

pub mod tensors;
