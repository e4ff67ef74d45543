//! ConvMixer (Trockman and Kolter 2022, <https://arxiv.org/abs/2201.09792>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, bounded, depthwise, last_only, last_stage, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::{Conv2d, ConvNormConfig, Forward, GELU, Module, ReLU, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: ConvMixer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConvMixerConfig {
    /// `768/32`, `1024/20` or `1536/20`; or a mapping with `embed_dims`, `depth`, `patch_size` and `kernel_size`.
    pub arch: ArchConfig<ConvMixerArch>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// The batch norms.
    pub norm_cfg: ConvNormConfig,
    /// What follows the convolutions: GELU, or ReLU as in the config of `768/32`.
    pub act_cfg: MixerActConfig,
    /// Accepted if it names the last block, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

/// `act_cfg` of a ConvMixer: `{type: ReLU}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct MixerActConfig {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: MixerAct,
}

/// What follows the convolutions of a ConvMixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum MixerAct {
    /// `x Φ(x)`.
    GELU,
    /// What is positive.
    ReLU,
}

impl Default for ConvMixerConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ArchConfig::default(),
            in_channels: three(),
            norm_cfg: ConvNormConfig::default(),
            act_cfg: MixerActConfig { kind: MixerAct::GELU },
        }
    }
}

/// The sizes of a [`ConvMixer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ConvMixerArch {
    /// Channels.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks.
    #[schemars(range(min = 1, max = 1000))]
    pub depth: usize,
    /// Size of a patch, which becomes one place.
    #[schemars(range(min = 1, max = 255))]
    pub patch_size: usize,
    /// Places that a channel is mixed over, an odd number.
    #[schemars(range(min = 1, max = 255))]
    pub kernel_size: usize,
}

impl Default for ConvMixerArch {
    fn default() -> Self {
        Self { embed_dims: 768, depth: 32, patch_size: 7, kernel_size: 7 }
    }
}

impl Arch for ConvMixerArch {
    fn names() -> Vec<(&'static str, Self)> {
        vec![
            ("768/32", Self::default()),
            ("1024/20", Self { embed_dims: 1024, depth: 20, patch_size: 14, kernel_size: 9 }),
            ("1536/20", Self { embed_dims: 1536, depth: 20, patch_size: 7, kernel_size: 9 }),
        ]
    }
}

/// Patches whose places are mixed within each channel, and channels within each place, in turn: images to 768 features
/// (`768/32`) of 1/7 of the size.
///
/// Weight names are MMPretrain's: `stem.0`, `stages.0.0.fn.0`, `stages.0.1`. 21,110,248 parameters (`768/32`) with a linear
/// layer for 1000 classes.
pub struct ConvMixer {
    layers: Chain,
}

module!(ConvMixer { ..layers });

register! { /// ConvMixer, `768/32` to `1536/20`: features of 1/7 or 1/14 of the size.
dyn Module, "ConvMixer" => fn ConvMixer::from_config }

impl ConvMixer {
    fn from_config(p: ConvMixerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When a size is 0, or `kernel_size` is no odd number.
    pub fn new(p: &ConvMixerConfig) -> Result<Self> {
        last_only(&p.out_indices, p.arch.0.depth)?;
        let ConvMixerArch { embed_dims: dims, depth, patch_size, kernel_size } = p.arch.0;
        bounded("embed_dims", &[dims], 1 << 20)?;
        bounded("depth", &[depth], 1000)?;
        bounded("patch_size", &[patch_size], 255)?;
        bounded("kernel_size", &[kernel_size], 255)?;
        if kernel_size.is_multiple_of(2) {
            return Err(Error::config(format!(
                "`kernel_size: {kernel_size}` has no middle: it is an odd number"
            )));
        }
        let behind = |conv, first: usize| {
            let [conv_name, act, norm] = [first, first + 1, first + 2].map(|i| i.to_string());
            let chain = Chain::default().with(conv_name, conv);
            let chain = match p.act_cfg.kind {
                MixerAct::GELU => chain.with(act, GELU::new()),
                MixerAct::ReLU => chain.with(act, ReLU::new()),
            };
            chain.with(norm, p.norm_cfg.build(dims))
        };
        let mut stages = Chain::default();
        for i in 0..depth {
            let places = depthwise(dims, kernel_size)?;
            let mixed = Chain::default()
                .with("0", Mixed { inner: behind(places, 0) })
                .and(behind(Conv2d::new(dims, dims, 1), 1));
            stages = stages.with(i.to_string(), mixed);
        }
        let patches = Conv2d::new(p.in_channels, dims, patch_size).stride(patch_size);
        let layers = Chain::default().with("stem", behind(patches, 0)).with("stages", stages);
        Ok(Self { layers })
    }
}

impl Module for ConvMixer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// A chain beside its input.
struct Mixed {
    inner: Chain,
}

module!(Mixed { inner as "fn" });

impl Module for Mixed {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        (cx.child("fn", &mut self.inner, x)? + x).checked()
    }
}
