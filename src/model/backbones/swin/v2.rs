//! Swin transformer V2 (Liu et al. 2022, <https://arxiv.org/abs/2111.09883>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::PatchMerging;
use super::window::{ShiftWindowMSA, windows_of};
use crate::base::{Elem, Error, Result, Tensor};
use crate::config::OneOrMany;
use crate::model::backbones::arch::{Arch, ArchConfig};
use crate::model::backbones::common::{Chain, drop_path_rates, last_only, last_stage, of_map, on_map, three};
use crate::model::backbones::windows::{distances, unit, weighed};
use crate::nn::{DropPath, Dropout, FFN, Forward, LayerNorm, Linear, Module, Pair, Param, PatchEmbed, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: SwinTransformerV2, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SwinTransformerV2Config {
    /// `tiny` to `giant`; or a mapping with `embed_dims`, `depths`, `num_heads` and `extra_norm_every_n_blocks`.
    pub arch: ArchConfig<SwinV2Arch>,
    /// Accepted for MMPretrain's configs: images may have any size.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Height and width, in patches, of the windows that attention stays in: one number, or one for each stage.
    #[schemars(length(min = 1, max = 16), inner(range(min = 2, max = 256)))]
    pub window_size: OneOrMany<usize>,
    /// Probability with which dropout zeroes an element of the embedding.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether a map that is smaller than a window is filled up with zeros, and not refused.
    pub pad_small_map: bool,
    /// The windows of each stage by which loaded weights were trained, 0 for the same ones; all the same if absent.
    #[schemars(inner(range(max = 256)))]
    pub pretrained_window_sizes: Vec<usize>,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for SwinTransformerV2Config {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ArchConfig::default(),
            img_size: Pair([256, 256]),
            patch_size: Pair([4, 4]),
            in_channels: three(),
            window_size: OneOrMany(vec![8]),
            drop_rate: 0.0,
            drop_path_rate: 0.1,
            pad_small_map: false,
            pretrained_window_sizes: Vec::new(),
        }
    }
}

/// The sizes of a Swin transformer V2.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SwinV2Arch {
    /// Size of a token in the first stage, doubled from stage to stage.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks of each stage.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 1000)))]
    pub depths: Vec<usize>,
    /// Heads of each stage.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1)))]
    pub num_heads: Vec<usize>,
    /// Behind how many blocks of a stage the tokens are normalised once more; 0 for behind none.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub extra_norm_every_n_blocks: usize,
}

impl SwinV2Arch {
    fn of(embed_dims: usize, depths: [usize; 4], heads: usize, extra_norm_every_n_blocks: usize) -> Self {
        let num_heads = (0..4).map(|i| heads << i).collect();
        Self { embed_dims, depths: depths.to_vec(), num_heads, extra_norm_every_n_blocks }
    }
}

impl Default for SwinV2Arch {
    fn default() -> Self {
        Self::of(96, [2, 2, 6, 2], 3, 0)
    }
}

impl Arch for SwinV2Arch {
    fn names() -> Vec<(&'static str, Self)> {
        let deep = [2, 2, 18, 2];
        let all = [
            (["t", "tiny"], Self::default()),
            (["s", "small"], Self::of(96, deep, 3, 0)),
            (["b", "base"], Self::of(128, deep, 4, 0)),
            (["l", "large"], Self::of(192, deep, 6, 0)),
            (["h", "huge"], Self::of(352, deep, 8, 6)),
            (["g", "giant"], Self::of(512, [2, 2, 42, 4], 16, 6)),
        ];
        all.into_iter().flat_map(|(names, sizes)| names.map(|name| (name, sizes.clone()))).collect()
    }
}

/// A [`SwinTransformer`](super::SwinTransformer) that compares tokens by their angle, knows distances by a small network, and
/// normalises behind its branches: images to 768 features (`tiny`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `stages.0.blocks.0.attn.w_msa.cpb_mlp.0`, `stages.1.downsample.reduction`, `norm3`.
/// 28,347,154 parameters (`tiny`) with a linear layer for 1000 classes.
pub struct SwinTransformerV2 {
    patch_embed: PatchEmbed,
    drop_after_pos: Dropout,
    stages: Vec<Stage>,
    norm: Chain,
}

module!(SwinTransformerV2 { patch_embed, drop_after_pos, stages, ..norm });

register! { /// Swin transformer V2: features of 1/32 of the size.
dyn Module, "SwinTransformerV2" => fn SwinTransformerV2::from_config }

impl SwinTransformerV2 {
    fn from_config(p: SwinTransformerV2Config, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When lists have not a number for each stage, or heads do not divide the features.
    pub fn new(p: &SwinTransformerV2Config) -> Result<Self> {
        let SwinV2Arch { embed_dims, depths, num_heads, extra_norm_every_n_blocks } = p.arch.0.clone();
        let count = depths.len();
        if count == 0 || count != num_heads.len() || count > 16 || p.patch_size.0.contains(&0) {
            return Err(Error::config(format!(
                "`depths: {depths:?}` and `num_heads: {num_heads:?}` have one number each for a stage, of up to 16"
            )));
        }
        last_only(&p.out_indices, count)?;
        let windows = match &*p.window_size {
            [one] => vec![*one; count],
            many => many.to_vec(),
        };
        let trained = match &p.pretrained_window_sizes[..] {
            [] => vec![0; count],
            sizes => sizes.to_vec(),
        };
        if windows.len() != count || trained.len() != count || windows.contains(&1) || windows.contains(&0) {
            return Err(Error::config(format!(
                "`window_size` is at least 2, and it and `pretrained_window_sizes` have one number for each of {count} stages"
            )));
        }
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let mut stages = Vec::new();
        for (i, (depth, heads)) in depths.iter().zip(&num_heads).enumerate() {
            let (dims, window) = (embed_dims.saturating_mul(1 << i), windows[i]);
            let base = if trained[i] > 0 { trained[i] } else { window };
            let mut block = |j: usize| -> Result<Box<dyn Module>> {
                let shift = if j.is_multiple_of(2) { 0 } else { window / 2 };
                let attention = WindowMsaV2::new(dims, *heads, window, base)?;
                let extra =
                    extra_norm_every_n_blocks > 0 && (j + 1).is_multiple_of(extra_norm_every_n_blocks);
                Ok(Box::new(Block {
                    attn: ShiftWindowMSA::of(attention, [window, shift], p.pad_small_map),
                    norm1: LayerNorm::new(dims),
                    ffn: FFN::new(dims, dims.saturating_mul(4), 0.0),
                    norm2: LayerNorm::new(dims),
                    norm3: extra.then(|| LayerNorm::new(dims)),
                    drop_path: DropPath::new(rates.next().unwrap_or_default()),
                }))
            };
            let blocks = (0..*depth).map(&mut block).collect::<Result<_>>()?;
            stages.push(Stage { downsample: (i > 0).then(|| PatchMerging::normed_last(dims / 2)), blocks });
        }
        let last = count - 1;
        let patch_embed = PatchEmbed::new(p.in_channels, embed_dims, p.patch_size);
        Ok(Self {
            patch_embed: patch_embed.norm(LayerNorm::new(embed_dims)),
            drop_after_pos: Dropout::new(p.drop_rate),
            stages,
            norm: Chain::default()
                .with(format!("norm{last}"), LayerNorm::new(embed_dims.saturating_mul(1 << last))),
        })
    }
}

impl Module for SwinTransformerV2 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let map = cx.child("patch_embed.projection", &mut self.patch_embed.projection, x)?;
        let mut size = [map.shape()[2], map.shape()[3]];
        let mut x = map.embed_tokens(None, None);
        if let Some(norm) = &mut self.patch_embed.norm {
            x = cx.child("patch_embed.norm", norm, x)?;
        }
        x = self.drop_after_pos.forward(x, cx)?;
        for (i, stage) in self.stages.iter_mut().enumerate() {
            if let Some(downsample) = &mut stage.downsample {
                (x, size) = downsample.forward(x, size, cx)?;
            }
            for (j, block) in stage.blocks.iter_mut().enumerate() {
                x = cx.child_all(format_args!("stages.{i}.blocks.{j}"), block, &on_map(x, size))?;
            }
        }
        self.norm.forward(x, cx)?.token_planes(size).checked()
    }
}

/// The step to a smaller map, and blocks on it.
struct Stage {
    downsample: Option<PatchMerging>,
    blocks: Vec<Box<dyn Module>>,
}

module!(Stage { downsample, blocks });

/// `x + norm1(attn(x))`, of that `x + norm2(ffn(x))`, and of that `norm3` in some blocks of large networks. What is left out in
/// training is left out before the norm, whose offset stays, as in MMPretrain.
struct Block {
    attn: ShiftWindowMSA,
    norm1: LayerNorm,
    ffn: FFN,
    norm2: LayerNorm,
    norm3: Option<LayerNorm>,
    drop_path: DropPath,
}

module!(Block { attn, norm1, ffn, norm2, norm3, drop_path });

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    /// Of the tokens of a map.
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, size) = of_map(xs)?;
        let y = cx.within("attn", &mut self.attn, x, |attn, cx| attn.forward(x, size, cx))?;
        let y = self.drop_path.forward(y, cx)?;
        let x = x + cx.child("norm1", &mut self.norm1, y)?;
        let y = cx.within("ffn", &mut self.ffn, x, |ffn, cx| ffn.branch(x, cx))?;
        let y = self.drop_path.forward(y, cx)?;
        let x = x + cx.child("norm2", &mut self.norm2, y)?;
        match &mut self.norm3 {
            Some(norm) => cx.child("norm3", norm, x),
            None => Ok(x),
        }
    }
}

/// Attention of the tokens of a window by their angles, with a number for each distance of two that a small network gives.
struct WindowMsaV2 {
    logit_scale: Param,
    q_bias: Param,
    v_bias: Param,
    cpb_mlp: Distances,
    qkv: Linear,
    proj: Linear,
    heads: usize,
    /// Height and width of a window, and of those that loaded weights were trained with.
    window: usize,
    trained: usize,
}

struct Distances {
    first: Linear,
    second: Linear,
}

module!(WindowMsaV2 { logit_scale, q_bias, v_bias, cpb_mlp, qkv, proj });
module!(Distances { first as "0", second as "2" });

impl WindowMsaV2 {
    fn new(dims: usize, heads: usize, window: usize, trained: usize) -> Result<Self> {
        if heads == 0 || !dims.is_multiple_of(heads) {
            return Err(Error::config(format!(
                "`num_heads: {heads}` does not divide the {dims} features of its stage"
            )));
        }
        Ok(Self {
            logit_scale: Param::full(&[heads, 1, 1], Elem::ln(10.0)),
            q_bias: Param::full(&[dims], 0.0),
            v_bias: Param::full(&[dims], 0.0),
            cpb_mlp: Distances { first: Linear::new(2, 512), second: Linear::new(512, heads).bias(false) },
            qkv: Linear::new(dims, dims.saturating_mul(3)).bias(false),
            proj: Linear::new(dims, dims),
            heads,
            window,
            trained: trained.max(2),
        })
    }

    /// What the small network gets: the logarithms of the distances, [distances, 2].
    fn table(&self) -> Tensor {
        let side = 2 * self.window - 1;
        let far = |at: usize| {
            let share = 8.0 * (at as f64 - (self.window - 1) as f64) / (self.trained - 1) as f64;
            let log = libm::log2(share.abs() + 1.0) / 3.0;
            (if share < 0.0 { -log } else { log }) as Elem
        };
        Tensor::from_shape_fn(vec![side * side, 2], |at| {
            far(if at[1] == 0 { at[0] / side } else { at[0] % side })
        })
    }
}

impl Module for WindowMsaV2 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, mask) = windows_of(xs)?;
        let ([b, t, c], heads, tape) = ([0, 1, 2].map(|axis| x.shape()[axis]), self.heads, x.tape());
        let [q_bias, v_bias] = [tape.param(&self.q_bias), tape.param(&self.v_bias)];
        let bias = tape.concat(&[q_bias, q_bias.zeros_like(), v_bias], 0);
        let qkv = x.linear(tape.param(&self.qkv.weight), Some(bias));
        let qkv = self.qkv.adapted(x, qkv, cx)?.reshape(&[b, t, 3, heads, c / heads]);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.select(2, part).transpose(1, 2));
        let scale = tape.param(&self.logit_scale).clamp(Elem::MIN, Elem::ln(100.0)).exp();
        let table = tape.input(self.table());
        let Distances { first, second } = &mut self.cpb_mlp;
        let far = cx.child("cpb_mlp.0", first, table)?.relu();
        let far = cx.child("cpb_mlp.2", second, far)?.index_select(0, &distances([self.window; 2]));
        let far = far.transpose(0, 1).reshape(&[heads, t, t]).sigmoid() * 16.0;
        let scores = unit(q).matmul(unit(k).transpose(2, 3)) * scale + far;
        let y = weighed(scores, mask, v)?;
        cx.child("proj", &mut self.proj, y)
    }
}
