//! VGG (Simonyan and Zisserman 2014, <https://arxiv.org/abs/1409.1556>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{classifier, classify, three};
use crate::base::{Error, Result};
use crate::nn::init::{Constant, Init, Kaiming, Normal};
use crate::nn::{ConvModule, ConvNormConfig, Forward, MaxPool2d, Module, Sequential, Var, set_norm_eval};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: VGG, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct VGGConfig {
    /// Layers: 11, 13, 16 or 19.
    #[schemars(range(min = 11, max = 19), example = 16)]
    pub depth: usize,
    /// The number of classes of its own classifier, which wants images of 224 × 224; -1 for none.
    #[serde(default = "none")]
    #[schemars(range(min = -1))]
    pub num_classes: i64,
    /// Channels of the images.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Batch norms behind the convolutions; none if absent.
    #[serde(default)]
    pub norm_cfg: Option<ConvNormConfig>,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    #[serde(default)]
    pub norm_eval: bool,
}

fn none() -> i64 {
    -1
}

impl VGGConfig {
    /// Without classifier and without batch norms.
    pub fn new(depth: usize) -> Self {
        Self { depth, num_classes: none(), in_channels: three(), norm_cfg: None, norm_eval: false }
    }
}

/// Stages of 3 × 3 convolutions, each with a pooling behind it: images to 512 features of 1/32 of the size, or with its
/// classifier to scores.
///
/// Weight names are MMPretrain's: `features.0.conv`, `features.0.bn`, `classifier.{0,3,6}`. 138,357,544 parameters with depth
/// 16, 1000 classes and without batch norms.
pub struct VGG {
    features: Sequential,
    classifier: Option<Sequential>,
    init: Vec<Init>,
}

module!(VGG { features, classifier }, init_cfg = init);

register! { /// VGG of 11, 13, 16 or 19 layers: 512 features of 1/32 of the size, and with `num_classes` scores.
dyn Module, "VGG" => fn VGG::from_config }

impl VGG {
    fn from_config(p: VGGConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there is no such depth, or the number of classes is 0.
    pub fn new(p: &VGGConfig) -> Result<Self> {
        let blocks = match p.depth {
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            other => {
                return Err(Error::config(format!("no VGG has `depth: {other}`: it is 11, 13, 16 or 19")));
            }
        };
        let mut features = Sequential::new();
        let mut from = p.in_channels;
        for (blocks, to) in blocks.into_iter().zip([64, 128, 256, 512, 512]) {
            for _ in 0..blocks {
                let from = std::mem::replace(&mut from, to);
                features = features.with(ConvModule::of(from, to, 3).norm(p.norm_cfg).bias(true).build()?);
            }
            features = features.with(MaxPool2d::new(2));
        }
        let mut net = Self {
            features,
            classifier: classifier(p.num_classes, &[512 * 7 * 7, 4096, 4096], false)?,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm"),
                Init::new(Normal { mean: 0.0, std: 0.01 }).layer("Linear"),
            ],
        };
        set_norm_eval(&mut net, p.norm_eval);
        Ok(net)
    }
}

impl Module for VGG {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let features = cx.child("features", &mut self.features, x)?;
        classify("VGG", self.classifier.as_mut(), features, 512 * 7 * 7, cx)
    }
}
