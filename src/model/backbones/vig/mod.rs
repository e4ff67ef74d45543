//! Vision GNN (Han et al. 2022, <https://arxiv.org/abs/2206.00272>) as in MMPretrain.

mod graph;

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, bounded, drop_path_rates, freeze, three};
use crate::base::{Error, Result};
use crate::nn::{Conv2d, ConvNormConfig, Forward, GELU, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use graph::{Ffn, Grapher, Neighbours};

/// What Vig and PyramidVig have in common, by the keys of a config.
macro_rules! vig_config {
    ($(#[$doc:meta])* $name:ident { $arch:ty, $archs:literal $(, $(#[$more:meta])* $key:ident = $default:literal)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct $name {
            #[doc = $archs]
            pub arch: ArchConfig<$arch>,
            /// Channels of the images.
            #[schemars(range(min = 1, max = 1_048_576))]
            pub in_channels: usize,
            /// Neighbours that each place looks at, in the first block.
            #[schemars(range(min = 1, max = 49))]
            pub k: usize,
            /// Accepted if it is `{type: GELU}`.
            pub act_cfg: GeluConfig,
            /// The batch norms of stem and graphs.
            pub norm_cfg: ConvNormConfig,
            /// Whether the convolutions of the graphs have an offset.
            pub graph_conv_bias: bool,
            /// What a place takes of its neighbours; there is `mr`, what they have most above it.
            pub graph_conv_type: GraphConvType,
            /// Accepted: a chance that counts with `use_stochastic`.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub epsilon: f64,
            /// Accepted if it is false: neighbours are the nearest, not drawn.
            pub use_stochastic: bool,
            /// Probability with which the last block is left out in training; it grows from 0 at the first.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub drop_path: f64,
            /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
            pub norm_eval: bool,
            /// How many blocks, or stages of a pyramid, are frozen, batch norms too.
            #[schemars(range(min = 0, max = 1000))]
            pub frozen_stages: i64,
            $($(#[$more])* pub $key: bool,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    arch: ArchConfig::default(),
                    in_channels: three(),
                    k: 9,
                    act_cfg: GeluConfig { kind: Gelu::GELU },
                    norm_cfg: ConvNormConfig::default(),
                    graph_conv_bias: true,
                    graph_conv_type: GraphConvType::Mr,
                    epsilon: 0.2,
                    use_stochastic: false,
                    drop_path: 0.0,
                    norm_eval: false,
                    frozen_stages: 0,
                    $($key: $default,)*
                }
            }
        }
    };
}

vig_config! {
    /// The keys of `{type: Vig, …}` in a config, and how a program says the same.
    VigConfig {
        VigArch, "`tiny`, `small` or `base`; or a mapping with `num_blocks` and `channels`.",
        /// Whether deeper blocks look at every second, third, … of the nearest places.
        use_dilation = true,
        /// Whether the distance of two places on the map counts.
        relative_pos = false
    }
}
vig_config! {
    /// The keys of `{type: PyramidVig, …}` in a config, and how a program says the same.
    PyramidVigConfig {
        PyramidVigArch, "`tiny`, `small`, `medium` or `base`; or a mapping with `blocks` and `channels`."
    }
}

/// `act_cfg` of a Vig.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct GeluConfig {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Gelu,
}

/// The activation of a Vig.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Gelu {
    /// `x Φ(x)`.
    GELU,
}

/// What a place takes of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GraphConvType {
    /// What they have most above it, of each channel.
    Mr,
}

/// The sizes of a [`Vig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct VigArch {
    /// Blocks.
    #[schemars(range(min = 1, max = 1000))]
    pub num_blocks: usize,
    /// Channels, a multiple of 8.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub channels: usize,
}

/// The sizes of a [`PyramidVig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct PyramidVigArch {
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub blocks: [usize; 4],
    /// Channels of each stage, multiples of 4.
    #[schemars(inner(range(min = 4, max = 1_048_576)))]
    pub channels: [usize; 4],
}

impl Default for VigArch {
    fn default() -> Self {
        Self { num_blocks: 12, channels: 192 }
    }
}

impl Default for PyramidVigArch {
    fn default() -> Self {
        Self { blocks: [2, 2, 6, 2], channels: [48, 96, 240, 384] }
    }
}

impl Arch for VigArch {
    fn names() -> Vec<(&'static str, Self)> {
        let deep = |channels| Self { num_blocks: 16, channels };
        vec![("tiny", Self::default()), ("small", deep(320)), ("base", deep(640))]
    }
}

impl Arch for PyramidVigArch {
    fn names() -> Vec<(&'static str, Self)> {
        let of = |third, channels| Self { blocks: [2, 2, third, 2], channels };
        vec![
            ("tiny", Self::default()),
            ("small", of(6, [80, 160, 400, 640])),
            ("medium", of(16, [96, 192, 384, 768])),
            ("base", of(18, [128, 256, 512, 1024])),
        ]
    }
}

/// Blocks in which each of 14 × 14 places looks at those that are most like it: images of 224 × 224 to 192 features (`tiny`)
/// of 1/16 of the size. The head that belongs to it is VigClsHead.
///
/// Weight names are MMPretrain's: `pos_embed`, `stem.0`, `blocks.0.0.fc1.0`, `blocks.0.0.graph_conv.gconv.nn.0`,
/// `blocks.0.1.fc2.1`. 7,184,744 parameters (`tiny`) with the head for 1000 classes.
pub struct Vig {
    pos_embed: Param,
    stem: Chain,
    blocks: Chain,
}

/// The same in four stages on ever smaller maps: images of 224 × 224 to 384 features (`tiny`) of 1/32 of the size. The head
/// that belongs to it is VigClsHead.
///
/// Weight names are MMPretrain's: `pos_embed`, `stages.0.0.0.relative_pos`, `stages.1.0.0`. 12,486,314 parameters (`tiny`) with the
/// head for 1000 classes.
pub struct PyramidVig {
    pos_embed: Param,
    stem: Chain,
    stages: Chain,
}

module!(Vig { pos_embed, stem, blocks });
module!(PyramidVig { pos_embed, stem, stages });

register! { /// Vision GNN, `tiny` to `base`: images of 224 × 224 to features of 1/16 of the size.
dyn Module, "Vig" => fn Vig::from_config }
register! { /// Vision GNN in four stages, `tiny` to `base`: images of 224 × 224 to features of 1/32 of the size.
dyn Module, "PyramidVig" => fn PyramidVig::from_config }

/// 3 × 3 convolutions to these channels, each with a stride, a norm, and all but the last an activation.
fn stem(from: usize, to: &[[usize; 2]], norm: ConvNormConfig) -> Chain {
    let (mut chain, mut from) = (Chain::default(), from);
    for (i, &[to, stride]) in to.iter().enumerate() {
        let name = |part: usize| (3 * i + part).to_string();
        let conv = Conv2d::new(std::mem::replace(&mut from, to), to, 3).stride(stride).padding(1);
        if i > 0 {
            chain = chain.with((3 * i - 1).to_string(), GELU::new());
        }
        chain = chain.with(name(0), conv).with(name(1), norm.build(to));
    }
    chain
}

fn drawn(use_stochastic: bool) -> Result<()> {
    match use_stochastic {
        true => Err(Error::config("`use_stochastic: true`: neighbours are the nearest, they are not drawn")),
        false => Ok(()),
    }
}

/// What the stem gives, and where it is.
fn placed<'t>(x: Var<'t>, pos_embed: &Param, name: &str) -> Result<Var<'t>> {
    let (shape, wanted) = (x.shape(), pos_embed.value.shape());
    if shape.len() != 4 || shape[1..] != wanted[1..] {
        return Err(Error::invalid(format!(
            "{name} wants images of 224 × 224, whose stem gives maps of {} × {}, not of shape {shape:?}: resize the images",
            wanted[2], wanted[3]
        )));
    }
    (x + x.tape().param(pos_embed)).checked()
}

impl Vig {
    fn from_config(p: VigConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When channels are no multiple of 8, or less blocks are there than are frozen.
    pub fn new(p: &VigConfig) -> Result<Self> {
        let VigArch { num_blocks, channels } = p.arch.0;
        bounded("num_blocks", &[num_blocks], 1000)?;
        bounded("channels", &[channels], 1 << 20)?;
        bounded("k", &[p.k], 49)?;
        drawn(p.use_stochastic)?;
        if !channels.is_multiple_of(8) {
            return Err(Error::config(format!("`channels: {channels}` is no multiple of 8")));
        }
        let side = 14;
        let mut blocks = Chain::default();
        for (i, rate) in drop_path_rates(p.drop_path, num_blocks).enumerate() {
            // From `k` to twice as many.
            let k = p.k + p.k * i / (num_blocks.max(2) - 1);
            let most = side * side / (2 * p.k);
            let dilation = if p.use_dilation { (i / 4 + 1).min(most) } else { 1 };
            let neighbours = Neighbours { k, dilation, reduce: 1 };
            let flags = [p.graph_conv_bias, p.relative_pos];
            let block = Chain::default()
                .with("0", Grapher::new(channels, neighbours, p.norm_cfg, flags, side, rate))
                .with("1", Ffn::new(channels, rate));
            blocks = blocks.with(i.to_string(), block);
        }
        let sizes = [[channels / 8, 2], [channels / 4, 2], [channels / 2, 2], [channels, 2], [channels, 1]];
        let mut net = Self {
            pos_embed: Param::full(&[1, channels, side, side], 0.0),
            stem: stem(p.in_channels, &sizes, p.norm_cfg),
            blocks,
        };
        let parts = (0..num_blocks).map(|i| vec![format!("blocks.{i}")]);
        let parts: Vec<_> = std::iter::once(Vec::new()).chain(parts).collect();
        freeze(&mut net, &parts, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }
}

impl PyramidVig {
    fn from_config(p: PyramidVigConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When channels are no multiples of 4, or less stages are there than are frozen.
    pub fn new(p: &PyramidVigConfig) -> Result<Self> {
        let PyramidVigArch { blocks, channels } = p.arch.0;
        bounded("blocks", &blocks, 1000)?;
        bounded("channels", &channels, 1 << 20)?;
        bounded("k", &[p.k], 49)?;
        drawn(p.use_stochastic)?;
        if let Some(channels) = channels.iter().find(|channels| !channels.is_multiple_of(4)) {
            return Err(Error::config(format!("`channels: {channels}` is no multiple of 4")));
        }
        let (mut rates, mut at) = (drop_path_rates(p.drop_path, blocks.iter().sum()), 0);
        let mut stages = Chain::default();
        for (i, channels_here) in channels.into_iter().enumerate() {
            let (side, reduce) = (56 >> i, [4, 2, 1, 1][i]);
            let mut parts: Vec<Chain> = Vec::new();
            if i > 0 {
                let conv = Conv2d::new(channels[i - 1], channels_here, 3).stride(2).padding(1);
                parts.push(Chain::default().with("0", conv).with("1", p.norm_cfg.build(channels_here)));
            }
            for _ in 0..blocks[i] {
                let rate = rates.next().unwrap_or_default();
                let neighbours = Neighbours { k: p.k, dilation: (at / 4 + 1).min(49 / p.k), reduce };
                let flags = [p.graph_conv_bias, true];
                let block = Chain::default()
                    .with("0", Grapher::new(channels_here, neighbours, p.norm_cfg, flags, side, rate))
                    .with("1", Ffn::new(channels_here, rate));
                parts.push(block);
                at += 1;
            }
            let stage = parts.into_iter().enumerate();
            let stage = stage.fold(Chain::default(), |stage, (j, part)| stage.with(j.to_string(), part));
            stages = stages.with(i.to_string(), stage);
        }
        let first = channels[0];
        let mut net = Self {
            pos_embed: Param::full(&[1, first, 56, 56], 0.0),
            stem: stem(p.in_channels, &[[first / 2, 2], [first, 2], [first, 1]], p.norm_cfg),
            stages,
        };
        let parts = (0..4).map(|i| vec![format!("stages.{i}")]);
        let parts: Vec<_> = std::iter::once(Vec::new()).chain(parts).collect();
        freeze(&mut net, &parts, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }
}

impl Module for Vig {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("stem", &mut self.stem, x)?;
        cx.child("blocks", &mut self.blocks, placed(x, &self.pos_embed, "Vig")?)
    }
}

impl Module for PyramidVig {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("stem", &mut self.stem, x)?;
        cx.child("stages", &mut self.stages, placed(x, &self.pos_embed, "PyramidVig")?)
    }
}
