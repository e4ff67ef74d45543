//! Backbones: from images to features.

mod lenet;
mod mlp;
mod resnet;

pub use lenet::{LeNet5, LeNet5Params};
pub use mlp::{MLP, MLPParams};
pub use resnet::{BlockStyle, ResNet, ResNetParams};
