//! Backbones: from images to features.

mod alexnet;
mod arch;
mod common;
mod conformer;
mod convmixer;
mod convnext;
mod csp;
mod davit;
mod densenet;
mod edge_residual;
mod edgenext;
mod efficientformer;
mod efficientnet;
mod efficientnet_v2;
mod hivit;
mod hornet;
mod inception_v3;
mod inverted_residual;
mod lenet;
mod levit;
mod lora;
mod metaformer;
mod mlp;
mod mlp_mixer;
mod mobilenet_v2;
mod mobilenet_v3;
mod mobileone;
mod mobilevit;
mod mvit;
mod reparam;
mod replknet;
mod repmlp;
mod repvgg;
mod resnet;
mod shufflenet_v1;
mod shufflenet_v2;
mod swin;
mod t2t_vit;
mod tiny_vit;
mod tnt;
mod twins;
mod unet;
mod van;
mod vgg;
mod vig;
mod vision_transformer;
mod windows;
mod xcit;

pub use alexnet::{AlexNet, AlexNetConfig};
pub use arch::{Arch, ArchConfig};
pub use conformer::{Conformer, ConformerArch, ConformerConfig};
pub use convmixer::{ConvMixer, ConvMixerArch, ConvMixerConfig, MixerAct, MixerActConfig};
pub use convnext::{ConvNeXt, ConvNeXtArch, ConvNeXtConfig};
pub use csp::{CSPDarkNetConfig, CSPNet, CSPResNetConfig};
pub use davit::{DaViT, DaViTArch, DaViTConfig};
pub use densenet::{DenseNet, DenseNetConfig};
pub use edgenext::{EdgeNeXt, EdgeNeXtArch, EdgeNeXtConfig};
pub use efficientformer::{EfficientFormer, EfficientFormerArch, EfficientFormerConfig};
pub use efficientnet::{
    BlockAct, BlockActConfig, EfficientNet, EfficientNetArch, EfficientNetConfig, Padding, PaddingConfig,
};
pub use efficientnet_v2::{EfficientNetV2, EfficientNetV2Arch, EfficientNetV2Config};
pub use hivit::{HiViT, HiViTArch, HiViTConfig};
pub use hornet::{FilterConfig, FilterKind, HorNet, HorNetArch, HorNetConfig};
pub use inception_v3::{InceptionV3, InceptionV3Config};
pub use lenet::{LeNet5, LeNet5Config};
pub use levit::{LeViT, LeViTArch, LeViTConfig};
pub use lora::{LoRAModel, LoraTarget};
pub use metaformer::{MetaFormerArch, PoolFormer, PoolFormerConfig, RIFormer, RIFormerConfig};
pub use mlp::{MLP, MLPConfig};
pub use mlp_mixer::{MixerArch, MlpMixer, MlpMixerConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use mobilenet_v3::{MobileNetV3, MobileNetV3Arch, MobileNetV3Config};
pub use mobileone::{MobileOne, MobileOneArch, MobileOneConfig};
pub use mobilevit::{MobileViT, MobileViTArch, MobileViTConfig};
pub use mvit::{MViT, MViTArch, MViTConfig};
pub use replknet::{RepLKNet, RepLKNetArch, RepLKNetConfig};
pub use repmlp::{RepMLPNet, RepMLPNetArch, RepMLPNetConfig};
pub use repvgg::{RepVGG, RepVGGArch, RepVGGConfig};
pub use resnet::{
    BlockStyle, HRFuseScales, HRFuseScalesConfig, HRNet, HRNetArch, HRNetConfig, HRNetExtra, HRStageConfig,
    RegNet, RegNetArch, RegNetConfig, Res2NetConfig, ResNeStConfig, ResNet, ResNetConfig, ResidualKind,
};
pub use shufflenet_v1::{ShuffleNetV1, ShuffleNetV1Config};
pub use shufflenet_v2::{ShuffleNetV2, ShuffleNetV2Config};
pub use swin::{
    SwinArch, SwinTransformer, SwinTransformerConfig, SwinTransformerV2, SwinTransformerV2Config, SwinV2Arch,
};
pub use t2t_vit::{T2TConfig, T2TLayerConfig, T2TViT, T2TViTConfig};
pub use tiny_vit::{TinyViT, TinyViTArch, TinyViTConfig};
pub use tnt::{TNT, TNTArch, TNTConfig};
pub use twins::{PCPVTArch, SVTArch, Twins, TwinsConfig};
pub use unet::{UNet, UNetConfig};
pub use van::{VAN, VANArch, VANConfig};
pub use vgg::{VGG, VGGConfig};
pub use vig::{
    Gelu, GeluConfig, GraphConvType, PyramidVig, PyramidVigArch, PyramidVigConfig, Vig, VigArch, VigConfig,
};
pub use vision_transformer::{
    BEiTBias, BEiTLayerConfig, BEiTViTConfig, DeiT3Arch, DeiT3Config, Eva02Arch, FfnType, LayerConfig,
    OutType, RevVisionTransformerConfig, TransformerEncoderLayer, ViTEVA02Config, VisionTransformer,
    VisionTransformerArch, VisionTransformerConfig,
};
pub use xcit::{XCiT, XCiTConfig};
