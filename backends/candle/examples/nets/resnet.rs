//! A residual network for small pictures (He et al. 2015, the form for CIFAR).

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, VarBuilder, batch_norm, conv2d_no_bias, linear};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::data::INPUTS;
use shanty::model::{FieldNeeds, SCORES};
use shanty_candle::{Fields, Forward, Losses, Network, Predictions, objective};

/// The keys of a [`ResNet`] in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ResNetConfig {
    /// Blocks of each of the three stages.
    #[schemars(range(min = 1))]
    blocks: usize,
    /// Channels of the first stage; each further one has twice as many.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1))]
    base_channels: usize,
    /// Channels of a picture.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    in_channels: usize,
    /// Classes.
    #[schemars(range(min = 1))]
    num_classes: usize,
    /// What is taken from each pixel first.
    #[serde(default)]
    mean: f64,
    /// What it is divided by then.
    #[serde(default = "unit")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    std: f64,
    /// Probability with which dropout zeroes a feature before the last layer.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    dropout: f64,
}

fn sixteen() -> usize {
    16
}

fn one() -> usize {
    1
}

fn unit() -> f64 {
    1.0
}

fn conv(from: usize, to: usize, kernel: usize, stride: usize, vb: VarBuilder<'_>) -> Result<Conv2d> {
    let config = Conv2dConfig { stride, padding: kernel / 2, ..Conv2dConfig::default() };
    conv2d_no_bias(from, to, kernel, config, vb)
}

/// Two convolutions around which the input goes.
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    fn new(from: usize, to: usize, stride: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let shortcut = |vb: VarBuilder<'_>| -> Result<_> {
            Ok((conv(from, to, 1, stride, vb.pp(0))?, batch_norm(to, 1e-5, vb.pp(1))?))
        };
        Ok(Self {
            conv1: conv(from, to, 3, stride, vb.pp("conv1"))?,
            bn1: batch_norm(to, 1e-5, vb.pp("bn1"))?,
            conv2: conv(to, to, 3, 1, vb.pp("conv2"))?,
            bn2: batch_norm(to, 1e-5, vb.pp("bn2"))?,
            downsample: (stride > 1 || from != to).then(|| shortcut(vb.pp("downsample"))).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let y = self.bn1.forward_t(&self.conv1.forward(x)?, training)?.relu()?;
        let y = self.bn2.forward_t(&self.conv2.forward(&y)?, training)?;
        match &self.downsample {
            Some((conv, bn)) => (y + bn.forward_t(&conv.forward(x)?, training)?)?.relu(),
            None => (y + x)?.relu(),
        }
    }
}

/// Stem, three stages, mean over the picture, scores. Weights have MMPretrain's names, as shanty's `ResNet_CIFAR`.
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
    config: ResNetConfig,
}

impl ResNet {
    /// The network.
    pub fn new(config: &ResNetConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let (backbone, base) = (vb.pp("backbone"), config.base_channels);
        let conv1 = conv(config.in_channels, base, 3, 1, backbone.pp("conv1"))?;
        let bn1 = batch_norm(base, 1e-5, backbone.pp("bn1"))?;
        let (mut blocks, mut from) = (Vec::new(), base);
        for stage in 0..3 {
            for i in 0..config.blocks {
                let to = base << stage;
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                blocks.push(Block::new(from, to, stride, backbone.pp(format!("layer{}.{i}", stage + 1)))?);
                from = to;
            }
        }
        Ok(Self {
            conv1,
            bn1,
            blocks,
            fc: linear(from, config.num_classes, vb.pp("head.fc"))?,
            config: config.clone(),
        })
    }

    fn scores(&self, x: &Tensor, cx: &Forward) -> Result<Tensor> {
        self.fc.forward(&cx.dropout(&self.features(x, cx.training)?, self.config.dropout)?)
    }

    /// In training and without dropout, for a loop of one's own.
    pub fn plain(&self, x: &Tensor) -> Result<Tensor> {
        self.fc.forward(&self.features(x, true)?)
    }

    fn features(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let x = ((x - self.config.mean)? / self.config.std)?;
        let x = self.bn1.forward_t(&self.conv1.forward(&x)?, training)?.relu()?;
        self.blocks.iter().try_fold(x, |x, block| block.forward(&x, training))?.mean((2, 3))
    }
}

impl Network for ResNet {
    fn loss(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Losses> {
        objective::cross_entropy(&self.scores(&batch.inputs()?, cx)?, batch).map(Losses::new)
    }

    fn predict(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Predictions> {
        objective::classes(&self.scores(&batch.inputs()?, cx)?, batch)
    }

    fn number_mut(&mut self, module: &str, name: &str) -> Option<&mut f64> {
        (module == "head" && name == "dropout").then_some(&mut self.config.dropout)
    }

    fn reads(&self) -> FieldNeeds {
        objective::needs(&[INPUTS], SCORES)
    }
}

shanty_candle::register! {
    /// A residual network for small pictures, in candle.
    "CandleResNet" => ResNet::new
}
