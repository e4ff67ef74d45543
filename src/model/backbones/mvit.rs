//! MViTv2 (Li et al. 2021, <https://arxiv.org/abs/2112.01526>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, Mlp, divided, drop_path_rates, last_only, last_stage, of_map, on_map, three};
use super::windows::weighed;
use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::nn::init::TruncNormal;
use crate::nn::{
    Child, ChildMut, Conv2d, DropPath, Forward, LayerNorm, LayerNormName, Linear, MaxPool2d, Module,
    ModuleTree, Param, PatchEmbed, PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: MViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MViTConfig {
    /// `tiny`, `small`, `base` or `large`; or a mapping with `embed_dims`, `num_layers`, `num_heads` and
    /// `downscale_indices`.
    pub arch: ArchConfig<MViTArch>,
    /// Height and width of the images.
    #[schemars(range(min = 4, max = 65535))]
    pub img_size: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether features are doubled by the attention of a block that halves the map, or by the MLP of the block before.
    pub dim_mul_in_attention: bool,
    /// By how much the MLPs widen a token.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub mlp_ratio: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
    /// Accepted if it names the last size of the map, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_scales: OneOrMany<i64>,
}

impl Default for MViTConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            img_size: 224,
            in_channels: three(),
            drop_path_rate: 0.0,
            dim_mul_in_attention: true,
            mlp_ratio: 4.0,
            qkv_bias: true,
            norm_cfg: PatchNormConfig { kind: LayerNormName::LN, eps: 1e-6 },
            out_scales: last_stage(),
        }
    }
}

/// The sizes of an MViT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct MViTArch {
    /// Size of a token at first, doubled wherever the map is halved.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks.
    #[schemars(range(min = 1, max = 1000))]
    pub num_layers: usize,
    /// Heads at first, doubled wherever the map is halved; a divisor of `embed_dims`.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// The blocks that halve the map.
    #[schemars(length(max = 8), inner(range(max = 999)))]
    pub downscale_indices: Vec<usize>,
}

impl MViTArch {
    fn of(num_layers: usize, downscale_indices: [usize; 3]) -> Self {
        Self { embed_dims: 96, num_layers, num_heads: 1, downscale_indices: downscale_indices.to_vec() }
    }
}

impl Default for MViTArch {
    fn default() -> Self {
        Self::of(24, [2, 5, 21])
    }
}

impl Arch for MViTArch {
    fn names() -> Vec<(&'static str, Self)> {
        vec![
            ("tiny", Self::of(10, [1, 3, 8])),
            ("small", Self::of(16, [1, 3, 14])),
            ("base", Self::default()),
            ("large", Self { embed_dims: 144, num_heads: 2, ..Self::of(48, [2, 8, 44]) }),
        ]
    }
}

/// Attention on a map that is halved from stage to stage, of queries, keys and values that convolutions pool: images to 768
/// features (`tiny`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `patch_embed.projection`, `blocks.0.attn.pool_q`, `blocks.0.attn.rel_pos_h`, `blocks.1.proj`,
/// `norm3`. 24,173,320 parameters (`tiny`) with a linear layer for 1000 classes.
pub struct MViT {
    patch_embed: PatchEmbed,
    blocks: Vec<Box<dyn Module>>,
    norm: Chain,
    img_size: usize,
    /// The blocks that halve the map.
    downscale_indices: Vec<usize>,
}

module!(MViT { patch_embed, blocks, ..norm });

register! { /// MViTv2: features of 1/32 of the size.
dyn Module, "MViT" => fn MViT::from_config }

impl MViT {
    fn from_config(p: MViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a size is 0, or heads do not divide the features.
    pub fn new(p: &MViTConfig) -> Result<Self> {
        let MViTArch { embed_dims, num_layers, num_heads, downscale_indices } = p.arch.0.clone();
        if num_layers == 0 || num_layers > 1000 || downscale_indices.len() > 8 || p.img_size < 4 {
            return Err(Error::config(
                "`num_layers` is from 1 to 1000, `downscale_indices` has up to 8 numbers, `img_size` is at least 4",
            ));
        }
        for (at, block) in downscale_indices.iter().enumerate() {
            if *block >= num_layers || downscale_indices[..at].contains(block) {
                return Err(Error::config(format!(
                    "`downscale_indices: {downscale_indices:?}` are blocks from 0 to {}, each named once",
                    num_layers - 1
                )));
            }
        }
        let scales = downscale_indices.len() + 1;
        last_only(&p.out_scales, scales)?;
        let halves = |i: usize| downscale_indices.contains(&i);
        let (mut dims, mut heads, mut stride_kv, mut side) =
            (embed_dims, num_heads, 4, p.img_size.div_ceil(4));
        let (mut rates, mut blocks) =
            (drop_path_rates(p.drop_path_rate, num_layers), Vec::<Box<dyn Module>>::new());
        for i in 0..num_layers {
            let doubles = if p.dim_mul_in_attention { halves(i) } else { halves(i + 1) };
            let out = if doubles { dims.saturating_mul(2) } else { dims };
            if halves(i) {
                heads = heads.saturating_mul(2);
                stride_kv = (stride_kv / 2).max(1);
            }
            let attn_dims = if p.dim_mul_in_attention { out } else { dims };
            divided(attn_dims, heads)?;
            let strides = [if halves(i) { 2 } else { 1 }, stride_kv];
            let attn = Attention::new(p, [dims, attn_dims], heads, strides, side);
            side = side.div_ceil(strides[0]);
            blocks.push(Box::new(Block {
                norm1: p.norm_cfg.build(dims),
                attn,
                drop_path: DropPath::new(rates.next().unwrap_or_default()),
                norm2: p.norm_cfg.build(attn_dims),
                mlp: Mlp::new(attn_dims, (attn_dims as f64 * p.mlp_ratio) as usize, out),
                proj: doubles.then(|| Linear::new(dims, out)),
                pool_skip: halves(i).then(|| MaxPool2d::new(3).stride(2).padding(1)),
                in_attention: p.dim_mul_in_attention,
            }));
            dims = out;
        }
        Ok(Self {
            patch_embed: PatchEmbed::new(p.in_channels, embed_dims, 7).stride(4).padding(3),
            blocks,
            norm: Chain::default().with(format!("norm{}", scales - 1), p.norm_cfg.build(dims)),
            img_size: p.img_size,
            downscale_indices,
        })
    }
}

impl Module for MViT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let side = self.img_size;
        if x.shape().len() != 4 || x.shape()[2..] != [side; 2] {
            let shape = x.shape();
            return Err(Error::invalid(format!(
                "MViT was made for images of {side} × {side}, not a batch of shape {shape:?}: set `img_size`, or resize them"
            )));
        }
        let map = cx.child("patch_embed.projection", &mut self.patch_embed.projection, x)?;
        let mut side = map.shape()[2];
        let mut x = map.embed_tokens(None, None);
        for (i, block) in self.blocks.iter_mut().enumerate() {
            x = cx.child_all(format_args!("blocks.{i}"), block, &on_map(x, [side; 2]))?;
            side = if self.downscale_indices.contains(&i) { side.div_ceil(2) } else { side };
        }
        self.norm.forward(x, cx)?.token_planes([side; 2]).checked()
    }
}

/// `x + attn(norm1(x))`, and of that `x + mlp(norm2(x))`, with a way around them to other sizes where these change.
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    drop_path: DropPath,
    norm2: LayerNorm,
    mlp: Mlp,
    proj: Option<Linear>,
    pool_skip: Option<MaxPool2d>,
    /// Whether `proj` stands beside the attention, or beside the MLP.
    in_attention: bool,
}

/// Attention of queries to keys and values that are pooled, with learnt vectors for how far rows and columns are apart.
struct Attention {
    qkv: Linear,
    proj: Linear,
    q: Pool,
    k: Pool,
    v: Pool,
    rel_pos_h: Param,
    rel_pos_w: Param,
    heads: usize,
}

/// A convolution of each feature of a head alone, and a norm.
struct Pool {
    pool: Conv2d,
    norm: LayerNorm,
}

module!(Block { norm1, attn, drop_path, norm2, mlp, proj });

impl ModuleTree for Attention {
    fn type_name(&self) -> &'static str {
        "MultiScaleAttention"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        f("rel_pos_h", Child::Param(&self.rel_pos_h));
        f("rel_pos_w", Child::Param(&self.rel_pos_w));
        f("qkv", Child::Module(&self.qkv));
        f("proj", Child::Module(&self.proj));
        for (name, Pool { pool, norm }) in [("q", &self.q), ("k", &self.k), ("v", &self.v)] {
            f(&format!("pool_{name}"), Child::Module(pool));
            f(&format!("norm_{name}"), Child::Module(norm));
        }
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        f("rel_pos_h", ChildMut::Param(&mut self.rel_pos_h));
        f("rel_pos_w", ChildMut::Param(&mut self.rel_pos_w));
        f("qkv", ChildMut::Module(&mut self.qkv));
        f("proj", ChildMut::Module(&mut self.proj));
        for (name, Pool { pool, norm }) in [("q", &mut self.q), ("k", &mut self.k), ("v", &mut self.v)] {
            f(&format!("pool_{name}"), ChildMut::Module(pool));
            f(&format!("norm_{name}"), ChildMut::Module(norm));
        }
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    /// Of the tokens of a square map.
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, [side, _]) = of_map(xs)?;
        let normed = cx.child("norm1", &mut self.norm1, x)?;
        let seen = cx.within("attn", &mut self.attn, normed, |attn, cx| attn.forward(normed, side, cx))?;
        let mut around = match &mut self.proj {
            Some(proj) if self.in_attention => cx.child("proj", proj, normed)?,
            _ => x,
        };
        if let Some(pool) = &mut self.pool_skip {
            let map = pool.forward(around.token_planes([side; 2]).checked()?, cx)?;
            around = map.embed_tokens(None, None);
        }
        let x = around + self.drop_path.forward(seen, cx)?;
        let normed = cx.child("norm2", &mut self.norm2, x)?;
        let y = cx.child("mlp", &mut self.mlp, normed)?;
        let around = match &mut self.proj {
            Some(proj) if !self.in_attention => cx.child("proj", proj, normed)?,
            _ => x,
        };
        (around + self.drop_path.forward(y, cx)?).checked()
    }
}

impl Attention {
    fn new(
        p: &MViTConfig,
        [from, dims]: [usize; 2],
        heads: usize,
        [stride_q, stride_kv]: [usize; 2],
        side: usize,
    ) -> Self {
        let head = dims / heads;
        let pool = |stride: usize| Pool {
            pool: Conv2d::new(head, head, 3).stride(stride).padding(1).groups(head).bias(false),
            norm: p.norm_cfg.build(head),
        };
        let distances = (side / stride_q).max(side / stride_kv).max(1).saturating_mul(2) - 1;
        let rule = || TruncNormal { std: 0.02, ..TruncNormal::default() };
        let relative = || Param::init(&[distances, head], rule());
        Self {
            qkv: Linear::new(from, dims.saturating_mul(3)).bias(p.qkv_bias),
            proj: Linear::new(dims, dims),
            q: pool(stride_q),
            k: pool(stride_kv),
            v: pool(stride_kv),
            rel_pos_h: relative(),
            rel_pos_w: relative(),
            heads,
        }
    }

    fn forward<'t>(&mut self, x: Var<'t>, side: usize, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ([n, t], heads) = ([0, 1].map(|axis| x.shape()[axis]), self.heads);
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let head = qkv.shape()[2] / 3 / heads;
        let parts = qkv.reshape(&[n, t, 3, heads, head]);
        let mut pooled = |part: usize, name: &str, own: &mut Pool| {
            let map = parts.select(2, part).permute(&[0, 2, 3, 1]).reshape(&[n * heads, head, side, side]);
            let map = cx.child(format_args!("pool_{name}"), &mut own.pool, map)?;
            let side = map.shape()[2];
            let tokens = map.reshape(&[n, heads, head, side * side]).transpose(2, 3);
            Ok::<_, Error>((cx.child(format_args!("norm_{name}"), &mut own.norm, tokens)?, side))
        };
        let (q, asking) = pooled(0, "q", &mut self.q)?;
        let (k, seen) = pooled(1, "k", &mut self.k)?;
        let (v, _) = pooled(2, "v", &mut self.v)?;
        let map = q.reshape(&[n, heads, asking, asking, head]);
        let rows = map.matmul(self.apart(x, &self.rel_pos_h, [asking, seen])?);
        let columns =
            map.transpose(2, 3).matmul(self.apart(x, &self.rel_pos_w, [asking, seen])?).transpose(2, 3);
        let far = rows.unsqueeze(-1) + columns.unsqueeze(-2);
        let scores = q.matmul(k.transpose(2, 3)) * (1.0 / (head as Elem).sqrt())
            + far.reshape(&[n, heads, asking * asking, seen * seen]);
        let y = weighed(scores, None, v)? + q.transpose(1, 2).reshape(&[n, asking * asking, heads * head]);
        cx.child("proj", &mut self.proj, y)
    }

    /// For each of `asking` rows (or columns) the vectors of its distances to `seen` others: [asking, head, seen].
    fn apart<'t>(&self, near: Var<'t>, table: &Param, [asking, seen]: [usize; 2]) -> Result<Var<'t>> {
        let known = table.value.shape()[0];
        if known != 2 * asking.max(seen) - 1 {
            return Err(Error::invalid(format!(
                "{known} distances are learnt, but {asking} rows look at {seen}: give `img_size` a multiple of 32"
            )));
        }
        let (by_q, by_k) = ((seen / asking).max(1), (asking / seen).max(1));
        let place = |i: usize, j: usize| (i * by_q + (seen - 1 - j) * by_k) as i64;
        let places: Vec<i64> = (0..asking).flat_map(|i| (0..seen).map(move |j| place(i, j))).collect();
        let vectors = near.tape().param(table).index_select(0, &places);
        Ok(vectors.reshape(&[asking, seen, table.value.shape()[1]]).transpose(1, 2))
    }
}
