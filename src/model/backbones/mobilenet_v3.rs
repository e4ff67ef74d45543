//! MobileNetV3 (Howard et al. 2019, <https://arxiv.org/abs/1905.02244>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Chain, freeze, none_frozen, three};
use super::inverted_residual::{InvertedResidual, Shape};
use crate::base::Result;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming, Nonlinearity};
use crate::nn::{ConvModule, ConvNormConfig, Forward, Module, Var, make_divisible};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: MobileNetV3, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MobileNetV3Config {
    /// `small` or `large`, and `small_075` or `small_050` of less channels.
    pub arch: MobileNetV3Arch,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// The batch norms.
    pub norm_cfg: ConvNormConfig,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n blocks; -1 none.
    #[schemars(range(min = -1))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
}

impl Default for MobileNetV3Config {
    fn default() -> Self {
        Self {
            arch: MobileNetV3Arch::Small,
            in_channels: three(),
            norm_cfg: ConvNormConfig { eps: 1e-3, momentum: 0.01, ..ConvNormConfig::default() },
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

/// Which MobileNetV3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MobileNetV3Arch {
    /// Of 11 blocks: 576 features.
    Small,
    /// With three quarters of the channels: 432 features.
    #[serde(rename = "small_075")]
    Small075,
    /// With half of the channels: 288 features.
    #[serde(rename = "small_050")]
    Small050,
    /// Of 15 blocks: 960 features.
    Large,
}

const RELU: Act = Act::Relu;
const HSWISH: Act = Act::Hardswish;
/// `max(0, min(1, x / 6 + 1 / 2))`.
const HSIGMOID: Act = Act::Ramp { scale: 1.0 / 6.0, shift: 0.5, min: 0.0, max: 1.0 };

/// Kernel, channels inside, channels, squeeze and excitation, activation and stride of each block: tables 1 and 2 of the
/// paper.
type Row = (usize, usize, usize, bool, Act, usize);

const SMALL: [Row; 11] = [
    (3, 16, 16, true, RELU, 2),
    (3, 72, 24, false, RELU, 2),
    (3, 88, 24, false, RELU, 1),
    (5, 96, 40, true, HSWISH, 2),
    (5, 240, 40, true, HSWISH, 1),
    (5, 240, 40, true, HSWISH, 1),
    (5, 120, 48, true, HSWISH, 1),
    (5, 144, 48, true, HSWISH, 1),
    (5, 288, 96, true, HSWISH, 2),
    (5, 576, 96, true, HSWISH, 1),
    (5, 576, 96, true, HSWISH, 1),
];

const SMALL_075: [Row; 11] = [
    (3, 16, 16, true, RELU, 2),
    (3, 72, 24, false, RELU, 2),
    (3, 88, 24, false, RELU, 1),
    (5, 96, 32, true, HSWISH, 2),
    (5, 192, 32, true, HSWISH, 1),
    (5, 192, 32, true, HSWISH, 1),
    (5, 96, 40, true, HSWISH, 1),
    (5, 120, 40, true, HSWISH, 1),
    (5, 240, 72, true, HSWISH, 2),
    (5, 432, 72, true, HSWISH, 1),
    (5, 432, 72, true, HSWISH, 1),
];

const SMALL_050: [Row; 11] = [
    (3, 16, 8, true, RELU, 2),
    (3, 40, 16, false, RELU, 2),
    (3, 56, 16, false, RELU, 1),
    (5, 64, 24, true, HSWISH, 2),
    (5, 144, 24, true, HSWISH, 1),
    (5, 144, 24, true, HSWISH, 1),
    (5, 72, 24, true, HSWISH, 1),
    (5, 72, 24, true, HSWISH, 1),
    (5, 144, 48, true, HSWISH, 2),
    (5, 288, 48, true, HSWISH, 1),
    (5, 288, 48, true, HSWISH, 1),
];

const LARGE: [Row; 15] = [
    (3, 16, 16, false, RELU, 1),
    (3, 64, 24, false, RELU, 2),
    (3, 72, 24, false, RELU, 1),
    (5, 72, 40, true, RELU, 2),
    (5, 120, 40, true, RELU, 1),
    (5, 120, 40, true, RELU, 1),
    (3, 240, 80, false, HSWISH, 2),
    (3, 200, 80, false, HSWISH, 1),
    (3, 184, 80, false, HSWISH, 1),
    (3, 184, 80, false, HSWISH, 1),
    (3, 480, 112, true, HSWISH, 1),
    (3, 672, 112, true, HSWISH, 1),
    (5, 672, 160, true, HSWISH, 2),
    (5, 960, 160, true, HSWISH, 1),
    (5, 960, 160, true, HSWISH, 1),
];

/// Inverted residual blocks with squeeze and excitation and hard activations: images to 576 (small) or 960 (large) features
/// of 1/32 of the size. The head that belongs to it is StackedLinearClsHead with a hidden layer of 1024 or 1280.
///
/// Weight names are MMPretrain's: `layer0.conv`, `layer4.expand_conv.bn`, `layer4.se.conv1.conv`, `layer12.conv`. 2,542,856
/// and 5,483,032 parameters with the head for 1000 classes.
pub struct MobileNetV3 {
    layers: Chain,
    init: Vec<Init>,
}

module!(MobileNetV3 { ..layers }, init_cfg = init);

register! { /// MobileNetV3, small or large: features of 1/32 of the size.
dyn Module, "MobileNetV3" => fn MobileNetV3::from_config }

impl MobileNetV3 {
    fn from_config(p: MobileNetV3Config, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there are less stages than are frozen.
    pub fn new(p: &MobileNetV3Config) -> Result<Self> {
        let (rows, last) = match p.arch {
            MobileNetV3Arch::Small => (&SMALL[..], 576),
            MobileNetV3Arch::Small075 => (&SMALL_075[..], 432),
            MobileNetV3Arch::Small050 => (&SMALL_050[..], 288),
            MobileNetV3Arch::Large => (&LARGE[..], 960),
        };
        let conv = |from, to, kernel| ConvModule::of(from, to, kernel).norm(p.norm_cfg).act(HSWISH);
        let mut layers = Chain::default().with("layer0", conv(p.in_channels, 16, 3).stride(2).build()?);
        let mut from = 16;
        for (i, &(kernel, inner, to, squeezed, act, stride)) in rows.iter().enumerate() {
            let squeeze = squeezed.then(|| (make_divisible((inner / 4) as f64, 8), [RELU, HSIGMOID]));
            let from = std::mem::replace(&mut from, to);
            let (norm, adaptive, drop_path) = (p.norm_cfg, false, 0.0);
            let shape = Shape { from, inner, to, kernel, stride, act, squeeze, norm, adaptive, drop_path };
            layers = layers.with(format!("layer{}", i + 1), InvertedResidual::new(shape)?);
        }
        let mut net = Self {
            layers: layers.with(format!("layer{}", rows.len() + 1), conv(from, last, 1).build()?),
            init: vec![
                Init::new(Kaiming { nonlinearity: Nonlinearity::LeakyRelu, ..Kaiming::default() })
                    .layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm"),
            ],
        };
        let stages: Vec<_> = (0..=rows.len()).map(|i| vec![format!("layer{i}")]).collect();
        freeze(&mut net, &stages, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }
}

impl Module for MobileNetV3 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}
