//! MobileNetV2 (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Chain, freeze, last_only, last_stage, none_frozen, one, three};
use crate::base::Result;
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{ConvModule, Forward, Module, Sequential, Var, make_divisible};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: MobileNetV2, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MobileNetV2Config {
    /// What all numbers of channels are multiplied by.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub widen_factor: f64,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n of 7 stages; -1 none.
    #[schemars(range(min = -1, max = 7))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
    /// Accepted if it names the last of 8 layers, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for MobileNetV2Config {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            widen_factor: one(),
            in_channels: three(),
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

/// How much wider a block is inside, channels, blocks and stride of each stage: table 2 of the paper.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

const RELU6: Act = Act::Ramp { scale: 1.0, shift: 0.0, min: 0.0, max: 6.0 };

/// Convolutions of each channel alone between two of 1 × 1, the outer of which is without activation: images to 1280
/// features of 1/32 of the size.
///
/// Weight names are MMPretrain's: `conv1.conv`, `layer2.0.conv.1.bn`, `conv2`. 3,504,872 parameters with a linear layer for
/// 1000 classes.
pub struct MobileNetV2 {
    layers: Chain,
    init: Vec<Init>,
}

module!(MobileNetV2 { ..layers }, init_cfg = init);

register! { /// MobileNetV2: 1280 features of 1/32 of the size.
dyn Module, "MobileNetV2" => fn MobileNetV2::from_config }

impl MobileNetV2 {
    fn from_config(p: MobileNetV2Config, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there are less stages than are frozen.
    pub fn new(p: &MobileNetV2Config) -> Result<Self> {
        last_only(&p.out_indices, 8)?;
        let width = |channels: usize| make_divisible(channels as f64 * p.widen_factor, 8);
        let mut from = width(32);
        let conv = |from, to, kernel| ConvModule::of(from, to, kernel).act(RELU6);
        let mut layers = Chain::default().with("conv1", conv(p.in_channels, from, 3).stride(2).build()?);
        for (i, (expand, channels, blocks, stride)) in STAGES.into_iter().enumerate() {
            let mut stage = Sequential::new();
            for block in 0..blocks {
                let to = width(channels);
                let stride = if block == 0 { stride } else { 1 };
                stage = stage.with(InvertedResidual::new(
                    [std::mem::replace(&mut from, to), to],
                    stride,
                    expand,
                    RELU6,
                )?);
            }
            layers = layers.with(format!("layer{}", i + 1), stage);
        }
        let last = if p.widen_factor > 1.0 { width(1280) } else { 1280 };
        let mut net = Self {
            layers: layers.with("conv2", conv(from, last, 1).build()?),
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        let stages: Vec<_> = (1..=STAGES.len()).map(|i| vec![format!("layer{i}")]).collect();
        let stages = [vec![vec!["conv1".to_owned()]], stages].concat();
        freeze(&mut net, &stages, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }
}

impl Module for MobileNetV2 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// An inverted residual block, by the weight names of this network and of MobileViT: `conv.0`, `conv.1`, …
pub(super) struct InvertedResidual {
    conv: Vec<ConvModule>,
    residual: bool,
}

module!(InvertedResidual { conv });

impl InvertedResidual {
    pub fn new([from, to]: [usize; 2], stride: usize, expand: usize, act: Act) -> Result<Self> {
        let inner = from.saturating_mul(expand);
        let wide = ConvModule::of(from, inner, 1).act(act);
        let depthwise = ConvModule::of(inner, inner, 3).stride(stride).groups(inner).act(act);
        let narrow = ConvModule::of(inner, to, 1).act(Act::Identity);
        let parts = [(expand != 1).then_some(wide), Some(depthwise), Some(narrow)];
        let conv = parts.iter().flatten().map(|part| part.build()).collect::<Result<_>>()?;
        Ok(Self { conv, residual: stride == 1 && from == to })
    }
}

impl Module for InvertedResidual {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut parts = self.conv.iter_mut().enumerate();
        let y = parts.try_fold(x, |x, (i, part)| cx.child(format_args!("conv.{i}"), part, x))?;
        if self.residual { (x + y).checked() } else { Ok(y) }
    }
}
