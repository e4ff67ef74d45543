//! ConvNeXt (Liu et al. 2022, <https://arxiv.org/abs/2201.03545>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{drop_path_rates, last_only, last_stage, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::init::{Constant, Init, TruncNormal};
use crate::nn::{
    Conv2d, ConvModule, DropPath, Forward, LayerNorm, LayerNorm2d, Linear, Module, Param, Sequential, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: ConvNeXt, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConvNeXtConfig {
    /// How large.
    pub arch: ConvNeXtArch,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// What the branch of each block is multiplied by at first; 0 for no such weights.
    #[schemars(range(min = 0.0))]
    pub layer_scale_init_value: f64,
    /// Whether the hidden layer of a block is normalised by the responses of its channels, as in ConvNeXt V2 (Woo et al.
    /// 2023, <https://arxiv.org/abs/2301.00808>), which has `layer_scale_init_value: 0` besides.
    pub use_grn: bool,
    /// Whether the last norm is that of the mean over the image, and the output [N, C]; else it stays a map.
    pub gap_before_final_norm: bool,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for ConvNeXtConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ConvNeXtArch::Tiny,
            in_channels: three(),
            drop_path_rate: 0.0,
            layer_scale_init_value: 1e-6,
            use_grn: false,
            gap_before_final_norm: true,
        }
    }
}

/// Which ConvNeXt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ConvNeXtArch {
    Atto,
    Femto,
    Pico,
    Nano,
    Tiny,
    Small,
    Base,
    Large,
    Xlarge,
    Huge,
}

impl ConvNeXtArch {
    /// Blocks of each stage, and channels of the first, which double from stage to stage.
    fn sizes(self) -> ([usize; 4], usize) {
        match self {
            Self::Atto => ([2, 2, 6, 2], 40),
            Self::Femto => ([2, 2, 6, 2], 48),
            Self::Pico => ([2, 2, 6, 2], 64),
            Self::Nano => ([2, 2, 8, 2], 80),
            Self::Tiny => ([3, 3, 9, 3], 96),
            Self::Small => ([3, 3, 27, 3], 96),
            Self::Base => ([3, 3, 27, 3], 128),
            Self::Large => ([3, 3, 27, 3], 192),
            Self::Xlarge => ([3, 3, 27, 3], 256),
            Self::Huge => ([3, 3, 27, 3], 352),
        }
    }
}

/// Blocks of a 7 × 7 convolution of each channel alone and two linear layers, as a transformer's: images to 768 features
/// (`tiny`), normalised behind their mean, so that a linear head follows without a neck.
///
/// Weight names are MMPretrain's: `downsample_layers.0.0`, `stages.0.1.depthwise_conv`, `stages.0.1.gamma`, `norm3`.
/// 28,589,128 parameters with a linear layer for 1000 classes.
pub struct ConvNeXt {
    layers: Pyramid,
    init: Vec<Init>,
}

module!(ConvNeXt { ..layers }, init_cfg = init);

register! { /// ConvNeXt, `atto` to `huge`: images to features, [N, C].
dyn Module, "ConvNeXt" => fn ConvNeXt::from_config }

impl ConvNeXt {
    fn from_config(p: ConvNeXtConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there are no channels.
    pub fn new(p: &ConvNeXtConfig) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let (depths, first) = p.arch.sizes();
        let channels = [0, 1, 2, 3].map(|i| first << i);
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let mut stages = Vec::new();
        for (depth, channels) in depths.into_iter().zip(channels) {
            let mut stage = Sequential::new();
            for _ in 0..depth {
                let rate = rates.next().unwrap_or_default();
                stage = stage.with(Block::new([channels, 7], p.layer_scale_init_value, p.use_grn, rate)?);
            }
            stages.push(stage);
        }
        let norm = LayerNorm2d::new(channels[3]).eps(1e-6);
        Ok(Self {
            layers: Pyramid::new(p.in_channels, channels, stages, norm, p.gap_before_final_norm),
            init: vec![
                Init::new(TruncNormal { std: 0.02, ..TruncNormal::default() })
                    .layer("Conv2d")
                    .layer("Linear"),
                Init::new(Constant { val: 1.0 }).layer("LayerNorm"),
            ],
        })
    }
}

impl Module for ConvNeXt {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// Four stages on ever smaller maps, and a norm of what comes out: the frame of ConvNeXt, EdgeNeXt and HorNet.
pub(super) struct Pyramid {
    downsample_layers: Vec<Sequential>,
    stages: Vec<Sequential>,
    norm3: LayerNorm2d,
    mean: bool,
}

module!(Pyramid { downsample_layers, stages, norm3 });

impl Pyramid {
    /// These stages, of so many channels each; the norm is that of the mean over the map, or of each of its places.
    pub fn new(
        in_channels: usize,
        channels: [usize; 4],
        stages: Vec<Sequential>,
        norm3: LayerNorm2d,
        mean: bool,
    ) -> Self {
        let norm = |channels| LayerNorm2d::new(channels).eps(1e-6);
        let patches = Conv2d::new(in_channels, channels[0], 4).stride(4);
        let mut downsample_layers = vec![Sequential::new().with(patches).with(norm(channels[0]))];
        downsample_layers.extend(channels.windows(2).map(|pair| {
            Sequential::new().with(norm(pair[0])).with(Conv2d::new(pair[0], pair[1], 2).stride(2))
        }));
        Self { downsample_layers, stages, norm3, mean }
    }
}

impl Module for Pyramid {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = x;
        for (i, (down, stage)) in self.downsample_layers.iter_mut().zip(&mut self.stages).enumerate() {
            x = cx.child(format_args!("downsample_layers.{i}"), down, x)?;
            x = cx.child(format_args!("stages.{i}"), stage, x)?;
        }
        if !self.mean {
            return cx.child("norm3", &mut self.norm3, x);
        }
        let mean = x.adaptive_avg_pool2d([1, 1]);
        Ok(cx.child("norm3", &mut self.norm3, mean)?.flatten(1, -1))
    }
}

/// Normalises channels that come last by how much they respond: `gamma · x · n + beta + x`, where `n` is the norm of a
/// channel over the places of the image divided by the mean of these norms. Both weights begin as 0.
struct Grn {
    gamma: Param,
    beta: Param,
}

module!(Grn { gamma, beta });

impl Grn {
    fn new(channels: usize) -> Self {
        Self { gamma: Param::full(&[channels], 0.0), beta: Param::full(&[channels], 0.0) }
    }
}

impl Module for Grn {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        // A root has no slope at 0.
        let norms = ((x * x).sum_keepdim(&[1]) + 1e-24).sqrt();
        let scaled = x * (norms / (norms.mean_keepdim(&[-1]) + 1e-6));
        (scaled * tape.param(&self.gamma) + tape.param(&self.beta) + x).checked()
    }
}

/// `x + gamma · pointwise_conv2(grn(gelu(pointwise_conv1(norm(depthwise_conv(x))))))`, the last four for each pixel.
pub(super) struct Block {
    depthwise_conv: Conv2d,
    norm: LayerNorm,
    pointwise_conv1: Linear,
    pointwise_conv2: Linear,
    grn: Option<Grn>,
    gamma: Option<Param>,
    drop_path: DropPath,
}

module!(Block { depthwise_conv, norm, pointwise_conv1, pointwise_conv2, grn, gamma, drop_path });

impl Block {
    /// Of so many channels and a kernel of this size, of 1 × 1 at least; 0 is no scale at all.
    pub fn new([channels, kernel]: [usize; 2], scale: f64, grn: bool, drop_path: f64) -> Result<Self> {
        let depthwise = ConvModule::of(channels, channels, kernel).groups(channels).norm(None);
        if !scale.is_finite() {
            return Err(Error::config(format!(
                "`layer_scale_init_value: {scale}` is no number to begin with"
            )));
        }
        Ok(Self {
            depthwise_conv: depthwise.build()?.conv,
            norm: LayerNorm::new(channels).eps(1e-6),
            pointwise_conv1: Linear::new(channels, 4 * channels),
            pointwise_conv2: Linear::new(4 * channels, channels),
            grn: grn.then(|| Grn::new(4 * channels)),
            gamma: (scale > 0.0).then(|| Param::full(&[channels], scale as _)),
            drop_path: DropPath::new(drop_path),
        })
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("depthwise_conv", &mut self.depthwise_conv, x)?;
        let size = [y.shape()[2], y.shape()[3]];
        let y = cx.child("norm", &mut self.norm, y.embed_tokens(None, None))?;
        let mut y = cx.child("pointwise_conv1", &mut self.pointwise_conv1, y)?.gelu();
        if let Some(grn) = &mut self.grn {
            y = cx.child("grn", grn, y)?;
        }
        let mut y = cx.child("pointwise_conv2", &mut self.pointwise_conv2, y)?;
        if let Some(gamma) = &self.gamma {
            y = y * x.tape().param(gamma);
        }
        let y = self.drop_path.forward(y.token_planes(size), cx)?;
        (x + y).checked()
    }
}
