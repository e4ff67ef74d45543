//! The layers, with the names, parameters and weight names of PyTorch.

mod activation;
mod adaptive_pool;
mod attention;
mod container;
mod conv;
mod dropout;
mod ffn;
mod layer_norm;
mod linear;
mod norm;
mod pair;
mod patch;
mod pool;
mod shape;

pub use activation::{GELU, LeakyReLU, ReLU, SiLU, Sigmoid, Tanh};
pub use attention::{AttentionOptions, MultiheadAttention, MultiheadAttentionConfig};
pub use container::{Residual, ResidualConfig, Sequential, SequentialConfig};
pub use conv::{Conv2d, Conv2dConfig, ConvOptions};
pub use dropout::Dropout;
pub use ffn::FFN;
pub use layer_norm::{LayerNorm, LayerNormConfig};
pub use linear::{Linear, LinearConfig};
pub use norm::{BatchNorm1d, BatchNorm2d, BatchNormConfig, BnOutput, BnStats, BnThen};
pub use pair::{Pair, positive};
pub use patch::{LayerNormName, PatchEmbed, PatchEmbedConfig, PatchNormConfig};
pub use pool::{AdaptiveAvgPool2d, AvgPool2d, GlobalAveragePooling, MaxPool2d, PoolOptions};
pub use shape::{Flatten, Identity};

fn zero() -> Pair {
    Pair([0, 0])
}

fn one() -> Pair {
    Pair([1, 1])
}
