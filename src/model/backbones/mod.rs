//! Backbones: from images to features.

mod lenet;
mod mlp;
mod resnet;
mod vision_transformer;

pub use lenet::{LeNet5, LeNet5Params};
pub use mlp::{MLP, MLPParams};
pub use resnet::{BlockStyle, ResNet, ResNetParams};
pub use vision_transformer::{
    ArchCfg, OutType, TransformerEncoderLayer, VisionTransformer, VisionTransformerArch,
    VisionTransformerParams,
};
