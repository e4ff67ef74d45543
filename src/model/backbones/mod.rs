//! Backbones: from images to features.

mod lenet;
mod mlp;

pub use lenet::{LeNet5, LeNet5Params};
pub use mlp::{MLP, MLPParams};
