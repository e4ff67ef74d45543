//! BEiT's vision transformer (Bao et al. 2021, <https://arxiv.org/abs/2106.08254>) as in MMPretrain, which EVA has too.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::{Family, OutType, VisionTransformer, VisionTransformerArch, VisionTransformerConfig, grid};
use crate::base::{Elem, Error, Result};
use crate::config::{Diag, FromNode, Key, Kind, Node, receive};
use crate::model::backbones::arch::ArchConfig;
use crate::model::backbones::common::{divided, drop_path_rates};
use crate::model::backbones::windows::{distances, weighed};
use crate::nn::init::TruncNormal;
use crate::nn::{
    AttentionOptions, DropPath, Dropout, FFN, Forward, LayerNorm, LayerNormName, Linear, Module, Pair, Param,
    PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

register! { /// BEiT's vision transformer, whose attention knows distances: images to the mean of its tokens, or as `out_type` says.
dyn Module, "BEiTViT" => fn VisionTransformer::beit_from_config }

/// The keys of `{type: BEiTViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BEiTViTConfig {
    /// A name (`base`, `eva-g`, …) or a mapping with `embed_dims`, `num_layers`, `num_heads` and `feedforward_channels`.
    pub arch: ArchConfig<VisionTransformerArch>,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which dropout zeroes an element of the embedding and behind every linear layer but `qkv`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Which of query, key and value have an offset: `qv_bias`, query and value; true, all; false, none.
    pub bias: BEiTBias,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
    /// Whether the tokens are normalised once more at the end.
    pub final_norm: bool,
    /// Which of the tokens come out: the class token, the mean of the others, or all of them.
    pub out_type: OutType,
    /// Whether a class token stands in front of those of the image.
    pub with_cls_token: bool,
    /// Whether a learnt position is added to each token.
    pub use_abs_pos_emb: bool,
    /// Whether the attention of each block has a learnt number for each distance of two tokens.
    pub use_rel_pos_bias: bool,
    /// What the branches of each block are multiplied by at first, by weights that are trained; 0 for no such weights.
    #[schemars(range(min = 0.0))]
    pub layer_scale_init_value: f64,
    /// What all blocks have instead of what stands beside it.
    pub layer_cfgs: BEiTLayerConfig,
    /// Accepted if it is false: blocks do not share their numbers for distances.
    #[schemars(extend("enum" = [false]))]
    pub use_shared_rel_pos_bias: bool,
}

/// What `layer_cfgs` of a [`BEiTViTConfig`] may say.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BEiTLayerConfig {
    /// Which of query, key and value have an offset.
    pub bias: Option<BEiTBias>,
}

/// Which of query, key and value have an offset: `qv_bias`, true or false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BEiTBias {
    /// Query and value.
    QueryValue,
    /// All of them.
    All,
    /// None of them.
    None,
}

impl FromNode for BEiTBias {
    fn from_node(node: &Node, _: Option<&Key>) -> (Self, Vec<Diag>) {
        match &*node.kind {
            Kind::Bool(true) => (Self::All, Vec::new()),
            Kind::Bool(false) => (Self::None, Vec::new()),
            _ if node.as_str() == Some("qv_bias") => (Self::QueryValue, Vec::new()),
            _ => {
                let text =
                    "the offsets of query, key and value are `qv_bias`, true for all or false for none";
                (Self::QueryValue, vec![Diag::error(text).on(node)])
            }
        }
    }
}

impl<'de> Deserialize<'de> for BEiTBias {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for BEiTBias {
    fn schema_name() -> Cow<'static, str> {
        "BEiTBias".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["qv_bias", true, false] })
    }
}

impl Default for BEiTViTConfig {
    fn default() -> Self {
        let p = VisionTransformerConfig::default();
        Self {
            arch: ArchConfig::default(),
            img_size: p.img_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            bias: BEiTBias::QueryValue,
            norm_cfg: PatchNormConfig { kind: LayerNormName::LN, eps: 1e-6 },
            final_norm: false,
            out_type: OutType::AvgFeatmap,
            with_cls_token: true,
            use_abs_pos_emb: false,
            use_rel_pos_bias: true,
            layer_scale_init_value: 0.1,
            layer_cfgs: BEiTLayerConfig::default(),
            use_shared_rel_pos_bias: false,
        }
    }
}

impl VisionTransformer {
    fn beit_from_config(p: BEiTViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::beit(&p)
    }

    /// BEiT's. Weight names are MMPretrain's: `layers.0.gamma_1`, `.attn.q_bias`, `.attn.relative_position_bias_table`.
    ///
    /// # Errors
    /// As those of [`new`](Self::new), and when distances are learnt without a class token.
    pub fn beit(p: &BEiTViTConfig) -> Result<Self> {
        let arch = p.arch.0;
        let own = VisionTransformerConfig {
            arch: p.arch,
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
        if p.use_rel_pos_bias && !p.with_cls_token {
            return Err(Error::config(
                "`use_rel_pos_bias` counts on a class token: set it to false without one",
            ));
        }
        if p.use_shared_rel_pos_bias {
            return Err(Error::config(
                "`use_shared_rel_pos_bias: true` is not here: with `use_rel_pos_bias` each block has its own numbers",
            ));
        }
        divided(arch.embed_dims, arch.num_heads)?;
        let grid = grid(&own)?;
        let layer = |drop_path| -> Box<dyn Module> {
            let scale = || {
                let first = p.layer_scale_init_value;
                (first > 0.0).then(|| Param::full(&[arch.embed_dims], first as Elem))
            };
            let ffn = FFN::new(arch.embed_dims, arch.feedforward_channels, p.drop_rate);
            Box::new(Layer {
                gamma_1: scale(),
                gamma_2: scale(),
                ln1: p.norm_cfg.build(arch.embed_dims),
                attn: Attention::new(p, grid),
                ln2: p.norm_cfg.build(arch.embed_dims),
                ffn: ffn.drop_path(drop_path),
                drop_path: DropPath::new(drop_path),
            })
        };
        let layers = drop_path_rates(p.drop_path_rate, arch.num_layers).map(layer).collect();
        let whole = Self::of(&own, Family::Plain, layers)?;
        Ok(if p.use_abs_pos_emb { whole } else { Self { pos_embed: None, ..whole } })
    }
}

/// `x + gamma_1 · attn(ln1(x))`, and of that `x + gamma_2 · ffn(ln2(x))`. As in MMPretrain, the second branch can be left out twice.
struct Layer {
    gamma_1: Option<Param>,
    gamma_2: Option<Param>,
    ln1: LayerNorm,
    attn: Attention,
    ln2: LayerNorm,
    ffn: FFN,
    drop_path: DropPath,
}

struct Attention {
    relative_position_bias_table: Option<Param>,
    q_bias: Option<Param>,
    v_bias: Option<Param>,
    qkv: Linear,
    proj: Linear,
    proj_drop: Dropout,
    heads: usize,
    grid: [usize; 2],
}

module!(Layer { gamma_1, gamma_2, ln1, attn, ln2, ffn, drop_path });
module!(Attention { q_bias, v_bias, relative_position_bias_table, qkv, proj, proj_drop });

impl Module for Layer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        let scaled = |gamma: &Option<Param>, y: Var<'t>| match gamma {
            Some(gamma) => tape.param(gamma) * y,
            None => y,
        };
        let y = cx.child("ln1", &mut self.ln1, x)?;
        let y = cx.child("attn", &mut self.attn, y)?;
        let x = x + self.drop_path.forward(scaled(&self.gamma_1, y), cx)?;
        let y = cx.child("ln2", &mut self.ln2, x)?;
        let y = cx.within("ffn", &mut self.ffn, y, |ffn, cx| ffn.branch(y, cx))?;
        (x + self.drop_path.forward(scaled(&self.gamma_2, y), cx)?).checked()
    }
}

impl Attention {
    fn new(p: &BEiTViTConfig, grid: [usize; 2]) -> Self {
        let (dims, heads) = (p.arch.0.embed_dims, p.arch.0.num_heads);
        let bias = p.layer_cfgs.bias.unwrap_or(p.bias);
        let apart = || (bias == BEiTBias::QueryValue).then(|| Param::full(&[dims], 0.0));
        let [h, w] = grid.map(|size| size.saturating_mul(2) - 1);
        let rule = || TruncNormal { std: 0.02, ..TruncNormal::default() };
        let table = || Param::init(&[h.saturating_mul(w).saturating_add(3), heads], rule());
        Self {
            relative_position_bias_table: p.use_rel_pos_bias.then(table),
            q_bias: apart(),
            v_bias: apart(),
            qkv: Linear::new(dims, dims.saturating_mul(3)).bias(bias == BEiTBias::All),
            proj: Linear::new(dims, dims),
            proj_drop: Dropout::new(p.drop_rate),
            heads,
            grid,
        }
    }

    /// The row of the table for each pair of tokens: behind those of the image from the class token to another, from another to
    /// it, and from it to itself.
    fn places(&self) -> Vec<i64> {
        let [h, w] = self.grid;
        let (tokens, all) = (h * w, ((2 * h - 1) * (2 * w - 1)) as i64);
        let mut places = vec![all + 2];
        places.extend(std::iter::repeat_n(all, tokens));
        for row in distances(self.grid).chunks(tokens) {
            places.push(all + 1);
            places.extend(row);
        }
        places
    }
}

impl Module for Attention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (tape, heads) = (x.tape(), self.heads);
        let qkv = match (&self.q_bias, &self.v_bias) {
            (Some(q), Some(v)) => {
                let [q, v] = [q, v].map(|bias| tape.param(bias));
                let bias = tape.concat(&[q, q.zeros_like(), v], 0);
                let y = x.linear(tape.param(&self.qkv.weight), Some(bias));
                self.qkv.adapted(x, y, cx)?
            }
            _ => cx.child("qkv", &mut self.qkv, x)?,
        };
        let y = match &self.relative_position_bias_table {
            None => qkv.attention_packed(&AttentionOptions::new(heads), cx.rng),
            Some(table) => {
                let [n, t, all] = [0, 1, 2].map(|axis| qkv.shape()[axis]);
                let parts = qkv.reshape(&[n, t, 3, heads, all / 3 / heads]).permute(&[2, 0, 3, 1, 4]);
                let [q, k, v] = [0, 1, 2].map(|i| parts.select(0, i));
                let near = tape.param(table).index_select(0, &self.places()).transpose(0, 1);
                let scale = 1.0 / ((all / 3 / heads) as Elem).sqrt();
                weighed(q.matmul(k.transpose(2, 3)) * scale + near.reshape(&[heads, t, t]), None, v)?
            }
        };
        let y = cx.child("proj", &mut self.proj, y)?;
        self.proj_drop.forward(y, cx)
    }
}
