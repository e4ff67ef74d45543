//! Backbones: from images to features.

mod lenet;
mod mlp;
mod resnet;
mod vision_transformer;

pub use lenet::{LeNet5, LeNet5Config};
pub use mlp::{MLP, MLPConfig};
pub use resnet::{BlockStyle, ResNet, ResNetConfig};
pub use vision_transformer::{
    ArchConfig, OutType, TransformerEncoderLayer, VisionTransformer, VisionTransformerArch,
    VisionTransformerConfig,
};
