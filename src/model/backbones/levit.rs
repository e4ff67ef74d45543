//! LeViT (Graham et al. 2021, <https://arxiv.org/abs/2104.01136>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, last_only, last_stage};
use super::windows::{Offsets, weighed};
use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::{BatchNorm1d, ConvModule, DropPath, Forward, Hardswish, Linear, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: LeViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LeViTConfig {
    /// `128s`, `128`, `192`, `256` or `384`; or a mapping with `embed_dims`, `num_heads`, `depths` and `key_dims`.
    pub arch: ArchConfig<LeViTArch>,
    /// Height and width of the images.
    #[schemars(range(min = 16, max = 65535))]
    pub img_size: usize,
    /// Accepted for MMPretrain's configs: its four convolutions make patches of 16.
    #[schemars(range(min = 16, max = 16))]
    pub patch_size: usize,
    /// By how much a value is longer than a key.
    #[schemars(range(min = 1, max = 1024))]
    pub attn_ratio: usize,
    /// By how much the MLPs are wider inside; 0 for no MLPs.
    #[schemars(range(max = 1024))]
    pub mlp_ratio: usize,
    /// Probability with which each branch is left out in training.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for LeViTConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            img_size: 224,
            patch_size: 16,
            attn_ratio: 2,
            mlp_ratio: 2,
            drop_path_rate: 0.0,
            out_indices: last_stage(),
        }
    }
}

/// The sizes of a LeViT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct LeViTArch {
    /// Size of a token in each stage.
    #[schemars(inner(range(min = 8, max = 1_048_576)))]
    pub embed_dims: [usize; 3],
    /// Heads of each stage.
    #[schemars(inner(range(min = 1, max = 65536)))]
    pub num_heads: [usize; 3],
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 3],
    /// Size of a key in each stage.
    #[schemars(inner(range(min = 1, max = 65536)))]
    pub key_dims: [usize; 3],
}

impl LeViTArch {
    fn of(embed_dims: [usize; 3], num_heads: [usize; 3], key: usize) -> Self {
        Self { embed_dims, num_heads, depths: [4, 4, 4], key_dims: [key; 3] }
    }
}

impl Default for LeViTArch {
    fn default() -> Self {
        Self::of([192, 288, 384], [3, 5, 6], 32)
    }
}

impl Arch for LeViTArch {
    fn names() -> Vec<(&'static str, Self)> {
        let smallest = Self { depths: [2, 3, 4], ..Self::of([128, 256, 384], [4, 6, 8], 16) };
        vec![
            ("128s", smallest),
            ("128", Self::of([128, 256, 384], [4, 8, 12], 16)),
            ("192", Self::default()),
            ("256", Self::of([256, 384, 512], [4, 6, 8], 32)),
            ("384", Self::of([384, 512, 768], [6, 9, 12], 32)),
        ]
    }
}

/// Attention whose scores know distances, each linear layer with a batch norm, on maps that become smaller by attention:
/// images to 384 features (`192`) of 1/64 of the size.
///
/// Weight names are MMPretrain's: `patch_embed.patch_embed.0.conv`, `stages.0.0.block.qkv.linear`,
/// `stages.1.0.attention_biases`. 10,947,069 parameters (`192`) with a head for 1000 classes.
pub struct LeViT {
    patch_embed: Stem,
    stages: Vec<Chain>,
    img_size: usize,
}

struct Stem {
    patch_embed: Chain,
}

module!(LeViT { patch_embed, stages });
module!(Stem { patch_embed });

register! { /// LeViT, `128s` to `384`: features of 1/64 of the size.
dyn Module, "LeViT" => fn LeViT::from_config }

impl LeViT {
    fn from_config(p: LeViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When a size is 0, or images are smaller than a patch.
    pub fn new(p: &LeViTConfig) -> Result<Self> {
        let LeViTArch { embed_dims, num_heads, depths, key_dims } = p.arch.0.clone();
        let outside =
            |sizes: &[usize; 3], least, most| sizes.iter().any(|size| !(least..=most).contains(size));
        if outside(&embed_dims, 8, 1 << 20)
            || outside(&num_heads, 1, 1 << 16)
            || outside(&key_dims, 1, 1 << 16)
        {
            return Err(Error::config("`embed_dims` are at least 8, `num_heads` and `key_dims` at least 1"));
        }
        if !(16..=65535).contains(&p.img_size) || outside(&depths, 1, 1000) || p.attn_ratio == 0 {
            return Err(Error::config(
                "`img_size` is at least 16, `depths` are from 1 to 1000, `attn_ratio` at least 1",
            ));
        }
        last_only(&p.out_indices, 3)?;
        let (mut side, mut stages) = (p.img_size / 16, Vec::new());
        for i in 0..3 {
            let dims = embed_dims[i];
            let mlp = || {
                let inner = dims.saturating_mul(p.mlp_ratio);
                let mlp = Mlp { linear1: LinearBn::new(dims, inner), linear2: LinearBn::new(inner, dims) };
                (p.mlp_ratio > 0).then(|| Beside::new(mlp, p.drop_path_rate))
            };
            let mut stage = Parts::default();
            if i > 0 {
                let before = embed_dims[i - 1];
                stage.push(Smaller::new([before, dims], key_dims[i], side)?);
                side = side.div_ceil(2);
                mlp().into_iter().for_each(|mlp| stage.push(mlp));
            }
            for _ in 0..depths[i] {
                let attention = Attention::new(dims, num_heads[i], key_dims[i], p.attn_ratio, side);
                stage.push(Beside::new(attention, p.drop_path_rate));
                mlp().into_iter().for_each(|mlp| stage.push(mlp));
            }
            stages.push(stage.0);
        }
        let (dims, mut patch_embed) = (embed_dims[0], Chain::default());
        for (i, pair) in [3, dims / 8, dims / 4, dims / 2, dims].windows(2).enumerate() {
            let conv = ConvModule::of(pair[0], pair[1], 3).stride(2).act(Act::Identity).build()?;
            patch_embed = patch_embed.with((2 * i).to_string(), conv);
            if i < 3 {
                patch_embed = patch_embed.with((2 * i + 1).to_string(), Hardswish::default());
            }
        }
        Ok(Self { patch_embed: Stem { patch_embed }, stages, img_size: p.img_size })
    }
}

impl Module for LeViT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let side = self.img_size;
        if x.shape().len() != 4 || x.shape()[2..] != [side; 2] {
            let shape = x.shape();
            return Err(Error::invalid(format!(
                "LeViT was made for images of {side} × {side}, not a batch of shape {shape:?}: set `img_size`, or resize them"
            )));
        }
        let map = cx.child("patch_embed.patch_embed", &mut self.patch_embed.patch_embed, x)?;
        let mut side = map.shape()[2];
        let mut x = map.embed_tokens(None, None);
        for (i, stage) in self.stages.iter_mut().enumerate() {
            side = if i > 0 { side.div_ceil(2) } else { side };
            x = cx.child(format_args!("stages.{i}"), stage, x)?;
        }
        x.token_planes([side; 2]).checked()
    }
}

/// The parts of a stage, which are numbered.
#[derive(Default)]
struct Parts(Chain, usize);

impl Parts {
    fn push(&mut self, part: impl Module) {
        let (chain, count) = (std::mem::take(&mut self.0), self.1);
        *self = Self(chain.with(count.to_string(), part), count + 1);
    }
}

/// `x + block(x)`.
struct Beside {
    block: Box<dyn Module>,
    drop_path: DropPath,
}

module!(Beside { block, drop_path });

impl Beside {
    fn new(block: impl Module, drop_path: f64) -> Self {
        Self { block: Box::new(block), drop_path: DropPath::new(drop_path) }
    }
}

impl Module for Beside {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("block", &mut self.block, x)?;
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}

/// A linear layer and the batch norm of all its tokens.
struct LinearBn {
    linear: Linear,
    bn: BatchNorm1d,
}

module!(LinearBn { linear, bn });

impl LinearBn {
    fn new(from: usize, to: usize) -> Self {
        Self { linear: Linear::new(from, to).bias(false), bn: BatchNorm1d::new(to) }
    }
}

impl Module for LinearBn {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("linear", &mut self.linear, x)?;
        let shape = x.shape();
        Ok(cx.child("bn", &mut self.bn, x.flatten(0, 1))?.reshape(&shape))
    }
}

struct Mlp {
    linear1: LinearBn,
    linear2: LinearBn,
}

module!(Mlp { linear1, linear2 });

impl Module for Mlp {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("linear1", &mut self.linear1, x)?.hardswish();
        cx.child("linear2", &mut self.linear2, x)
    }
}

/// What follows the heads: an activation, and a linear layer under the name `1`.
struct Proj {
    linear: LinearBn,
}

module!(Proj { linear as "1" });

impl Module for Proj {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        cx.child("1", &mut self.linear, x.hardswish())
    }
}

struct Attention {
    qkv: LinearBn,
    proj: Proj,
    offsets: Offsets,
    key: usize,
}

module!(Attention { qkv, proj, ..offsets });

impl Attention {
    fn new(dims: usize, heads: usize, key: usize, ratio: usize, side: usize) -> Self {
        let values = heads.saturating_mul(key).saturating_mul(ratio);
        let all = heads.saturating_mul(key).saturating_mul(2).saturating_add(values);
        Self {
            qkv: LinearBn::new(dims, all),
            proj: Proj { linear: LinearBn::new(values, dims) },
            offsets: Offsets::new(heads, [side; 2], 1),
            key,
        }
    }
}

impl Module for Attention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let y = self.offsets.attention(qkv, self.key)?;
        cx.child("proj", &mut self.proj, y)
    }
}

/// Attention in which each second token of each second row asks, whose values are four times as long as a key.
struct Smaller {
    kv: LinearBn,
    q: Query,
    proj: Proj,
    offsets: Offsets,
    side: usize,
    heads: usize,
    key: usize,
}

struct Query {
    linear: LinearBn,
}

module!(Smaller { kv, q, proj, ..offsets });
module!(Query { linear as "1" });

impl Smaller {
    fn new([from, to]: [usize; 2], key: usize, side: usize) -> Result<Self> {
        let heads = from / key;
        if heads == 0 {
            return Err(Error::config(format!("a key of {key} features is longer than a token of {from}")));
        }
        let keys = heads * key;
        Ok(Self {
            kv: LinearBn::new(from, keys.saturating_mul(5)),
            q: Query { linear: LinearBn::new(from, keys) },
            proj: Proj { linear: LinearBn::new(keys.saturating_mul(4), to) },
            offsets: Offsets::new(heads, [side; 2], 2),
            side,
            heads,
            key,
        })
    }
}

impl Module for Smaller {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ([n, t, _], side, heads) = ([0, 1, 2].map(|axis| x.shape()[axis]), self.side, self.heads);
        let asking: Vec<i64> = (0..side)
            .step_by(2)
            .flat_map(|row| (0..side).step_by(2).map(move |column| (row * side + column) as i64))
            .collect();
        let kv = cx.child("kv", &mut self.kv, x)?.reshape(&[n, t, heads, 5 * self.key]).transpose(1, 2);
        let [k, v] = [kv.slice(-1, ..self.key), kv.slice(-1, self.key..)];
        let q = cx.child("q.1", &mut self.q.linear, x.index_select(1, &asking))?;
        let q = q.reshape(&[n, asking.len(), heads, self.key]).transpose(1, 2);
        let scores = q.matmul(k.transpose(2, 3)) * (1.0 / (self.key as Elem).sqrt()) + self.offsets.bias(x);
        let y = weighed(scores, None, v)?;
        cx.child("proj", &mut self.proj, y)
    }
}
