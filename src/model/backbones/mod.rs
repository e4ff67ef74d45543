//! Backbones: from images to features.

mod alexnet;
mod arch;
mod common;
mod convmixer;
mod convnext;
mod csp;
mod densenet;
mod edge_residual;
mod edgenext;
mod efficientnet;
mod efficientnet_v2;
mod hornet;
mod inception_v3;
mod inverted_residual;
mod lenet;
mod metaformer;
mod mlp;
mod mlp_mixer;
mod mobilenet_v2;
mod mobilenet_v3;
mod mobileone;
mod reparam;
mod replknet;
mod repmlp;
mod repvgg;
mod resnet;
mod shufflenet_v1;
mod shufflenet_v2;
mod swin;
mod unet;
mod van;
mod vgg;
mod vig;
mod vision_transformer;
mod xcit;

pub use alexnet::{AlexNet, AlexNetConfig};
pub use arch::{Arch, ArchConfig};
pub use convmixer::{ConvMixer, ConvMixerArch, ConvMixerConfig, MixerAct, MixerActConfig};
pub use convnext::{ConvNeXt, ConvNeXtArch, ConvNeXtConfig};
pub use csp::{CSPDarkNetConfig, CSPNet, CSPResNetConfig};
pub use densenet::{DenseNet, DenseNetConfig};
pub use edgenext::{EdgeNeXt, EdgeNeXtArch, EdgeNeXtConfig};
pub use efficientnet::{
    BlockAct, BlockActConfig, EfficientNet, EfficientNetArch, EfficientNetConfig, Padding, PaddingConfig,
};
pub use efficientnet_v2::{EfficientNetV2, EfficientNetV2Arch, EfficientNetV2Config};
pub use hornet::{FilterConfig, FilterKind, HorNet, HorNetArch, HorNetConfig};
pub use inception_v3::{InceptionV3, InceptionV3Config};
pub use lenet::{LeNet5, LeNet5Config};
pub use metaformer::{MetaFormerArch, PoolFormer, PoolFormerConfig, RIFormer, RIFormerConfig};
pub use mlp::{MLP, MLPConfig};
pub use mlp_mixer::{MixerArch, MlpMixer, MlpMixerConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use mobilenet_v3::{MobileNetV3, MobileNetV3Arch, MobileNetV3Config};
pub use mobileone::{MobileOne, MobileOneArch, MobileOneConfig};
pub use replknet::{RepLKNet, RepLKNetArch, RepLKNetConfig};
pub use repmlp::{RepMLPNet, RepMLPNetArch, RepMLPNetConfig};
pub use repvgg::{RepVGG, RepVGGArch, RepVGGConfig};
pub use resnet::{
    BlockStyle, HRFuseScales, HRFuseScalesConfig, HRNet, HRNetArch, HRNetConfig, HRNetExtra, HRStageConfig,
    RegNet, RegNetArch, RegNetConfig, Res2NetConfig, ResNeStConfig, ResNet, ResNetConfig, ResidualKind,
};
pub use shufflenet_v1::{ShuffleNetV1, ShuffleNetV1Config};
pub use shufflenet_v2::{ShuffleNetV2, ShuffleNetV2Config};
pub use swin::{SwinArch, SwinTransformer, SwinTransformerConfig};
pub use unet::{UNet, UNetConfig};
pub use van::{VAN, VANArch, VANConfig};
pub use vgg::{VGG, VGGConfig};
pub use vig::{
    Gelu, GeluConfig, GraphConvType, PyramidVig, PyramidVigArch, PyramidVigConfig, Vig, VigArch, VigConfig,
};
pub use vision_transformer::{
    DeiT3Arch, DeiT3Config, OutType, TransformerEncoderLayer, VisionTransformer, VisionTransformerArch,
    VisionTransformerConfig,
};
pub use xcit::{XCiT, XCiTConfig};
