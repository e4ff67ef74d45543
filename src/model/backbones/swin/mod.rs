//! The Swin transformer (Liu et al. 2021, <https://arxiv.org/abs/2103.14030>) as in MMPretrain.

mod v2;
mod window;

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, drop_path_rates, last_only, last_stage, of_map, on_map, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::{DropPath, Dropout, FFN, Forward, LayerNorm, Linear, Module, PadMode, Pair, PatchEmbed, Var};
use crate::registry::BuildCx;
use crate::{module, register};

pub use v2::{SwinTransformerV2, SwinTransformerV2Config, SwinV2Arch};
pub(super) use window::ShiftWindowMSA;

/// The keys of `{type: SwinTransformer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SwinTransformerConfig {
    /// `tiny`, `small`, `base` or `large`; or a mapping with `embed_dims`, `depths` and `num_heads`.
    pub arch: ArchConfig<SwinArch>,
    /// Accepted for MMPretrain's configs: images may have any size.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Height and width, in patches, of the windows that attention stays in.
    #[schemars(range(min = 1, max = 256))]
    pub window_size: usize,
    /// What the blocks have that differs, of all stages or a list with one of each.
    pub stage_cfgs: OneOrMany<SwinStageConfig>,
    /// Probability with which dropout zeroes an element of the embedding.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether a map that is smaller than a window is filled up with zeros, and not refused.
    pub pad_small_map: bool,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

/// What a stage of a [`SwinTransformer`] has of its own.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SwinStageConfig {
    /// Its blocks.
    pub block_cfgs: SwinBlockConfig,
}

/// What the blocks of a stage have of their own.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SwinBlockConfig {
    /// Height and width of the windows, in patches.
    #[schemars(range(min = 1, max = 256))]
    pub window_size: Option<usize>,
}

impl SwinTransformerConfig {
    /// The size of the windows of a stage.
    fn window_of(&self, stage: usize) -> usize {
        let own =
            if self.stage_cfgs.len() == 1 { self.stage_cfgs.first() } else { self.stage_cfgs.get(stage) };
        own.and_then(|stage| stage.block_cfgs.window_size).unwrap_or(self.window_size)
    }
}

impl Default for SwinTransformerConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            patch_size: Pair([4, 4]),
            in_channels: three(),
            window_size: 7,
            stage_cfgs: OneOrMany(Vec::new()),
            drop_rate: 0.0,
            drop_path_rate: 0.1,
            pad_small_map: false,
        }
    }
}

/// The sizes of a Swin transformer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SwinArch {
    /// Size of a token in the first stage, doubled from stage to stage.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks of each stage.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 1000)))]
    pub depths: Vec<usize>,
    /// Heads of each stage.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1)))]
    pub num_heads: Vec<usize>,
}

impl SwinArch {
    /// Of four stages, the third of which has so many blocks.
    fn of(embed_dims: usize, third: usize, heads: usize) -> Self {
        let num_heads = (0..4).map(|i| heads << i).collect();
        Self { embed_dims, depths: vec![2, 2, third, 2], num_heads }
    }
}

impl Default for SwinArch {
    fn default() -> Self {
        Self::of(96, 6, 3)
    }
}

impl Arch for SwinArch {
    fn names() -> Vec<(&'static str, Self)> {
        let sizes = [(96, 6, 3), (96, 18, 3), (128, 18, 4), (192, 18, 6)];
        let names = [["t", "tiny"], ["s", "small"], ["b", "base"], ["l", "large"]];
        let all = names.into_iter().zip(sizes);
        all.flat_map(|(names, (dims, third, heads))| names.map(|name| (name, Self::of(dims, third, heads))))
            .collect()
    }
}

/// Attention within windows that are shifted by half their size from block to block, and a map that is halved from stage to
/// stage: images to 768 features (`tiny`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `patch_embed.projection`, `stages.0.blocks.0.attn.w_msa.qkv`,
/// `stages.0.downsample.reduction`, `norm3`. 28,288,354 parameters with a linear layer for 1000 classes.
pub struct SwinTransformer {
    patch_embed: PatchEmbed,
    drop_after_pos: Dropout,
    stages: Vec<Stage>,
    norm: Chain,
}

module!(SwinTransformer { patch_embed, drop_after_pos, stages, ..norm });

register! { /// Swin transformer: features of 1/32 of the size.
dyn Module, "SwinTransformer" => fn SwinTransformer::from_config }

impl SwinTransformer {
    fn from_config(p: SwinTransformerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there are not as many `num_heads` as `depths`, or heads do not divide the features.
    pub fn new(p: &SwinTransformerConfig) -> Result<Self> {
        let SwinArch { embed_dims, depths, num_heads } = p.arch.0.clone();
        if depths.is_empty() || depths.len() != num_heads.len() || depths.len() > 16 {
            return Err(Error::config(format!(
                "`depths: {depths:?}` and `num_heads: {num_heads:?}` have one number each for a stage, of up to 16"
            )));
        }
        last_only(&p.out_indices, depths.len())?;
        if p.stage_cfgs.len() > 1 && p.stage_cfgs.len() != depths.len() {
            let (own, stages) = (p.stage_cfgs.len(), depths.len());
            return Err(Error::config(format!("`stage_cfgs` has {own} entries for {stages} stages")));
        }
        if (0..depths.len()).any(|i| p.window_of(i) == 0) || p.patch_size.0.contains(&0) {
            return Err(Error::config("`window_size` and `patch_size` must be at least 1"));
        }
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let mut stages = Vec::new();
        for (i, (depth, heads)) in depths.iter().zip(&num_heads).enumerate() {
            let dims = embed_dims.saturating_mul(1 << i);
            let mut block = |j: usize| -> Result<Box<dyn Module>> {
                let window = p.window_of(i);
                let shift = if j.is_multiple_of(2) { 0 } else { window / 2 };
                Ok(Box::new(Block {
                    norm1: LayerNorm::new(dims),
                    attn: ShiftWindowMSA::new(dims, *heads, [window, shift], p.pad_small_map)?,
                    norm2: LayerNorm::new(dims),
                    ffn: FFN::new(dims, dims.saturating_mul(4), 0.0),
                    drop_path: DropPath::new(rates.next().unwrap_or_default()),
                }))
            };
            let blocks = (0..*depth).map(&mut block).collect::<Result<_>>()?;
            stages
                .push(Stage { blocks, downsample: (i + 1 < depths.len()).then(|| PatchMerging::new(dims)) });
        }
        let last = depths.len() - 1;
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

impl Module for SwinTransformer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let map = cx.child("patch_embed.projection", &mut self.patch_embed.projection, x)?;
        let mut size = [map.shape()[2], map.shape()[3]];
        let mut x = map.embed_tokens(None, None);
        if let Some(norm) = &mut self.patch_embed.norm {
            x = cx.child("patch_embed.norm", norm, x)?;
        }
        x = self.drop_after_pos.forward(x, cx)?;
        for (i, stage) in self.stages.iter_mut().enumerate() {
            for (j, block) in stage.blocks.iter_mut().enumerate() {
                x = cx.child_all(format_args!("stages.{i}.blocks.{j}"), block, &on_map(x, size))?;
            }
            if let Some(downsample) = &mut stage.downsample {
                (x, size) = downsample.forward(x, size, cx)?;
            }
        }
        self.norm.forward(x, cx)?.token_planes(size).checked()
    }
}

/// Blocks on one size of the map, and the step to the next.
struct Stage {
    blocks: Vec<Box<dyn Module>>,
    downsample: Option<PatchMerging>,
}

module!(Stage { blocks, downsample });

/// `x + attn(norm1(x))`, and of that `x + ffn(norm2(x))`.
struct Block {
    norm1: LayerNorm,
    attn: ShiftWindowMSA,
    norm2: LayerNorm,
    ffn: FFN,
    drop_path: DropPath,
}

module!(Block { norm1, attn, norm2, ffn, drop_path });

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
        let y = self.norm2.forward(x, cx)?;
        if cx.training && self.drop_path.drop_prob > 0.0 {
            // Without the sum, which stochastic depth leaves alone.
            let y = self.ffn.branch(y, cx)?;
            return (x + self.drop_path.forward(y, cx)?).checked();
        }
        self.ffn.forward_add(y, x, cx)
    }
}

/// 2 × 2 tokens as one of twice the features.
struct PatchMerging {
    norm: LayerNorm,
    reduction: Linear,
    /// Whether the norm is that of the result.
    normed_last: bool,
}

module!(PatchMerging { norm, reduction });

impl PatchMerging {
    fn new(dims: usize) -> Self {
        let all = dims.saturating_mul(4);
        let reduction = Linear::new(all, dims.saturating_mul(2)).bias(false);
        Self { norm: LayerNorm::new(all), reduction, normed_last: false }
    }

    /// With the norm behind the linear layer.
    fn normed_last(dims: usize) -> Self {
        Self { norm: LayerNorm::new(dims.saturating_mul(2)), normed_last: true, ..Self::new(dims) }
    }

    /// The tokens of the smaller map, and its size. The 4 C features of a token are C groups of 2 × 2, as those of
    /// PyTorch's `unfold`.
    fn forward<'t>(
        &mut self,
        x: Var<'t>,
        [h, w]: [usize; 2],
        cx: &mut Forward<'_>,
    ) -> Result<(Var<'t>, [usize; 2])> {
        let [n, c] = [x.shape()[0], x.shape()[2]];
        let (odd, half) = ([(h % 2) as isize, (w % 2) as isize], [h.div_ceil(2), w.div_ceil(2)]);
        let map = x.reshape(&[n, h, w, c]).pad(&[0, 0, 0, odd[1], 0, odd[0]], PadMode::Constant(0.0));
        let parts = map.reshape(&[n, half[0], 2, half[1], 2, c]).permute(&[0, 1, 3, 5, 2, 4]);
        let x = parts.reshape(&[n, half[0] * half[1], 4 * c]).checked()?;
        let Self { norm, reduction, normed_last } = self;
        let x = if *normed_last { x } else { cx.child("norm", norm, x)? };
        let x = cx.child("reduction", reduction, x)?;
        Ok((if *normed_last { cx.child("norm", norm, x)? } else { x }, half))
    }
}
