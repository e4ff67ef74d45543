//! EVA-02 (Fang et al. 2023, <https://arxiv.org/abs/2303.11331>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::swiglu::SwiGluFfn;
use super::{Family, OutType, VisionTransformer, VisionTransformerArch, VisionTransformerConfig, grid};
use crate::base::{Elem, Error, Result, Tensor};
use crate::model::backbones::arch::{Arch, ArchConfig};
use crate::model::backbones::common::{divided, drop_path_rates};
use crate::nn::{
    AttentionOptions, DropPath, Dropout, Forward, LayerNorm, Linear, Module, Pair, PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

register! { /// EVA-02: a vision transformer whose queries and keys are turned by their places, with gated feed-forward networks.
dyn Module, "ViTEVA02" => fn VisionTransformer::eva02_from_config }

/// The keys of `{type: ViTEVA02, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ViTEVA02Config {
    /// `tiny`, `small`, `base` or `large`; or a mapping with `embed_dims`, `num_layers`, `num_heads` and
    /// `feedforward_channels`.
    pub arch: ArchConfig<Eva02Arch>,
    /// Whether the feed-forward networks have a norm before their last layer.
    pub sub_ln: bool,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which dropout zeroes an element of the embedding and behind the feed-forward networks.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which dropout zeroes an attention weight.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub attn_drop_rate: f64,
    /// Probability with which dropout zeroes an element of what attention gives.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub proj_drop_rate: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
    /// Whether the tokens are normalised once more at the end.
    pub final_norm: bool,
    /// Which of the tokens come out: the class token, the mean of the others, or all of them.
    pub out_type: OutType,
    /// Whether a class token stands in front of those of the image.
    pub with_cls_token: bool,
}

impl Default for ViTEVA02Config {
    fn default() -> Self {
        let p = VisionTransformerConfig::default();
        Self {
            arch: ArchConfig::default(),
            sub_ln: false,
            img_size: p.img_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            drop_rate: 0.0,
            attn_drop_rate: 0.0,
            proj_drop_rate: 0.0,
            drop_path_rate: 0.0,
            qkv_bias: true,
            norm_cfg: PatchNormConfig::default(),
            final_norm: true,
            out_type: p.out_type,
            with_cls_token: true,
        }
    }
}

/// The sizes of an EVA-02.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Eva02Arch(pub VisionTransformerArch);

impl Default for Eva02Arch {
    fn default() -> Self {
        Self::of([192, 12, 3])
    }
}

impl Eva02Arch {
    fn of([embed_dims, num_layers, num_heads]: [usize; 3]) -> Self {
        let feedforward_channels = embed_dims * 8 / 3;
        Self(VisionTransformerArch { embed_dims, num_layers, num_heads, feedforward_channels })
    }
}

impl Arch for Eva02Arch {
    fn names() -> Vec<(&'static str, Self)> {
        let sizes: [(&[&str], _); 4] = [
            (&["t", "ti", "tiny"], [192, 12, 3]),
            (&["s", "small"], [384, 12, 6]),
            (&["b", "base"], [768, 12, 12]),
            (&["l", "large"], [1024, 24, 16]),
        ];
        sizes.iter().flat_map(|(names, sizes)| names.iter().map(|name| (*name, Self::of(*sizes)))).collect()
    }
}

impl VisionTransformer {
    fn eva02_from_config(p: ViTEVA02Config, _: &mut BuildCx) -> Result<Self> {
        Self::eva02(&p)
    }

    /// EVA-02. Weight names are MMPretrain's: `layers.0.norm1`, `.attn.qkv`, `.mlp.w12`, `.mlp.norm`, `.mlp.w3`.
    ///
    /// # Errors
    /// As those of [`new`](Self::new).
    pub fn eva02(p: &ViTEVA02Config) -> Result<Self> {
        let arch = p.arch.0.0;
        let own = VisionTransformerConfig {
            arch: ArchConfig(arch),
            img_size: p.img_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            drop_rate: p.drop_rate,
            norm_cfg: p.norm_cfg,
            final_norm: p.final_norm,
            out_type: p.out_type,
            with_cls_token: p.with_cls_token,
            ..VisionTransformerConfig::default()
        };
        divided(arch.embed_dims, arch.num_heads)?;
        let head = arch.embed_dims / arch.num_heads;
        if !head.is_multiple_of(4) {
            return Err(Error::config(format!(
                "features are turned in pairs, of which half tell rows and half columns: {head} of a head are no multiple of 4"
            )));
        }
        let turns = Turns { grid: grid(&own)?, extra: usize::from(p.with_cls_token), head };
        let layer = |drop_path| -> Box<dyn Module> {
            let dims = arch.embed_dims;
            let mut mlp = SwiGluFfn::new(dims, arch.feedforward_channels);
            mlp.norm = p.sub_ln.then(|| p.norm_cfg.build(arch.feedforward_channels));
            mlp.dropout.p = p.drop_rate;
            Box::new(Layer {
                norm1: p.norm_cfg.build(dims),
                attn: Attention {
                    qkv: Linear::new(dims, dims.saturating_mul(3)).bias(p.qkv_bias),
                    attn_drop: Dropout::new(p.attn_drop_rate),
                    proj: Linear::new(dims, dims),
                    proj_drop: Dropout::new(p.proj_drop_rate),
                    heads: arch.num_heads,
                    turns,
                },
                drop_path: DropPath::new(drop_path),
                norm2: p.norm_cfg.build(dims),
                mlp,
            })
        };
        let layers = drop_path_rates(p.drop_path_rate, arch.num_layers).map(layer).collect();
        Self::of(&own, Family::Plain, layers)
    }
}

/// `x + attn(norm1(x))`, and of that `x + mlp(norm2(x))`.
struct Layer {
    norm1: LayerNorm,
    attn: Attention,
    drop_path: DropPath,
    norm2: LayerNorm,
    mlp: SwiGluFfn,
}

struct Attention {
    qkv: Linear,
    attn_drop: Dropout,
    proj: Linear,
    proj_drop: Dropout,
    heads: usize,
    turns: Turns,
}

module!(Layer { norm1, attn, drop_path, norm2, mlp });
module!(Attention { qkv, attn_drop, proj, proj_drop });

impl Module for Layer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("norm1", &mut self.norm1, x)?;
        let y = cx.child("attn", &mut self.attn, y)?;
        let x = x + self.drop_path.forward(y, cx)?;
        let y = cx.child("norm2", &mut self.norm2, x)?;
        let y = cx.child("mlp", &mut self.mlp, y)?;
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}

impl Module for Attention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let dims = qkv.shape()[2] / 3;
        let turned = self.turns.turned(qkv.slice(-1, ..2 * dims));
        let qkv = x.tape().concat(&[turned, qkv.slice(-1, 2 * dims..)], -1);
        let dropout = if cx.training { self.attn_drop.p } else { 0.0 };
        let options = AttentionOptions { dropout, ..AttentionOptions::new(self.heads) };
        let y = qkv.attention_packed(&options, cx.rng);
        let y = cx.child("proj", &mut self.proj, y)?;
        self.proj_drop.forward(y, cx)
    }
}

/// By which angles the features of a token are turned, pair by pair: the first half of each head by its row, the other by its
/// column.
#[derive(Clone, Copy)]
struct Turns {
    grid: [usize; 2],
    /// Tokens in front of those of the image, which are not turned.
    extra: usize,
    /// Features of a head.
    head: usize,
}

impl Turns {
    /// The angle of a feature of the token at `at`. Waves are laid out twice, so that the features of a pair have other angles
    /// than each other, as in MMPretrain, by which the published weights were trained.
    fn angle(self, at: usize, feature: usize) -> f64 {
        let [h, w] = self.grid;
        let (half, feature) = (self.head / 2, feature % self.head);
        let share = if feature < half {
            (at / w.max(1)) as f64 / h.max(1) as f64
        } else {
            (at % w.max(1)) as f64 / w.max(1) as f64
        };
        let wave = (feature % half) % (half / 2);
        share * half as f64 / libm::pow(10_000.0, (2 * wave) as f64 / half as f64)
    }

    /// Heads [N, T, D], turned.
    fn turned(self, x: Var<'_>) -> Var<'_> {
        let [tokens, dims] = [1, 2].map(|axis| x.shape()[axis]);
        let table = |of: &dyn Fn(f64, usize) -> f64, front: f64| {
            x.tape().input(Tensor::from_shape_fn(vec![tokens, dims], |at| {
                match at[0].checked_sub(self.extra) {
                    Some(place) => of(self.angle(place, at[1]), at[1]) as Elem,
                    None => front as Elem,
                }
            }))
        };
        let cos = table(&|angle, _| libm::cos(angle), 1.0);
        let sin = table(&|angle, i| if i % 2 == 0 { -libm::sin(angle) } else { libm::sin(angle) }, 0.0);
        let partners: Vec<i64> = (0..dims as i64).map(|i| i ^ 1).collect();
        x * cos + x.index_select(2, &partners) * sin
    }
}
