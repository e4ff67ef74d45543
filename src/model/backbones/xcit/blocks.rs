//! The two kinds of blocks.

use crate::base::{Elem, Result};
use crate::kernels::Act;
use crate::model::backbones::common::of_map;
use crate::model::backbones::windows::unit;
use crate::module;
use crate::nn::{
    AttentionOptions, BatchNorm2d, Conv2d, ConvModule, DropPath, Dropout, FFN, Forward, LayerNorm, Linear,
    Module, Param, PatchNormConfig, Var,
};

/// What all blocks have in common.
pub(super) struct Sizes {
    pub dims: usize,
    pub heads: usize,
    /// Features between the two layers of a feed-forward network.
    pub inner: usize,
    /// Whether query, key and value have an offset.
    pub bias: bool,
    pub drop: f64,
    pub drop_path: f64,
    /// What branches are multiplied by at first.
    pub scale: Elem,
    pub norm: PatchNormConfig,
}

impl Sizes {
    fn gamma(&self) -> Param {
        Param::full(&[self.dims], self.scale)
    }

    fn linear(&self) -> Linear {
        Linear::new(self.dims, self.dims).bias(self.bias)
    }

    fn ffn(&self) -> FFN {
        FFN::new(self.dims, self.inner, self.drop)
    }
}

/// `x + gamma1 · attn(norm1(x))`, of that `x + gamma3 · local_mp(norm3(x))`, and of that `x + gamma2 · ffn(norm2(x))`.
pub(super) struct XcaBlock {
    norm1: LayerNorm,
    attn: Xca,
    norm3: LayerNorm,
    local_mp: Lpi,
    norm2: LayerNorm,
    ffn: FFN,
    gamma1: Param,
    gamma3: Param,
    gamma2: Param,
    drop_path: DropPath,
}

module!(XcaBlock { gamma1, gamma3, gamma2, norm1, attn, norm3, local_mp, norm2, ffn, drop_path });

impl XcaBlock {
    pub fn new(s: &Sizes) -> Result<Self> {
        let norm = || s.norm.build(s.dims);
        Ok(Self {
            norm1: norm(),
            attn: Xca::new(s),
            norm3: norm(),
            local_mp: Lpi::new(s.dims)?,
            norm2: norm(),
            ffn: s.ffn(),
            gamma1: s.gamma(),
            gamma3: s.gamma(),
            gamma2: s.gamma(),
            drop_path: DropPath::new(s.drop_path),
        })
    }
}

impl Module for XcaBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    /// Of the tokens of a map.
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, size) = of_map(xs)?;
        let Self { norm1, attn, norm3, local_mp, norm2, ffn, gamma1, gamma3, gamma2, drop_path } = self;
        let tape = x.tape();
        let y = cx.child("norm1", norm1, x)?;
        let y = cx.child("attn", attn, y)?;
        let x = x + drop_path.forward(tape.param(gamma1) * y, cx)?;
        let y = cx.child("norm3", norm3, x)?;
        let y = cx.child("local_mp", local_mp, y.token_planes(size))?.embed_tokens(None, None);
        let x = x + drop_path.forward(tape.param(gamma3) * y, cx)?;
        let y = cx.child("norm2", norm2, x)?;
        let y = cx.within("ffn", ffn, y, |ffn, cx| ffn.branch(y, cx))?;
        (x + drop_path.forward(tape.param(gamma2) * y, cx)?).checked()
    }
}

/// Attention of channels: each head's softmax of `temperature · k̂ᵀ q̂`, of the normalised channels over all tokens.
struct Xca {
    temperature: Param,
    qkv: Linear,
    proj: Linear,
    proj_drop: Dropout,
}

module!(Xca { temperature, qkv, proj, proj_drop });

impl Xca {
    fn new(s: &Sizes) -> Self {
        Self {
            temperature: Param::full(&[s.heads, 1, 1], 1.0),
            qkv: Linear::new(s.dims, s.dims.saturating_mul(3)).bias(s.bias),
            proj: Linear::new(s.dims, s.dims),
            proj_drop: Dropout::new(s.drop),
        }
    }
}

impl Module for Xca {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let y = cross_covariance(qkv, x.tape().param(&self.temperature));
        let y = cx.child("proj", &mut self.proj, y)?;
        self.proj_drop.forward(y, cx)
    }
}

/// The softmax of `temperature · k̂ᵀ q̂` of each head, times the values: of `qkv` [N, T, 3 C], the normalised channels over
/// all tokens, and as many temperatures as heads.
pub(in crate::model::backbones) fn cross_covariance<'t>(qkv: Var<'t>, temperature: Var<'t>) -> Var<'t> {
    let [n, t, c] = [0, 1, 2].map(|axis| qkv.shape()[axis] / [1, 1, 3][axis]);
    let heads = temperature.shape()[0];
    let qkv = qkv.reshape(&[n, t, 3, heads, c / heads]);
    let [q, k, v] = [0, 1, 2].map(|part| qkv.select(2, part).permute(&[0, 2, 3, 1]));
    let scores = unit(q).matmul(unit(k).transpose(2, 3)) * temperature;
    scores.softmax(-1).matmul(v).permute(&[0, 3, 1, 2]).reshape(&[n, t, c])
}

/// What tokens see of their neighbours: `conv2(bn(gelu(conv1(x))))`, 3 × 3 for each channel alone.
struct Lpi {
    conv1: ActNorm,
    conv2: ConvModule,
}

/// A convolution, an activation, and behind it a norm.
struct ActNorm {
    conv: Conv2d,
    bn: BatchNorm2d,
}

module!(Lpi { conv1, conv2 });
module!(ActNorm { conv, bn });

impl Lpi {
    fn new(dims: usize) -> Result<Self> {
        let conv = ConvModule::of(dims, dims, 3).groups(dims).norm(None).act(Act::Identity);
        Ok(Self {
            conv1: ActNorm { conv: conv.build()?.conv, bn: BatchNorm2d::new(dims) },
            conv2: conv.build()?,
        })
    }
}

impl Module for Lpi {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ActNorm { conv, bn } = &mut self.conv1;
        let x = cx.child("conv1.conv", conv, x)?.gelu();
        let x = cx.child("conv1.bn", bn, x)?;
        cx.child("conv2", &mut self.conv2, x)
    }
}

/// The class token looks at all tokens; the others stay as they are, but for a norm.
pub(super) struct ClassBlock {
    norm1: LayerNorm,
    attn: ClassAttention,
    norm2: LayerNorm,
    ffn: FFN,
    gamma1: Param,
    gamma2: Param,
    tokens_norm: bool,
}

struct ClassAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    proj: Linear,
    proj_drop: Dropout,
    heads: usize,
}

module!(ClassBlock { gamma1, gamma2, norm1, attn, norm2, ffn });
module!(ClassAttention { q, k, v, proj, proj_drop });

impl ClassBlock {
    pub fn new(s: &Sizes, tokens_norm: bool) -> Self {
        let [q, k, v] = [s.linear(), s.linear(), s.linear()];
        let (proj, proj_drop) = (Linear::new(s.dims, s.dims), Dropout::new(s.drop));
        Self {
            norm1: s.norm.build(s.dims),
            attn: ClassAttention { q, k, v, proj, proj_drop, heads: s.heads },
            norm2: s.norm.build(s.dims),
            ffn: s.ffn(),
            gamma1: s.gamma(),
            gamma2: s.gamma(),
            tokens_norm,
        }
    }
}

impl Module for ClassAttention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let q = cx.child("q", &mut self.q, x.slice(1, ..1))?;
        let [k, v] = [cx.child("k", &mut self.k, x)?, cx.child("v", &mut self.v, x)?];
        let y = q.attention(k, v, &AttentionOptions::new(self.heads), cx.rng);
        let y = cx.child("proj", &mut self.proj, y)?;
        self.proj_drop.forward(y, cx)
    }
}

impl Module for ClassBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        let [gamma1, gamma2] = [tape.param(&self.gamma1), tape.param(&self.gamma2)];
        let normed = cx.child("norm1", &mut self.norm1, x)?;
        let seen = cx.child("attn", &mut self.attn, normed)?;
        let x = x + gamma1 * tape.concat(&[seen, normed.slice(1, 1..)], 1);
        let x = match self.tokens_norm {
            true => cx.child("norm2", &mut self.norm2, x)?,
            false => {
                let first = cx.child("norm2", &mut self.norm2, x.slice(1, ..1))?;
                tape.concat(&[first, x.slice(1, 1..)], 1)
            }
        };
        let first = x.slice(1, ..1);
        let first = gamma2 * cx.within("ffn", &mut self.ffn, first, |ffn, cx| ffn.branch(first, cx))?;
        (x + tape.concat(&[first, x.slice(1, 1..)], 1)).checked()
    }
}
