//! EfficientFormer (Li et al. 2022, <https://arxiv.org/abs/2206.01191>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, Mlp, last_only, last_stage, three};
use super::windows::Offsets;
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::{
    AvgPool2d, BatchNorm2d, Conv2d, ConvModule, DropPath, Forward, LayerNorm, LayerScale, Linear, Module, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: EfficientFormer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EfficientFormerConfig {
    /// `l1`, `l3` or `l7`; or a mapping with `layers`, `embed_dims`, `downsamples` and `vit_num`.
    pub arch: ArchConfig<EfficientFormerArch>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Places of the means on each side, an odd number.
    #[schemars(range(min = 1, max = 255))]
    pub pool_size: usize,
    /// By how much the MLPs widen a token.
    #[schemars(range(min = 1, max = 1024))]
    pub mlp_ratios: usize,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether branches are scaled, by 1e-5 at first.
    pub use_layer_scale: bool,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for EfficientFormerConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            in_channels: three(),
            pool_size: three(),
            mlp_ratios: 4,
            drop_path_rate: 0.0,
            use_layer_scale: true,
            out_indices: last_stage(),
        }
    }
}

/// The sizes of an EfficientFormer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct EfficientFormerArch {
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub layers: [usize; 4],
    /// Channels of each stage.
    #[schemars(inner(range(min = 2, max = 1_048_576)))]
    pub embed_dims: [usize; 4],
    /// Whether a stage begins by halving the map.
    pub downsamples: [bool; 4],
    /// How many blocks at the end have attention, at least one and at most those of the last stage.
    #[schemars(range(min = 1, max = 1000))]
    pub vit_num: usize,
}

impl EfficientFormerArch {
    fn of(layers: [usize; 4], embed_dims: [usize; 4], vit_num: usize) -> Self {
        Self { layers, embed_dims, downsamples: [false, true, true, true], vit_num }
    }
}

impl Default for EfficientFormerArch {
    fn default() -> Self {
        Self::of([3, 2, 6, 4], [48, 96, 224, 448], 1)
    }
}

impl Arch for EfficientFormerArch {
    fn names() -> Vec<(&'static str, Self)> {
        vec![
            ("l1", Self::default()),
            ("l3", Self::of([4, 4, 12, 6], [64, 128, 320, 512], 4)),
            ("l7", Self::of([6, 6, 18, 8], [96, 192, 384, 768], 8)),
        ]
    }
}

/// Blocks that look at means of neighbours, and at the end some with attention: images of 224 × 224 to 448 features (`l1`) of
/// 49 places, [N, C, 49].
///
/// Weight names are MMPretrain's: `patch_embed.0.conv`, `network.0.0.mlp.norm1`, `network.3.5.token_mixer.qkv`, `norm3`.
/// 12,289,928 parameters (`l1`) with both layers of its head for 1000 classes.
pub struct EfficientFormer {
    patch_embed: Chain,
    network: Vec<Chain>,
    norm: LayerNorm,
}

module!(EfficientFormer { patch_embed, network, norm as "norm3" });

register! { /// EfficientFormer, `l1`, `l3` and `l7`: features of 49 places, [N, C, 49].
dyn Module, "EfficientFormer" => fn EfficientFormer::from_config }

impl EfficientFormer {
    fn from_config(p: EfficientFormerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a size is 0, or `pool_size` is no odd number.
    pub fn new(p: &EfficientFormerConfig) -> Result<Self> {
        let EfficientFormerArch { layers, embed_dims, downsamples, vit_num } = p.arch.0.clone();
        if layers.iter().any(|count| !(1..=1000).contains(count)) || embed_dims.iter().any(|dims| *dims < 2) {
            return Err(Error::config("`layers` are from 1 to 1000, `embed_dims` at least 2"));
        }
        if !(1..=layers[3]).contains(&vit_num) {
            return Err(Error::config(format!(
                "`vit_num: {vit_num}` of the {} blocks of the last stage have attention: at least one",
                layers[3]
            )));
        }
        if p.pool_size.is_multiple_of(2) {
            return Err(Error::config(format!(
                "`pool_size: {}` has no middle: it is an odd number",
                p.pool_size
            )));
        }
        last_only(&p.out_indices, 4)?;
        let mut rates = super::common::drop_path_rates(p.drop_path_rate, layers.iter().sum());
        let conv = |from, to| ConvModule::of(from, to, 3).stride(2).bias(true);
        let mut network = Vec::new();
        for i in 0..4 {
            let (dims, mut stage, mut at) = (embed_dims[i], Chain::default(), 0);
            let mut push = |part: Box<dyn Module>| {
                stage = std::mem::take(&mut stage).with(at.to_string(), part);
                at += 1;
            };
            if downsamples[i] {
                let from = if i == 0 { dims } else { embed_dims[i - 1] };
                push(Box::new(conv(from, dims).act(Act::Identity).build()?));
            }
            let places = if i == 3 { layers[3] - vit_num } else { layers[i] };
            for j in 0..layers[i] {
                if i == 3 && j == places {
                    push(Box::new(Flat {}));
                }
                let drop_path = rates.next().unwrap_or_default();
                match j < places {
                    true => push(Box::new(Places::new(p, dims, drop_path))),
                    false => push(Box::new(Tokens::new(p, dims, drop_path))),
                }
            }
            network.push(stage);
        }
        let first = embed_dims[0];
        Ok(Self {
            patch_embed: Chain::default()
                .with("0", conv(p.in_channels, first / 2).build()?)
                .with("1", conv(first / 2, first).build()?),
            network,
            norm: LayerNorm::new(embed_dims[3]),
        })
    }
}

impl Module for EfficientFormer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = cx.child("patch_embed", &mut self.patch_embed, x)?;
        for (i, stage) in self.network.iter_mut().enumerate() {
            x = cx.child(format_args!("network.{i}"), stage, x)?;
        }
        cx.child("norm3", &mut self.norm, x)?.transpose(1, 2).checked()
    }
}

/// A map as tokens [N, H W, C].
struct Flat {}

/// `x + ls1 · (mean of neighbours - x)`, and of that `x + ls2 · mlp(x)`, of a map.
struct Places {
    mlp: ConvMlp,
    ls1: Option<LayerScale>,
    ls2: Option<LayerScale>,
    pool: AvgPool2d,
    drop_path: DropPath,
}

/// Two convolutions of 1 × 1, each with a norm.
struct ConvMlp {
    fc1: Conv2d,
    norm1: BatchNorm2d,
    fc2: Conv2d,
    norm2: BatchNorm2d,
}

/// `x + ls1 · token_mixer(norm1(x))`, and of that `x + ls2 · mlp(norm2(x))`, of tokens.
struct Tokens {
    norm1: LayerNorm,
    token_mixer: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    ls1: Option<LayerScale>,
    ls2: Option<LayerScale>,
    drop_path: DropPath,
}

struct Attention {
    qkv: Linear,
    proj: Linear,
    offsets: Offsets,
}

module!(Flat {});
module!(Places { mlp, ls1, ls2, drop_path });
module!(ConvMlp { fc1, norm1, fc2, norm2 });
module!(Tokens { norm1, token_mixer, norm2, mlp, ls1, ls2, drop_path });
module!(Attention { qkv, proj, ..offsets });

/// Heads, size of a key, how much longer a value is, and rows of the map: those of all EfficientFormers.
const HEADS: usize = 8;
const KEY: usize = 32;
const RATIO: usize = 4;
const SIDE: usize = 7;

fn scale(p: &EfficientFormerConfig, dims: usize) -> Option<LayerScale> {
    p.use_layer_scale.then(|| LayerScale::new(dims, 1e-5))
}

impl Places {
    fn new(p: &EfficientFormerConfig, dims: usize, drop_path: f64) -> Self {
        // MMPretrain hands its ratio to the blocks with attention alone.
        let inner = dims.saturating_mul(4);
        Self {
            mlp: ConvMlp {
                fc1: Conv2d::new(dims, inner, 1),
                norm1: BatchNorm2d::new(inner),
                fc2: Conv2d::new(inner, dims, 1),
                norm2: BatchNorm2d::new(dims),
            },
            ls1: scale(p, dims),
            ls2: scale(p, dims),
            pool: AvgPool2d::new(p.pool_size).stride(1).padding(p.pool_size / 2).count_include_pad(false),
            drop_path: DropPath::new(drop_path),
        }
    }
}

impl Tokens {
    fn new(p: &EfficientFormerConfig, dims: usize, drop_path: f64) -> Self {
        Self {
            norm1: LayerNorm::new(dims),
            token_mixer: Attention {
                qkv: Linear::new(dims, HEADS * KEY * (2 + RATIO)),
                proj: Linear::new(HEADS * KEY * RATIO, dims),
                offsets: Offsets::new(HEADS, [SIDE; 2], 1),
            },
            norm2: LayerNorm::new(dims),
            mlp: Mlp::new(dims, dims.saturating_mul(p.mlp_ratios), dims),
            ls1: scale(p, dims),
            ls2: scale(p, dims),
            drop_path: DropPath::new(drop_path),
        }
    }
}

impl Module for Flat {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.embed_tokens(None, None).checked()
    }
}

impl Module for ConvMlp {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("fc1", &mut self.fc1, x)?;
        let x = cx.child("norm1", &mut self.norm1, x)?.gelu();
        let x = cx.child("fc2", &mut self.fc2, x)?;
        cx.child("norm2", &mut self.norm2, x)
    }
}

impl Module for Places {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let scaled = |scale: &Option<LayerScale>, y: Var<'t>| match scale {
            Some(LayerScale { weight }) => y * y.tape().param(weight).reshape(&[weight.value.len(), 1, 1]),
            None => y,
        };
        let seen = self.pool.forward(x, cx)? - x;
        let x = x + self.drop_path.forward(scaled(&self.ls1, seen), cx)?;
        let y = cx.child("mlp", &mut self.mlp, x)?;
        (x + self.drop_path.forward(scaled(&self.ls2, y), cx)?).checked()
    }
}

impl Module for Attention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if x.shape()[1] != SIDE * SIDE {
            return Err(Error::invalid(format!(
                "EfficientFormer wants images of 224 × 224, which have {} places at its end, not {}: resize them",
                SIDE * SIDE,
                x.shape()[1]
            )));
        }
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let y = self.offsets.attention(qkv, KEY)?;
        cx.child("proj", &mut self.proj, y)
    }
}

impl Module for Tokens {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("norm1", &mut self.norm1, x)?;
        let mut y = cx.child("token_mixer", &mut self.token_mixer, y)?;
        if let Some(ls1) = &mut self.ls1 {
            y = cx.child("ls1", ls1, y)?;
        }
        let x = x + self.drop_path.forward(y, cx)?;
        let y = cx.child("norm2", &mut self.norm2, x)?;
        let mut y = cx.child("mlp", &mut self.mlp, y)?;
        if let Some(ls2) = &mut self.ls2 {
            y = cx.child("ls2", ls2, y)?;
        }
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}
