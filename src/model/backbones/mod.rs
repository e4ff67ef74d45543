//! Backbones: from images to features.

mod alexnet;
mod arch;
mod common;
mod convnext;
mod densenet;
mod edge_residual;
mod efficientnet;
mod efficientnet_v2;
mod inverted_residual;
mod lenet;
mod metaformer;
mod mlp;
mod mlp_mixer;
mod mobilenet_v2;
mod mobilenet_v3;
mod repvgg;
mod resnet;
mod shufflenet_v1;
mod shufflenet_v2;
mod swin;
mod unet;
mod vgg;
mod vision_transformer;
mod xcit;

pub use alexnet::{AlexNet, AlexNetConfig};
pub use arch::{Arch, ArchConfig};
pub use convnext::{ConvNeXt, ConvNeXtArch, ConvNeXtConfig};
pub use densenet::{DenseNet, DenseNetConfig};
pub use efficientnet::{
    BlockAct, BlockActConfig, EfficientNet, EfficientNetArch, EfficientNetConfig, Padding, PaddingConfig,
};
pub use efficientnet_v2::{EfficientNetV2, EfficientNetV2Arch, EfficientNetV2Config};
pub use lenet::{LeNet5, LeNet5Config};
pub use metaformer::{MetaFormerArch, PoolFormer, PoolFormerConfig, RIFormer, RIFormerConfig};
pub use mlp::{MLP, MLPConfig};
pub use mlp_mixer::{MixerArch, MlpMixer, MlpMixerConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use mobilenet_v3::{MobileNetV3, MobileNetV3Arch, MobileNetV3Config};
pub use repvgg::{RepVGG, RepVGGArch, RepVGGConfig};
pub use resnet::{BlockStyle, RegNet, RegNetArch, RegNetConfig, ResNet, ResNetConfig};
pub use shufflenet_v1::{ShuffleNetV1, ShuffleNetV1Config};
pub use shufflenet_v2::{ShuffleNetV2, ShuffleNetV2Config};
pub use swin::{SwinArch, SwinTransformer, SwinTransformerConfig};
pub use unet::{UNet, UNetConfig};
pub use vgg::{VGG, VGGConfig};
pub use vision_transformer::{
    DeiT3Arch, DeiT3Config, OutType, TransformerEncoderLayer, VisionTransformer, VisionTransformerArch,
    VisionTransformerConfig,
};
pub use xcit::{XCiT, XCiTConfig};
