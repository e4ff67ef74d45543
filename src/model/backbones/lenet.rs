//! LeNet-5 (LeCun et al. 1998, <http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{AvgPool2d, Conv2d, Forward, Linear, Module, Sequential, Tanh, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: LeNet5, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LeNet5Config {
    /// The number of classes of its own classifier; -1 for none.
    #[schemars(range(min = -1))]
    pub num_classes: i64,
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
}

impl Default for LeNet5Config {
    fn default() -> Self {
        Self { num_classes: -1, in_channels: 1 }
    }
}

/// Images of 32 × 32 to 120 features, or with its classifier to scores. 61,706 parameters for 10 classes.
///
/// Weight names are MMPretrain's: `features.{0,3,6}` are the convolutions, `classifier.{0,2}` the linear layers.
pub struct LeNet5 {
    features: Sequential,
    classifier: Option<Sequential>,
}

module!(LeNet5 { features, classifier });

register! { /// LeNet-5 for images of 32 × 32: features, and with `num_classes` scores.
dyn Module, "LeNet5" => fn LeNet5::from_config }

impl LeNet5 {
    fn from_config(p: LeNet5Config, _: &mut BuildCx) -> Result<Self> {
        if p.num_classes == 0 {
            let text =
                "`num_classes` is 0: give the number of the classes, or leave it out where a head follows";
            return Err(Error::config(text));
        }
        Self::new(usize::try_from(p.num_classes).ok(), p.in_channels)
    }
}

impl LeNet5 {
    /// For images of `in_channels`; with a classifier for `Some` number of classes.
    ///
    /// # Errors
    /// If `in_channels` is 0.
    pub fn new(num_classes: Option<usize>, in_channels: usize) -> Result<Self> {
        let conv = |from, to| Conv2d::new(from, to, 5);
        let features = Sequential::default()
            .with(conv(in_channels, 6))
            .with(Tanh {})
            .with(AvgPool2d::new(2))
            .with(conv(6, 16))
            .with(Tanh {})
            .with(AvgPool2d::new(2))
            .with(conv(16, 120))
            .with(Tanh {});
        let classifier = num_classes.map(|classes| {
            Sequential::default().with(Linear::new(120, 84)).with(Tanh {}).with(Linear::new(84, classes))
        });
        Ok(Self { features, classifier })
    }
}

impl Module for LeNet5 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let features = self.features.forward(x, cx)?;
        let Some(classifier) = &mut self.classifier else { return Ok(features) };
        let features = features.flatten(1, -1).checked()?;
        if features.shape()[1] != 120 {
            let shape = x.shape();
            return Err(Error::invalid(format!(
                "LeNet5 wants images of 32 × 32, not a batch of shape {shape:?}: resize or pad them"
            )));
        }
        classifier.forward(features, cx)
    }
}
