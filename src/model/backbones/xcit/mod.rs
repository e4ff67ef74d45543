//! XCiT (El-Nouby et al. 2021, <https://arxiv.org/abs/2106.09681>) as in MMPretrain.

mod blocks;

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Chain, last_only, last_stage, on_map, three};
use super::vision_transformer::OutType;
use crate::base::{Elem, Error, Result, Tensor};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::init::{Init, TruncNormal};
use crate::nn::{ConvModule, Dropout, Forward, LayerNorm, Module, Pair, Param, PatchNormConfig, Var};
use crate::registry::BuildCx;
use crate::{module, register};

pub(super) use blocks::cross_covariance;
use blocks::{ClassBlock, Sizes, XcaBlock};

/// The keys of `{type: XCiT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct XCiTConfig {
    /// Accepted for MMPretrain's configs: images may have any size.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch: 8 or 16.
    #[schemars(range(min = 8, max = 16))]
    pub patch_size: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Size of a token.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks of cross-covariance attention.
    #[schemars(range(min = 1, max = 1000))]
    pub depth: usize,
    /// Blocks of class attention behind them.
    #[schemars(range(min = 1, max = 1000))]
    pub cls_attn_layers: usize,
    /// Heads of each attention; a divisor of `embed_dims`.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// By how much the feed-forward networks widen a token.
    #[schemars(range(min = 1.0, max = 1024.0))]
    pub mlp_ratio: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// Probability with which dropout zeroes an element of the embedding and behind linear layers.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which each block of cross-covariance attention is left out in training.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether waves tell tokens where they stand.
    pub use_pos_embed: bool,
    /// What the branches of each block are multiplied by at first.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub layer_scale_init_value: f64,
    /// Whether class attention normalises all tokens before its feed-forward network, or the class token alone.
    pub tokens_norm: bool,
    /// Which of the tokens come out: the class token, the mean of the others, or all of them.
    pub out_type: OutType,
    /// Accepted if it names the last block, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
}

impl Default for XCiTConfig {
    fn default() -> Self {
        Self {
            img_size: Pair([224, 224]),
            patch_size: 16,
            in_channels: three(),
            embed_dims: 768,
            depth: 12,
            cls_attn_layers: 2,
            num_heads: 12,
            mlp_ratio: 4.0,
            qkv_bias: true,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            use_pos_embed: true,
            layer_scale_init_value: 1.0,
            tokens_norm: false,
            out_type: OutType::ClsToken,
            out_indices: last_stage(),
            norm_cfg: PatchNormConfig { eps: 1e-6, ..PatchNormConfig::default() },
        }
    }
}

/// Attention of channels to channels, whose cost grows with the number of tokens and not with its square, and at the end
/// class attention: images to the class token.
///
/// Weight names are MMPretrain's: `cls_token`, `patch_embed.proj.0.conv`, `pos_embed.token_projection.conv`,
/// `xca_layers.0.attn.qkv`, `ca_layers.0.attn.q`, `norm`. 26,253,304 parameters (12 blocks of 384 features, patches of 16) with
/// a linear layer for 1000 classes. Linear layers begin as N(0, 0.02²) cut off at ±2, as the authors'.
pub struct XCiT {
    cls_token: Param,
    patch_embed: Embed,
    pos_embed: Option<Waves>,
    pos_drop: Dropout,
    xca_layers: Vec<Box<dyn Module>>,
    ca_layers: Vec<Box<dyn Module>>,
    norm: LayerNorm,
    out_type: OutType,
    init: Vec<Init>,
}

module!(XCiT { cls_token, patch_embed, pos_embed, pos_drop, xca_layers, ca_layers, norm }, init_cfg = init);

register! { /// XCiT: images to the class token, [N, embed_dims], or as `out_type` says.
dyn Module, "XCiT" => fn XCiT::from_config }

impl XCiT {
    fn from_config(p: XCiTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When heads do not divide the features, patches have another size than 8 or 16, or there are no blocks.
    pub fn new(p: &XCiTConfig) -> Result<Self> {
        let (dims, heads) = (p.embed_dims, p.num_heads);
        if heads == 0 || dims % heads != 0 {
            return Err(Error::config(format!("`num_heads: {heads}` does not divide `embed_dims: {dims}`")));
        }
        if p.depth == 0 || p.cls_attn_layers == 0 {
            return Err(Error::config("`depth` and `cls_attn_layers` must be at least 1"));
        }
        last_only(&p.out_indices, p.depth.saturating_add(p.cls_attn_layers))?;
        let rule = || TruncNormal { std: 0.02, ..TruncNormal::default() };
        let sizes = Sizes {
            dims,
            heads,
            inner: (dims as f64 * p.mlp_ratio) as usize,
            bias: p.qkv_bias,
            drop: p.drop_rate,
            drop_path: p.drop_path_rate,
            scale: p.layer_scale_init_value as Elem,
            norm: p.norm_cfg,
        };
        Ok(Self {
            cls_token: Param::init(&[1, 1, dims], rule()),
            patch_embed: Embed { proj: patches(p)? },
            pos_embed: p.use_pos_embed.then(|| Waves::new(dims)).transpose()?,
            pos_drop: Dropout::new(p.drop_rate),
            xca_layers: (0..p.depth).map(|_| Ok(boxed(XcaBlock::new(&sizes)?))).collect::<Result<_>>()?,
            ca_layers: (0..p.cls_attn_layers)
                .map(|_| boxed(ClassBlock::new(&sizes, p.tokens_norm)))
                .collect(),
            norm: p.norm_cfg.build(dims),
            out_type: p.out_type,
            init: vec![Init::new(rule()).layer("Linear")],
        })
    }
}

impl Module for XCiT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut map = cx.child("patch_embed.proj", &mut self.patch_embed.proj, x)?;
        let &[n, _, h, w] = &map.shape()[..] else {
            return Err(Error::invalid("XCiT wants images of shape [N, C, H, W]"));
        };
        if let Some(Waves { token_projection }) = &mut self.pos_embed {
            let waves = map.tape().input(waves(h, w));
            map = map + cx.child("pos_embed.token_projection", token_projection, waves)?;
        }
        let mut x = self.pos_drop.forward(map.embed_tokens(None, None).checked()?, cx)?;
        for (i, block) in self.xca_layers.iter_mut().enumerate() {
            x = cx.child_all(format_args!("xca_layers.{i}"), block, &on_map(x, [h, w]))?;
        }
        let cls = x.tape().param(&self.cls_token);
        let dims = cls.shape()[2];
        x = x.tape().concat(&[cls.expand(&[n, 1, dims]), x], 1);
        for (i, block) in self.ca_layers.iter_mut().enumerate() {
            x = cx.child(format_args!("ca_layers.{i}"), block, x)?;
        }
        let x = cx.child("norm", &mut self.norm, x)?;
        match self.out_type {
            OutType::ClsToken => x.select(1, 0),
            OutType::AvgFeatmap => x.slice(1, 1..).mean_axes(&[1]),
            OutType::Featmap => x.slice(1, 1..).token_planes([h, w]),
            OutType::Raw => x,
        }
        .checked()
    }
}

fn boxed(block: impl Module) -> Box<dyn Module> {
    Box::new(block)
}

/// Convolutions of stride 2 that make patches.
struct Embed {
    proj: Chain,
}

module!(Embed { proj });

fn patches(p: &XCiTConfig) -> Result<Chain> {
    let dims = p.embed_dims;
    let sizes = match p.patch_size {
        16 => vec![p.in_channels, dims / 8, dims / 4, dims / 2, dims],
        8 => vec![p.in_channels, dims / 4, dims / 2, dims],
        size => return Err(Error::config(format!("`patch_size: {size}`, but patches of XCiT have 8 or 16"))),
    };
    let mut proj = Chain::default();
    for (i, pair) in sizes.windows(2).enumerate() {
        let act = if i + 2 == sizes.len() { Act::Identity } else { Act::Gelu };
        proj = proj.with(i.to_string(), ConvModule::of(pair[0], pair[1], 3).stride(2).act(act).build()?);
    }
    Ok(proj)
}

/// Where a token stands, by waves of its row and its column.
struct Waves {
    token_projection: ConvModule,
}

module!(Waves { token_projection });

impl Waves {
    fn new(dims: usize) -> Result<Self> {
        let projection = ConvModule::of(2 * WAVES, dims, 1).norm(None).act(Act::Identity);
        Ok(Self { token_projection: projection.build()? })
    }
}

/// Of each axis.
pub(super) const WAVES: usize = 32;

/// A sine and a cosine in turn, of the row and then of the column as a part of a circle: [1, 64, H, W].
pub(super) fn waves(h: usize, w: usize) -> Tensor {
    let wave = |at: usize, size: usize, i: usize| {
        let turn = (at + 1) as f64 / (size as f64 + 1e-6) * std::f64::consts::TAU;
        let angle = turn / libm::pow(10_000.0, (2 * (i / 2)) as f64 / WAVES as f64);
        (if i.is_multiple_of(2) { libm::sin(angle) } else { libm::cos(angle) }) as Elem
    };
    Tensor::from_shape_fn(vec![1, 2 * WAVES, h, w], |at| match at[1] {
        i if i < WAVES => wave(at[2], h, i),
        i => wave(at[3], w, i - WAVES),
    })
}
