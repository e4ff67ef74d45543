//! EfficientNet (Tan and Le 2019, <https://arxiv.org/abs/1905.11946>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{drop_path_rates, three};
use super::edge_residual::EdgeResidual;
use super::inverted_residual::{InvertedResidual, Shape};
use crate::base::Result;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{
    ConvModule, ConvNormConfig, Forward, Module, Sequential, Var, make_divisible, set_norm_eval,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: EfficientNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EfficientNetConfig {
    /// `b0` to `b8` and `l2`: how wide and deep; `es`, `em`, `el`: those for edge TPUs, without squeeze and excitation.
    pub arch: EfficientNetArch,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// The convolutions: padded as in TensorFlow, or as in PyTorch (`{type: Conv2d}`, which weights of torchvision want).
    pub conv_cfg: PaddingConfig,
    /// The batch norms.
    pub norm_cfg: ConvNormConfig,
    /// What follows the convolutions; ReLU in the configs of `es`, `em` and `el`.
    pub act_cfg: BlockActConfig,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
}

/// `act_cfg` of an EfficientNet: `{type: ReLU}`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct BlockActConfig {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: BlockAct,
}

/// What follows the convolutions of an EfficientNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum BlockAct {
    /// `x · sigmoid(x)`.
    Swish,
    /// The same by PyTorch's name.
    SiLU,
    /// What is positive.
    ReLU,
}

impl BlockAct {
    fn act(self) -> Act {
        if self == Self::ReLU { Act::Relu } else { Act::Silu }
    }
}

/// `conv_cfg` of an EfficientNet: `{type: Conv2dAdaptivePadding}`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct PaddingConfig {
    /// How the convolutions are padded.
    #[serde(rename = "type")]
    pub kind: Padding,
}

/// How convolutions are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Padding {
    /// By half a kernel on each side.
    Conv2d,
    /// So that the output has size / stride places, rounded up.
    Conv2dAdaptivePadding,
}

/// Which EfficientNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum EfficientNetArch {
    B0,
    B1,
    B2,
    B3,
    B4,
    B5,
    B6,
    B7,
    B8,
    L2,
    Es,
    Em,
    El,
}

impl EfficientNetArch {
    /// By how much it is wider and deeper than `b0`, or `es`.
    fn factors(self) -> (f64, f64) {
        match self {
            Self::B0 | Self::Es => (1.0, 1.0),
            Self::B1 | Self::Em => (1.0, 1.1),
            Self::B2 => (1.1, 1.2),
            Self::B3 | Self::El => (1.2, 1.4),
            Self::B4 => (1.4, 1.8),
            Self::B5 => (1.6, 2.2),
            Self::B6 => (1.8, 2.6),
            Self::B7 => (2.0, 3.1),
            Self::B8 => (2.2, 3.6),
            Self::L2 => (4.3, 5.3),
        }
    }

    fn is_edge(self) -> bool {
        matches!(self, Self::Es | Self::Em | Self::El)
    }
}

impl Default for EfficientNetConfig {
    fn default() -> Self {
        Self {
            arch: EfficientNetArch::B0,
            in_channels: three(),
            conv_cfg: PaddingConfig { kind: Padding::Conv2dAdaptivePadding },
            norm_cfg: ConvNormConfig { eps: 1e-3, momentum: 0.1, ..ConvNormConfig::default() },
            act_cfg: BlockActConfig { kind: BlockAct::Swish },
            drop_path_rate: 0.0,
            norm_eval: false,
        }
    }
}

/// Kernel, channels, stride, how much wider the blocks are inside, and blocks of a stage.
type Stage = (usize, usize, usize, usize, usize);

/// Those of `b0`.
const STAGES: [Stage; 7] = [
    (3, 16, 1, 1, 1),
    (3, 24, 2, 6, 2),
    (5, 40, 2, 6, 2),
    (3, 80, 2, 6, 3),
    (5, 112, 1, 6, 3),
    (5, 192, 2, 6, 4),
    (3, 320, 1, 6, 1),
];

/// The same of `es`; the blocks of the first three are fused.
const EDGE_STAGES: [Stage; 6] = [
    (3, 24, 1, 3, 1),
    (3, 32, 2, 8, 2),
    (3, 48, 2, 8, 4),
    (5, 96, 2, 8, 5),
    (5, 144, 1, 8, 4),
    (5, 192, 2, 8, 2),
];

/// Inverted residual blocks with squeeze and excitation, scaled in width and depth together: images to 1280 features (`b0`)
/// of 1/32 of the size.
///
/// Weight names are MMPretrain's: `layers.0.conv`, `layers.4.3.se.conv1.conv`, `layers.6.bn`. 5,288,548 parameters with a
/// linear layer for 1000 classes.
pub struct EfficientNet {
    layers: Vec<Box<dyn Module>>,
    init: Vec<Init>,
}

module!(EfficientNet { layers }, init_cfg = init);

register! { /// EfficientNet `b0` to `b8`, `l2`, and `es` to `el`: features of 1/32 of the size.
dyn Module, "EfficientNet" => fn EfficientNet::from_config }

impl EfficientNet {
    fn from_config(p: EfficientNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a number of channels is 0.
    pub fn new(p: &EfficientNetConfig) -> Result<Self> {
        let (wider, deeper) = p.arch.factors();
        let width = |channels: usize| make_divisible(channels as f64 * wider, 8);
        let depth = |blocks: usize| (blocks as f64 * deeper).ceil() as usize;
        let plan: &[Stage] = if p.arch.is_edge() { &EDGE_STAGES } else { &STAGES };
        let act = p.act_cfg.kind.act();
        let adaptive = p.conv_cfg.kind == Padding::Conv2dAdaptivePadding;
        let conv = |from, to, kernel, stride| {
            let conv = ConvModule::of(from, to, kernel).stride(stride).norm(p.norm_cfg);
            conv.act(act).adaptive(adaptive).build()
        };
        let mut from = width(32);
        let mut stages: Vec<Sequential> = Vec::new();
        let mut rates = drop_path_rates(p.drop_path_rate, plan.iter().map(|stage| depth(stage.4)).sum());
        for (at, &(kernel, channels, stride, expand, blocks)) in plan.iter().enumerate() {
            // A stage that keeps the size goes on with the one before.
            let mut stage = match stages.pop() {
                Some(before) if stride == 1 => before,
                before => {
                    stages.extend(before);
                    Sequential::new()
                }
            };
            for block in 0..depth(blocks) {
                let (from, to) = (std::mem::replace(&mut from, width(channels)), width(channels));
                // Those behind the first block of `em` and `el` widen by another number, and stand alone.
                let alone = p.arch.is_edge() && expand == 3 && block > 0;
                let shape = Shape {
                    from,
                    inner: from * if alone { 4 } else { expand },
                    to,
                    kernel,
                    stride: if block == 0 { stride } else { 1 },
                    act,
                    squeeze: (!p.arch.is_edge()).then(|| ((from / 4).max(1), [act, Act::Sigmoid])),
                    norm: p.norm_cfg,
                    adaptive,
                    drop_path: rates.next().unwrap_or_default(),
                };
                stage = match p.arch.is_edge() && at < 3 {
                    true => stage.with(EdgeResidual::new(shape, !alone)?),
                    false => stage.with(InvertedResidual::new(shape)?),
                };
            }
            stages.push(stage);
        }
        let mut layers: Vec<Box<dyn Module>> = vec![Box::new(conv(p.in_channels, width(32), 3, 2)?)];
        layers.extend(stages.into_iter().map(|stage| Box::new(stage) as Box<dyn Module>));
        layers.push(Box::new(conv(from, width(1280), 1, 1)?));
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

impl Module for EfficientNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut layers = self.layers.iter_mut().enumerate();
        layers.try_fold(x, |x, (i, layer)| cx.child(format_args!("layers.{i}"), layer, x))
    }
}
