//! Twins (Chu et al. 2021, <https://arxiv.org/abs/2104.13840>) as in MMPretrain: PCPVT and SVT.

mod arch;

use schemars::JsonSchema;
use serde::Deserialize;

pub use arch::{PCPVTArch, SVTArch};

use super::arch::{Arch, ArchConfig};
use super::common::{divided, drop_path_rates, last_only, last_stage, of_map, on_map, three};
use super::windows::Windows;
use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::nn::init::{Init, Kaiming, TruncNormal};
use crate::nn::{
    AttentionOptions, Conv2d, DropPath, Dropout, FFN, Forward, LayerNorm, Linear, Module, PatchEmbed,
    PatchNormConfig, Var, corner_padding,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: PCPVT, …}` and `{type: SVT, …}` in a config, which differ in their sizes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, bound = "")]
pub struct TwinsConfig<A: Arch> {
    /// `small`, `base` or `large`; or a mapping with one size for each of four stages of `embed_dims`, `depths`, `num_heads`,
    /// `patch_sizes`, `strides`, `mlp_ratios`, `sr_ratios` and, of SVT, `window_sizes`.
    pub arch: ArchConfig<A>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// Probability with which dropout zeroes an element of the embedding and behind linear layers.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which dropout zeroes a weight of an attention of all places.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub attn_drop_rate: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// The layer norms of the blocks.
    pub norm_cfg: PatchNormConfig,
    /// Whether a stage ends with a norm, of all stages or a list with one of each.
    pub norm_after_stage: OneOrMany<bool>,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl<A: Arch> Default for TwinsConfig<A> {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            in_channels: three(),
            qkv_bias: false,
            drop_rate: 0.0,
            attn_drop_rate: 0.0,
            drop_path_rate: 0.0,
            norm_cfg: PatchNormConfig::default(),
            norm_after_stage: OneOrMany(vec![false]),
            out_indices: last_stage(),
        }
    }
}

/// Attention of all places to a smaller map, where a convolution tells places apart: images to 512 features of 1/32 of the size.
///
/// Weight names are MMPretrain's: `patch_embeds.0.projection`, `position_encodings.0.proj`, `stages.0.0.attn.sr`,
/// `norm_after_stage3`. Of SVT, each second attention is of all places and the others are within windows. With a linear layer for
/// 1000 classes 24,106,216 parameters (PCPVT, `small`) and 24,060,776 (SVT, `small`).
pub struct Twins {
    patch_embeds: Vec<PatchEmbed>,
    position_encodings: Vec<Peg>,
    stages: Vec<Vec<Box<dyn Module>>>,
    norms: Norms,
    drop: Dropout,
    /// Size and step of the patches.
    patches: [[usize; 2]; 4],
    init: Vec<Init>,
}

/// Those of the stages that end with one.
struct Norms {
    norm0: Option<LayerNorm>,
    norm1: Option<LayerNorm>,
    norm2: Option<LayerNorm>,
    norm3: Option<LayerNorm>,
}

module!(Twins { patch_embeds, position_encodings, stages, ..norms }, init_cfg = init);
module!(Norms {
    norm0 as "norm_after_stage0",
    norm1 as "norm_after_stage1",
    norm2 as "norm_after_stage2",
    norm3 as "norm_after_stage3"
});

register! { /// Twins-PCPVT, `small` to `large`: features of 1/32 of the size.
dyn Module, "PCPVT" => fn Twins::pcpvt_from_config }
register! { /// Twins-SVT, `small` to `large`: features of 1/32 of the size.
dyn Module, "SVT" => fn Twins::svt_from_config }

impl Twins {
    fn pcpvt_from_config(p: TwinsConfig<PCPVTArch>, _: &mut BuildCx) -> Result<Self> {
        Self::pcpvt(&p)
    }

    fn svt_from_config(p: TwinsConfig<SVTArch>, _: &mut BuildCx) -> Result<Self> {
        Self::svt(&p)
    }

    /// PCPVT.
    ///
    /// # Errors
    /// When a size is 0, or heads do not divide the features.
    pub fn pcpvt(p: &TwinsConfig<PCPVTArch>) -> Result<Self> {
        Self::of(p, &p.arch.0, None)
    }

    /// SVT.
    ///
    /// # Errors
    /// As those of [`pcpvt`](Self::pcpvt).
    pub fn svt(p: &TwinsConfig<SVTArch>) -> Result<Self> {
        let a = p.arch.0.clone();
        let own = PCPVTArch {
            embed_dims: a.embed_dims,
            depths: a.depths,
            num_heads: a.num_heads,
            patch_sizes: a.patch_sizes,
            strides: a.strides,
            mlp_ratios: a.mlp_ratios,
            sr_ratios: a.sr_ratios,
        };
        Self::of(p, &own, Some(a.window_sizes))
    }

    fn of<A: Arch>(p: &TwinsConfig<A>, arch: &PCPVTArch, windows: Option<[usize; 4]>) -> Result<Self> {
        let steps = [arch.patch_sizes, arch.strides, arch.sr_ratios, windows.unwrap_or([1; 4])];
        if steps.iter().flatten().any(|size| *size == 0) || arch.depths.iter().any(|depth| *depth > 1000) {
            return Err(Error::config(
                "sizes of patches, steps and windows are at least 1, `depths` at most 1000",
            ));
        }
        if ![1, 4].contains(&p.norm_after_stage.len()) {
            let given = p.norm_after_stage.len();
            return Err(Error::config(format!("`norm_after_stage` has {given} entries for 4 stages")));
        }
        last_only(&p.out_indices, 4)?;
        let ends =
            |i: usize| p.norm_after_stage.get(i).or(p.norm_after_stage.first()).copied().unwrap_or_default();
        let norm = |i: usize| ends(i).then(|| p.norm_cfg.build(arch.embed_dims[i]));
        let mut rates = drop_path_rates(p.drop_path_rate, arch.depths.iter().sum());
        let (mut patch_embeds, mut position_encodings, mut stages) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..4 {
            let dims = arch.embed_dims[i];
            let from = if i == 0 { p.in_channels } else { arch.embed_dims[i - 1] };
            let patches = PatchEmbed::new(from, dims, arch.patch_sizes[i]).stride(arch.strides[i]);
            patch_embeds.push(patches.norm(LayerNorm::new(dims)));
            position_encodings.push(Peg { proj: Conv2d::new(dims, dims, 3).padding(1).groups(dims) });
            divided(dims, arch.num_heads[i])?;
            let block = |j: usize| -> Box<dyn Module> {
                let drop_path = rates.next().unwrap_or_default();
                let window = windows.filter(|_| j.is_multiple_of(2)).map(|windows| windows[i]);
                let ffn = FFN::new(dims, dims.saturating_mul(arch.mlp_ratios[i]), p.drop_rate);
                Box::new(Block {
                    norm1: p.norm_cfg.build(dims),
                    attn: Attention::new(p, arch, i, window, drop_path),
                    norm2: p.norm_cfg.build(dims),
                    ffn: ffn.drop_path(drop_path),
                    drop_path: DropPath::new(drop_path),
                })
            };
            stages.push((0..arch.depths[i]).map(block).collect());
        }
        let rule = TruncNormal { std: 0.02, ..TruncNormal::default() };
        Ok(Self {
            patch_embeds,
            position_encodings,
            stages,
            norms: Norms { norm0: norm(0), norm1: norm(1), norm2: norm(2), norm3: norm(3) },
            drop: Dropout::new(p.drop_rate),
            patches: [0, 1, 2, 3].map(|i| [arch.patch_sizes[i], arch.strides[i]]),
            init: vec![Init::new(rule).layer("Linear"), Init::new(Kaiming::default()).layer("Conv2d")],
        })
    }
}

impl Module for Twins {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let Norms { norm0, norm1, norm2, norm3 } = &mut self.norms;
        let parts = self.patch_embeds.iter_mut().zip(&mut self.position_encodings).zip(&mut self.stages);
        let mut map = x;
        for (i, (((embed, peg), stage), norm)) in parts.zip([norm0, norm1, norm2, norm3]).enumerate() {
            let [patch, step] = self.patches[i];
            let padded = corner_padding(map, patch, step);
            map = cx.child(format_args!("patch_embeds.{i}.projection"), &mut embed.projection, padded)?;
            let size = [map.shape()[2], map.shape()[3]];
            let mut x = map.embed_tokens(None, None);
            if let Some(norm) = &mut embed.norm {
                x = cx.child(format_args!("patch_embeds.{i}.norm"), norm, x)?;
            }
            x = self.drop.forward(x, cx)?;
            for (j, block) in stage.iter_mut().enumerate() {
                x = cx.child_all(format_args!("stages.{i}.{j}"), block, &on_map(x, size))?;
                if j == 0 {
                    let near = x.token_planes(size);
                    let seen = cx.child(format_args!("position_encodings.{i}.proj"), &mut peg.proj, near)?;
                    x = x + seen.embed_tokens(None, None);
                }
            }
            if let Some(norm) = norm {
                x = cx.child(format_args!("norm_after_stage{i}"), norm, x)?;
            }
            map = x.token_planes(size).checked()?;
        }
        Ok(map)
    }
}

/// What places see of their neighbours, by which they know where they stand.
struct Peg {
    proj: Conv2d,
}

/// `x + attn(norm1(x))`, and of that `x + ffn(norm2(x))`. As in MMPretrain, branches can be left out twice.
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    ffn: FFN,
    drop_path: DropPath,
}

/// Of all places to a smaller map (`q`, `kv`, `sr`, `norm`), or within windows (`qkv`).
struct Attention {
    q: Option<Linear>,
    kv: Option<Linear>,
    sr: Option<Conv2d>,
    norm: Option<LayerNorm>,
    qkv: Option<Linear>,
    proj: Linear,
    proj_drop: Dropout,
    out_drop: DropPath,
    attn_drop: f64,
    heads: usize,
    window: Option<usize>,
}

module!(Peg { proj });
module!(Block { norm1, attn, norm2, ffn, drop_path });
module!(Attention { q, kv, qkv, proj, proj_drop, out_drop, sr, norm });

/// What is added to the score of a token and of what fills its window up.
const FILLED: Elem = -1000.0;

impl Attention {
    fn new<A: Arch>(
        p: &TwinsConfig<A>,
        arch: &PCPVTArch,
        stage: usize,
        window: Option<usize>,
        drop_path: f64,
    ) -> Self {
        let (dims, ratio, whole) = (arch.embed_dims[stage], arch.sr_ratios[stage], window.is_none());
        let linear = |times: usize| Linear::new(dims, dims.saturating_mul(times)).bias(p.qkv_bias);
        let smaller = whole && ratio > 1;
        Self {
            q: whole.then(|| linear(1)),
            kv: whole.then(|| linear(2)),
            sr: smaller.then(|| Conv2d::new(dims, dims, ratio).stride(ratio)),
            norm: smaller.then(|| p.norm_cfg.build(dims)),
            qkv: window.map(|_| linear(3)),
            proj: Linear::new(dims, dims),
            proj_drop: Dropout::new(p.drop_rate),
            out_drop: DropPath::new(if whole { drop_path } else { 0.0 }),
            attn_drop: p.attn_drop_rate,
            heads: arch.num_heads[stage],
            window,
        }
    }

    /// Of the tokens [N, H W, C] of a map.
    fn forward<'t>(&mut self, x: Var<'t>, size: [usize; 2], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let dropout = if cx.training { self.attn_drop } else { 0.0 };
        let options = AttentionOptions { dropout, ..AttentionOptions::new(self.heads) };
        let y = match (&mut self.q, &mut self.kv, &mut self.qkv, self.window) {
            (Some(q), Some(kv), ..) => {
                let asking = cx.child("q", q, x)?;
                let mut seen = x;
                if let (Some(sr), Some(norm)) = (&mut self.sr, &mut self.norm) {
                    seen = cx.child("sr", sr, x.token_planes(size))?.embed_tokens(None, None);
                    seen = cx.child("norm", norm, seen)?;
                }
                let [k, v] = cx.child("kv", kv, seen)?.chunk(-1);
                asking.attention(k, v, &options, cx.rng)
            }
            (_, _, Some(qkv), Some(window)) => {
                let windows = Windows::new(size, window, 0);
                // MMPretrain keeps what fills windows up apart only where both sides have some.
                let filled = size.iter().all(|side| !side.is_multiple_of(window));
                let windows = if filled { windows.apart() } else { windows };
                let heads = self.heads;
                windows.attend(x, FILLED, |inside, mask| {
                    let all = cx.child("qkv", qkv, inside)?;
                    let Some(mask) = mask else { return all.attention_packed(&options, cx.rng).checked() };
                    let [b, t, c] = [0, 1, 2].map(|axis| inside.shape()[axis]);
                    let parts = all.reshape(&[b, t, 3, heads, c / heads]).permute(&[2, 0, 3, 1, 4]);
                    let [q, k, v] = [0, 1, 2].map(|i| parts.select(0, i));
                    let scores = q.matmul(k.transpose(2, 3)) * (1.0 / ((c / heads) as Elem).sqrt());
                    super::windows::weighed(scores, Some(mask), v)
                })?
            }
            _ => x,
        };
        let y = cx.child("proj", &mut self.proj, y)?;
        let y = self.proj_drop.forward(y, cx)?;
        self.out_drop.forward(y, cx)
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    /// Of the tokens of a map.
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, size) = of_map(xs)?;
        let y = cx.child("norm1", &mut self.norm1, x)?;
        let y = cx.within("attn", &mut self.attn, y, |attn, cx| attn.forward(y, size, cx))?;
        let x = x + self.drop_path.forward(y, cx)?;
        let y = cx.child("norm2", &mut self.norm2, x)?;
        let y = cx.within("ffn", &mut self.ffn, y, |ffn, cx| ffn.branch(y, cx))?;
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}
