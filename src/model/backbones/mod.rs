//! Backbones: from images to features.

mod lenet;
mod mlp;
mod vision_transformer;

pub use lenet::{LeNet5, LeNet5Params};
pub use mlp::{MLP, MLPParams};
pub use vision_transformer::{
    ArchCfg, OutType, TransformerEncoderLayer, VisionTransformer, VisionTransformerArch,
    VisionTransformerParams,
};
