//! EfficientNetV2 (Tan and Le 2021, <https://arxiv.org/abs/2104.00298>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Chain, drop_path_rates, three};
use super::edge_residual::EdgeResidual;
use super::efficientnet::{Padding, PaddingConfig};
use super::inverted_residual::{InvertedResidual, Shape};
use crate::base::Result;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{ConvModule, ConvNormConfig, DropPath, Forward, Module, Var, set_norm_eval};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: EfficientNetV2, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EfficientNetV2Config {
    /// `s`, `m`, `l`, `xl`, or `b0` to `b3`.
    pub arch: EfficientNetV2Arch,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// The convolutions of stride 2: padded as in TensorFlow, or as in PyTorch (`{type: Conv2d}`).
    pub conv_cfg: PaddingConfig,
    /// The batch norms.
    pub norm_cfg: ConvNormConfig,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
}

impl Default for EfficientNetV2Config {
    fn default() -> Self {
        Self {
            arch: EfficientNetV2Arch::S,
            in_channels: three(),
            conv_cfg: PaddingConfig { kind: Padding::Conv2dAdaptivePadding },
            norm_cfg: ConvNormConfig { eps: 1e-3, momentum: 0.1, ..ConvNormConfig::default() },
            drop_path_rate: 0.0,
            norm_eval: false,
        }
    }
}

/// Which EfficientNetV2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum EfficientNetV2Arch {
    #[serde(alias = "small")]
    S,
    #[serde(alias = "medium")]
    M,
    #[serde(alias = "large")]
    L,
    Xl,
    B0,
    B1,
    B2,
    B3,
}

/// Blocks and channels of each stage; the others are as many for all archs.
struct Sizes {
    stem: usize,
    stages: &'static [(usize, usize)],
    features: usize,
}

impl EfficientNetV2Arch {
    fn sizes(self) -> Sizes {
        let (stem, stages, features): (_, &[_], _) = match self {
            Self::S => (24, &[(2, 24), (4, 48), (4, 64), (6, 128), (9, 160), (15, 256)], 1280),
            Self::M => (24, &[(3, 24), (5, 48), (5, 80), (7, 160), (14, 176), (18, 304), (5, 512)], 1280),
            Self::L => (32, &[(4, 32), (7, 64), (7, 96), (10, 192), (19, 224), (25, 384), (7, 640)], 1280),
            Self::Xl => (32, &[(4, 32), (8, 64), (8, 96), (16, 192), (24, 256), (32, 512), (8, 640)], 1280),
            Self::B0 => (32, &[(1, 16), (2, 32), (2, 48), (3, 96), (5, 112), (8, 192)], 1280),
            Self::B1 => (32, &[(2, 16), (3, 32), (3, 48), (4, 96), (6, 112), (9, 192)], 1280),
            Self::B2 => (32, &[(2, 16), (3, 32), (3, 56), (4, 104), (6, 120), (10, 208)], 1408),
            Self::B3 => (40, &[(2, 16), (3, 40), (3, 56), (5, 112), (7, 136), (12, 232)], 1536),
        };
        Sizes { stem, stages, features }
    }
}

/// Stride, and how much wider the blocks are inside, of each stage.
const STAGES: [(usize, usize); 7] = [(1, 1), (2, 4), (2, 4), (2, 4), (1, 6), (2, 6), (1, 6)];

/// Plain convolutions, then fused inverted residual blocks, then those with squeeze and excitation: images to 1280 features
/// (`s`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `layers.0.conv`, `layers.2.0.conv1.conv`, `layers.4.3.se.conv1.conv`. 21,458,488 parameters
/// (`s`) with a linear layer for 1000 classes.
pub struct EfficientNetV2 {
    layers: Chain,
    init: Vec<Init>,
}

module!(EfficientNetV2 { layers }, init_cfg = init);

register! { /// EfficientNetV2 `s` to `xl` and `b0` to `b3`: features of 1/32 of the size.
dyn Module, "EfficientNetV2" => fn EfficientNetV2::from_config }

impl EfficientNetV2 {
    fn from_config(p: EfficientNetV2Config, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a number of channels is 0.
    pub fn new(p: &EfficientNetV2Config) -> Result<Self> {
        let Sizes { stem, stages, features } = p.arch.sizes();
        let adaptive = p.conv_cfg.kind == Padding::Conv2dAdaptivePadding;
        let conv = |from, to, kernel| ConvModule::of(from, to, kernel).norm(p.norm_cfg).act(Act::Silu);
        let mut rates = drop_path_rates(p.drop_path_rate, stages.iter().map(|(blocks, _)| blocks).sum());
        let first = conv(p.in_channels, stem, 3).stride(2).adaptive(adaptive);
        let (mut layers, mut from) = (Chain::default().with("0", first.build()?), stem);
        for (i, ((blocks, to), (stride, expand))) in stages.iter().zip(STAGES).enumerate() {
            let mut stage = Chain::default();
            for block in 0..*blocks {
                let stride = if block == 0 { stride } else { 1 };
                let (rate, name) = (rates.next().unwrap_or_default(), block.to_string());
                let shape = Shape {
                    from,
                    inner: from * expand,
                    to: *to,
                    kernel: 3,
                    stride,
                    act: Act::Silu,
                    squeeze: Some(((from / 4).max(1), [Act::Silu, Act::Sigmoid])),
                    norm: p.norm_cfg,
                    adaptive: adaptive && stride == 2,
                    drop_path: rate,
                };
                stage = match i {
                    0 => stage.with(name, Skipped::new(conv(from, *to, 3).build()?, from == *to, rate)),
                    1 | 2 => stage.with(name, EdgeResidual::new(shape, true)?),
                    _ => stage.with(name, InvertedResidual::new(shape)?),
                };
                from = *to;
            }
            layers = layers.with((i + 1).to_string(), stage);
        }
        layers = layers.with((stages.len() + 1).to_string(), conv(from, features, 1).build()?);
        let mut net = Self {
            layers,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        set_norm_eval(&mut net, p.norm_eval);
        Ok(net)
    }
}

impl Module for EfficientNetV2 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        cx.child("layers", &mut self.layers, x)
    }
}

/// A convolution beside its input, where it keeps the channels.
struct Skipped {
    conv: ConvModule,
    drop_path: DropPath,
    skips: bool,
}

module!(Skipped { drop_path, ..conv });

impl Skipped {
    fn new(conv: ConvModule, skips: bool, drop_path: f64) -> Self {
        Self { conv, drop_path: DropPath::new(drop_path), skips }
    }
}

impl Module for Skipped {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = self.conv.forward(x, cx)?;
        if self.skips { (x + self.drop_path.forward(y, cx)?).checked() } else { Ok(y) }
    }
}
