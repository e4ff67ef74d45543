//! Backbones: from images to features.

mod lenet;
mod mlp;

pub use lenet::LeNet5;
pub use mlp::Mlp;
