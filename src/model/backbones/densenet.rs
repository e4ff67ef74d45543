//! DenseNet (Huang et al. 2017, <https://arxiv.org/abs/1608.06993>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Chain, last_only, last_stage, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::module;
use crate::nn::{
    AvgPool2d, BatchNorm2d, BnThen, Conv2d, ConvModule, Dropout, Forward, MaxPool2d, Module, ReLU,
    Sequential, Var,
};
use crate::register;
use crate::registry::BuildCx;

/// The keys of `{type: DenseNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DenseNetConfig {
    /// Its layers: `"121"`, `"161"`, `"169"` or `"201"`.
    #[schemars(extend("enum" = ["121", "161", "169", "201"]))]
    pub arch: String,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// How many times as many channels a layer has inside as it gives.
    #[schemars(range(min = 1, max = 1024))]
    pub bn_size: usize,
    /// Probability with which dropout zeroes what a layer gives.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for DenseNetConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: "121".into(),
            in_channels: three(),
            bn_size: 4,
            drop_rate: 0.0,
        }
    }
}

/// Blocks whose layers see what all layers before them gave: images to 1024 features (`121`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `stem.0`, `stages.0.block.1.norm1`, `transitions.0.conv`. 7,978,856 parameters with a linear
/// layer for 1000 classes.
pub struct DenseNet {
    stem: Sequential,
    stages: Vec<DenseBlock>,
    transitions: Vec<Box<dyn Module>>,
}

module!(DenseNet { stem, stages, transitions });

register! { /// DenseNet of 121, 161, 169 or 201 layers: features of 1/32 of the size.
dyn Module, "DenseNet" => fn DenseNet::from_config }

impl DenseNet {
    fn from_config(p: DenseNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there is no such arch.
    pub fn new(p: &DenseNetConfig) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let (growth, depths, first) = match &*p.arch {
            "121" => (32, [6, 12, 24, 16], 64),
            "161" => (48, [6, 12, 36, 24], 96),
            "169" => (32, [6, 12, 32, 32], 64),
            "201" => (32, [6, 12, 48, 32], 64),
            other => {
                return Err(Error::config(format!(
                    "no DenseNet has `arch: {other}`: it is 121, 161, 169 or 201"
                )));
            }
        };
        let stem = Sequential::new()
            .with(Conv2d::new(p.in_channels, first, 7).stride(2).padding(3).bias(false))
            .with(BatchNorm2d::new(first))
            .with(ReLU::new())
            .with(MaxPool2d::new(3).stride(2).padding(1));
        let (mut stages, mut transitions, mut channels) = (Vec::new(), Vec::new(), first);
        for (i, depth) in depths.into_iter().enumerate() {
            let inner = growth * p.bn_size;
            let block =
                (0..depth).map(|j| DenseLayer::new([channels + j * growth, inner, growth], p.drop_rate));
            stages.push(DenseBlock { block: block.collect::<Result<_>>()? });
            channels += depth * growth;
            let norm = BatchNorm2d::new(channels);
            let transition: Box<dyn Module> = if i + 1 == depths.len() {
                Box::new(Sequential::new().with(norm).with(ReLU::new()))
            } else {
                let from = channels;
                channels /= 2;
                let chain = Chain::default().with("norm", norm).with("act", ReLU::new());
                let conv = ConvModule::of(from, channels, 1).build()?.conv;
                Box::new(chain.with("conv", conv).with("pool", AvgPool2d::new(2)))
            };
            transitions.push(transition);
        }
        Ok(Self { stem, stages, transitions })
    }
}

impl Module for DenseNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = cx.child("stem", &mut self.stem, x)?;
        for (i, (stage, transition)) in self.stages.iter_mut().zip(&mut self.transitions).enumerate() {
            x = cx.child(format_args!("stages.{i}"), stage, x)?;
            x = cx.child(format_args!("transitions.{i}"), transition, x)?;
        }
        Ok(x)
    }
}

/// Layers whose results stand behind each other.
struct DenseBlock {
    block: Vec<DenseLayer>,
}

module!(DenseBlock { block });

impl Module for DenseBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut layers = self.block.iter_mut().enumerate();
        layers.try_fold(x, |x, (i, layer)| {
            let new = cx.child(format_args!("block.{i}"), layer, x)?;
            x.tape().concat(&[x, new], 1).checked()
        })
    }
}

/// A 1 × 1 and a 3 × 3 convolution, each behind a batch norm and a ReLU.
struct DenseLayer {
    norm1: BatchNorm2d,
    conv1: Conv2d,
    norm2: BatchNorm2d,
    conv2: Conv2d,
    drop: Dropout,
}

module!(DenseLayer { norm1, conv1, norm2, conv2, drop });

impl DenseLayer {
    fn new([from, inner, to]: [usize; 3], drop: f64) -> Result<Self> {
        Ok(Self {
            norm1: BatchNorm2d::new(from),
            conv1: ConvModule::of(from, inner, 1).build()?.conv,
            norm2: BatchNorm2d::new(inner),
            conv2: ConvModule::of(inner, to, 3).build()?.conv,
            drop: Dropout::new(drop),
        })
    }
}

impl Module for DenseLayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let then = BnThen { add: None, relu: BnThen::RELU };
        let x = self.norm1.forward_then(x, then, cx)?;
        let x = self.conv1.forward(x, cx)?;
        let x = self.norm2.forward_then(x, then, cx)?;
        let x = self.conv2.forward(x, cx)?;
        self.drop.forward(x, cx)
    }
}
