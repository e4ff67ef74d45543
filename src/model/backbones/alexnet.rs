//! AlexNet (Krizhevsky 2014, <https://arxiv.org/abs/1404.5997>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{classifier, classify, three};
use crate::base::Result;
use crate::nn::{Conv2d, Forward, MaxPool2d, Module, ReLU, Sequential, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: AlexNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AlexNetConfig {
    /// The number of classes of its own classifier, which wants images of 224 × 224; -1 for none.
    #[schemars(range(min = -1))]
    pub num_classes: i64,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
}

impl Default for AlexNetConfig {
    fn default() -> Self {
        Self { num_classes: -1, in_channels: three() }
    }
}

/// Five convolutions and three poolings: images to 256 features, or with its classifier to scores.
///
/// Weight names are MMPretrain's and torchvision's: `features.{0,3,6,8,10}`, `classifier.{1,4,6}`. 61,100,840 parameters for
/// 1000 classes.
pub struct AlexNet {
    features: Sequential,
    classifier: Option<Sequential>,
}

module!(AlexNet { features, classifier });

register! { /// AlexNet: 256 features, and with `num_classes` scores.
dyn Module, "AlexNet" => fn AlexNet::from_config }

impl AlexNet {
    fn from_config(p: AlexNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When the number of classes is 0.
    pub fn new(p: &AlexNetConfig) -> Result<Self> {
        let pool = || MaxPool2d::new(3).stride(2);
        let features = Sequential::new()
            .with(Conv2d::new(p.in_channels, 64, 11).stride(4).padding(2))
            .with(ReLU::new())
            .with(pool())
            .with(Conv2d::new(64, 192, 5).padding(2))
            .with(ReLU::new())
            .with(pool())
            .with(Conv2d::new(192, 384, 3).padding(1))
            .with(ReLU::new())
            .with(Conv2d::new(384, 256, 3).padding(1))
            .with(ReLU::new())
            .with(Conv2d::new(256, 256, 3).padding(1))
            .with(ReLU::new())
            .with(pool());
        Ok(Self { features, classifier: classifier(p.num_classes, &[256 * 6 * 6, 4096, 4096], true)? })
    }
}

impl Module for AlexNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let features = cx.child("features", &mut self.features, x)?;
        classify("AlexNet", self.classifier.as_mut(), features, 256 * 6 * 6, cx)
    }
}
