//! The networks that speed is measured on, at a size for tests.

#![allow(dead_code)] // each test takes what it needs

use ndarray::ArrayD;
use rand::RngExt as _;
use shanty::base::{Elem, keyed};
use shanty::data::Batch;
use shanty::model::{
    ArchConfig, ClsHead, ImageClassifier, LeNet5, LinearClsHead, MLP, Model, ResNet, ResNetConfig,
    VisionTransformer, VisionTransformerArch, VisionTransformerConfig,
};
use shanty::nn::{GlobalAveragePooling, ReLU};

pub fn resnet(depth: usize, base: usize, width: usize) -> ImageClassifier {
    let params = ResNetConfig { base_channels: Some(base), ..ResNetConfig::new(depth) };
    ImageClassifier::new(ResNet::cifar(&params).unwrap(), LinearClsHead::new(10, width, ClsHead::default()))
        .neck(GlobalAveragePooling::default())
}

pub fn vit(num_layers: usize) -> ImageClassifier {
    let arch = VisionTransformerArch { embed_dims: 96, num_layers, num_heads: 3, feedforward_channels: 384 };
    let params = VisionTransformerConfig {
        arch: ArchConfig(arch),
        img_size: 32.into(),
        patch_size: 4.into(),
        ..Default::default()
    };
    ImageClassifier::new(
        VisionTransformer::new(&params).unwrap(),
        LinearClsHead::new(10, 96, ClsHead::default()),
    )
}

/// Name, initialised network, and a batch of noise.
pub fn all() -> Vec<(&'static str, ImageClassifier, Batch)> {
    let mlp = MLP::new(&[784, 512, 256, 10], Box::new(ReLU::default())).unwrap();
    let lenet = LeNet5::new(Some(10), 1).unwrap();
    let nets = [
        ("mlp", ImageClassifier::new(mlp, ClsHead::default()), [32, 1, 28, 28]),
        ("lenet5", ImageClassifier::new(lenet, ClsHead::default()), [16, 1, 32, 32]),
        ("resnet20", resnet(20, 16, 64), [4, 3, 32, 32]),
        ("resnet18", resnet(18, 32, 256), [3, 3, 32, 32]),
        ("vit", vit(2), [3, 3, 32, 32]),
    ];
    nets.into_iter()
        .map(|(name, mut model, shape)| {
            model.init_weights(0).unwrap();
            (name, model, batch(shape))
        })
        .collect()
}

/// A batch of noise of this shape.
pub fn batch(shape: [usize; 4]) -> Batch {
    let mut rng = keyed(0, "a batch", 0, 0);
    let pixels = ArrayD::from_shape_simple_fn(shape.to_vec(), || rng.random_range(-1.0..1.0 as Elem));
    Batch::new(pixels, (0..shape[0] as i64).map(|i| i % 10).collect())
}
