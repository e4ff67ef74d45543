//! A small residual network on the digits: `cargo run --release --example resnet -- train configs/resnet.yaml`.
//!
//! Its parameters have the names of shanty's `ResNet_CIFAR` with a `LinearClsHead`: checkpoints fit both.

use std::process::ExitCode;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::Result;
use shanty_burn::{Fields, Losses, Network, Predictions, classified, cross_entropies};

/// What the config gives.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResNetConfig {
    /// Blocks in each of the three stages.
    #[schemars(range(min = 1))]
    pub blocks: usize,
    /// Channels of the first stage; each of the others doubles them.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Classes.
    #[schemars(range(min = 2))]
    pub classes: usize,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { blocks: 1, channels: 16, classes: 10 }
    }
}

fn conv(from: usize, to: usize, kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([from, to], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(device)
}

/// Two convolutions, and a way past them.
#[derive(Module, Debug)]
pub struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    fn new(from: usize, to: usize, stride: usize, device: &Device) -> Self {
        let norm = || BatchNormConfig::new(to).init(device);
        let changes = from != to || stride != 1;
        Self {
            conv1: conv(from, to, 3, stride, device),
            bn1: norm(),
            conv2: conv(to, to, 3, 1, device),
            bn2: norm(),
            downsample: changes.then(|| (conv(from, to, 1, stride, device), norm())),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = self.bn2.forward(self.conv2.forward(y));
        relu(match &self.downsample {
            Some((conv, norm)) => norm.forward(conv.forward(x)) + y,
            None => x + y,
        })
    }
}

/// The convolutions.
#[derive(Module, Debug)]
pub struct Backbone {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
}

/// What gives scores.
#[derive(Module, Debug)]
pub struct Head {
    fc: Linear,
}

/// A residual network for small pictures.
#[derive(Module, Debug)]
pub struct ResNet {
    backbone: Backbone,
    head: Head,
}

impl ResNet {
    /// With weights that are drawn when they are first looked at.
    pub fn new(config: &ResNetConfig, device: &Device) -> Result<Self> {
        let c = config.channels;
        let stage = |from: usize, to: usize, stride: usize| {
            let block =
                |i| if i == 0 { Block::new(from, to, stride, device) } else { Block::new(to, to, 1, device) };
            (0..config.blocks).map(block).collect()
        };
        Ok(Self {
            backbone: Backbone {
                conv1: conv(1, c, 3, 1, device),
                bn1: BatchNormConfig::new(c).init(device),
                layer1: stage(c, c, 1),
                layer2: stage(c, 2 * c, 2),
                layer3: stage(2 * c, 4 * c, 2),
            },
            head: Head { fc: LinearConfig::new(4 * c, config.classes).init(device) },
        })
    }

    /// The scores of the classes, N × K, of pictures N × 1 × H × W.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let Backbone { conv1, bn1, layer1, layer2, layer3 } = &self.backbone;
        let x = relu(bn1.forward(conv1.forward(x)));
        let x = layer1.iter().chain(layer2).chain(layer3).fold(x, |x, block| block.forward(x));
        let [n, channels, height, width] = x.dims();
        let pooled = x.reshape([n, channels, height * width]).mean_dim(2).reshape([n, channels]);
        self.head.fc.forward(pooled)
    }
}

impl Network for ResNet {
    fn loss(&self, batch: &Fields<'_>) -> Result<Losses> {
        let logits = self.forward(batch.float::<4>("inputs")?);
        Ok(cross_entropies(logits, batch)?.mean().into())
    }

    fn predict(&self, batch: &Fields<'_>) -> Result<Predictions> {
        classified(self.forward(batch.float::<4>("inputs")?), batch)
    }
}

shanty_burn::register! {
    /// A residual network for small pictures, three stages of basic blocks, on burn.
    "BurnResNet" => ResNet::new
}

#[allow(dead_code)] // the tests take the network alone
fn main() -> ExitCode {
    shanty::cli::main()
}
