//! The layers, with the names, parameters and weight names of PyTorch.

mod activation;
mod adaptive_pool;
mod attention;
mod batch_norm;
mod bilinear;
mod container;
mod conv;
mod conv1d;
mod conv_module;
mod conv_transpose;
mod drop_path;
mod dropout;
mod embedding;
mod ffn;
mod gates;
mod group_norm;
mod instance_norm;
mod layer_norm;
mod layer_norm2d;
mod layer_scale;
mod linear;
mod lora;
mod mask;
mod over_time;
mod pair;
mod patch;
mod pool;
mod pool1d;
mod position;
mod recurrent;
mod rms_norm;
mod rotary;
mod shape;
mod shuffle;
mod transformer;
mod upsample;

pub use activation::*;
pub use adaptive_pool::{AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d};
pub use attention::{AttentionOptions, MultiheadAttention, MultiheadAttentionConfig};
pub(super) use batch_norm::norm_of;
pub use batch_norm::{BatchNorm1d, BatchNorm2d, BatchNormConfig, BnOutput, BnStats, BnThen, SyncBatchNorm};
pub use bilinear::{Bilinear, BilinearConfig};
pub use container::{
    Concat, ConcatConfig, Join, ModuleDict, ModuleList, ModuleSpecs, Parallel, ParallelConfig, Residual,
    ResidualConfig, Select, Sequential, SequentialConfig,
};
pub use conv::{Conv2d, Conv2dConfig, ConvOptions};
pub use conv_module::{BatchNormName, ConvModule, ConvModuleOptions, ConvNormConfig};
pub(crate) use conv_module::{corner_padding, same_padding};
pub use conv_transpose::{ConvTranspose1d, ConvTranspose2d, ConvTransposeConfig};
pub use conv1d::{Conv1d, Conv1dConfig};
pub use drop_path::{DropPath, Dropout2d};
pub use dropout::Dropout;
pub use embedding::{Embedding, EmbeddingConfig};
pub use ffn::FFN;
pub(crate) use gates::make_divisible;
pub use gates::{CBAM, CBAMConfig, ECA, ECAConfig, SELayer, SELayerConfig};
pub use group_norm::{GroupNorm, GroupNormConfig};
pub use instance_norm::{InstanceNorm1d, InstanceNorm2d, InstanceNormConfig};
pub use layer_norm::{LayerNorm, LayerNormConfig};
pub use layer_norm2d::{LayerNorm2d, LayerNorm2dConfig};
pub use layer_scale::LayerScale;
pub use linear::{Linear, LinearConfig};
pub use mask::AttentionMask;
pub use over_time::{OverTime, PoolOverTime};
pub use pair::{Pair, positive};
pub use patch::{LayerNormName, PatchEmbed, PatchEmbedConfig, PatchNormConfig};
pub use pool::{AvgPool2d, GlobalAveragePooling, MaxPool2d, PoolOptions};
pub use pool1d::{AvgPool1d, MaxPool1d};
pub use position::{PositionMode, PositionalEncoding, PositionalEncodingConfig};
pub use recurrent::{
    GRU, LSTM, RNN, RNNConfig, RecurrentConfig, RecurrentOutput, RecurrentState, RnnNonlinearity,
};
pub use rms_norm::{RMSNorm, RMSNormConfig};
pub use rotary::{AttentionPosition, Rotary};
pub use shape::{Flatten, Identity, Transpose, TransposeConfig};
pub use shuffle::{ChannelShuffle, ChannelSplit, PixelShuffle, PixelUnshuffle};
pub use transformer::{
    TorchAttention, Transformer, TransformerActivation, TransformerConfig, TransformerDecoder,
    TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer, TransformerLayerConfig,
    TransformerStackConfig,
};
pub use upsample::{Upsample, UpsampleConfig, UpsampleKind, UpsampleTo};

fn zero() -> Pair {
    Pair([0, 0])
}

fn one() -> Pair {
    Pair([1, 1])
}
