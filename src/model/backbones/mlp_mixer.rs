//! MLP-Mixer (Tolstikhin et al. 2021, <https://arxiv.org/abs/2105.01601>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{last_only, last_stage};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::{FFN, Forward, LayerNorm, Module, Pair, PatchEmbed, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: MlpMixer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MlpMixerConfig {
    /// `small`, `base` or `large`; or a mapping with `embed_dims`, `num_layers`, `tokens_mlp_dims` and
    /// `channels_mlp_dims`.
    pub arch: ArchConfig<MixerArch>,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Probability with which dropout zeroes an element behind every linear layer.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Accepted if it names the last block, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for MlpMixerConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            patch_size: Pair([16, 16]),
            in_channels: 3,
            drop_rate: 0.0,
        }
    }
}

/// The sizes of an MLP-Mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct MixerArch {
    /// Size of a token.
    #[schemars(range(min = 1))]
    pub embed_dims: usize,
    /// Blocks.
    #[schemars(range(min = 1, max = 10_000))]
    pub num_layers: usize,
    /// How many numbers a channel of all tokens becomes inside.
    #[schemars(range(min = 1))]
    pub tokens_mlp_dims: usize,
    /// How many numbers a token becomes inside.
    #[schemars(range(min = 1))]
    pub channels_mlp_dims: usize,
}

impl MixerArch {
    fn of([embed_dims, num_layers, tokens_mlp_dims, channels_mlp_dims]: [usize; 4]) -> Self {
        Self { embed_dims, num_layers, tokens_mlp_dims, channels_mlp_dims }
    }
}

impl Default for MixerArch {
    fn default() -> Self {
        Self::of([768, 12, 384, 3072])
    }
}

impl Arch for MixerArch {
    fn names() -> Vec<(&'static str, Self)> {
        let small = Self::of([512, 8, 256, 2048]);
        let large = Self::of([1024, 24, 512, 4096]);
        let base = Self::default();
        vec![("s", small), ("small", small), ("b", base), ("base", base), ("l", large), ("large", large)]
    }
}

/// Images cut into patches, and blocks of two feed-forward networks: one over the tokens of a channel, one over the channels
/// of a token. The output is [N, D, T], a sequence of T tokens whose channels come first: `GlobalAveragePooling` with
/// `dim: 1` is the neck.
///
/// Weight names are MMPretrain's: `patch_embed.projection`, `layers.0.ln1`, `layers.0.token_mix.layers.0.0`, `ln1`. 59,880,472
/// parameters (`base`) with a linear layer for 1000 classes.
pub struct MlpMixer {
    patch_embed: PatchEmbed,
    layers: Vec<MixerBlock>,
    ln1: LayerNorm,
    img_size: [usize; 2],
}

module!(MlpMixer { patch_embed, layers, ln1 });

register! { /// MLP-Mixer: images to tokens, [N, D, T].
dyn Module, "MlpMixer" => fn MlpMixer::from_config }

impl MlpMixer {
    fn from_config(p: MlpMixerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When sizes do not divide each other or are 0.
    pub fn new(p: &MlpMixerConfig) -> Result<Self> {
        last_only(&p.out_indices, p.arch.0.num_layers)?;
        let (arch, Pair(img_size), Pair(patch)) = (p.arch.0, p.img_size, p.patch_size);
        if patch.contains(&0) || (0..2).any(|i| img_size[i] == 0 || img_size[i] % patch[i] != 0) {
            return Err(Error::config(format!(
                "`img_size: {img_size:?}` is no multiple of `patch_size: {patch:?}`"
            )));
        }
        let tokens = (img_size[0] / patch[0]).saturating_mul(img_size[1] / patch[1]);
        let block = || MixerBlock {
            ln1: LayerNorm::new(arch.embed_dims),
            token_mix: FFN::new(tokens, arch.tokens_mlp_dims, p.drop_rate),
            ln2: LayerNorm::new(arch.embed_dims),
            channel_mix: FFN::new(arch.embed_dims, arch.channels_mlp_dims, p.drop_rate),
        };
        Ok(Self {
            patch_embed: PatchEmbed::new(p.in_channels, arch.embed_dims, patch),
            layers: (0..arch.num_layers).map(|_| block()).collect(),
            ln1: LayerNorm::new(arch.embed_dims),
            img_size,
        })
    }
}

impl Module for MlpMixer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shape = x.shape();
        if shape.len() != 4 || shape[2..] != self.img_size {
            let [h, w] = self.img_size;
            return Err(Error::invalid(format!(
                "MlpMixer was made for images of {h} × {w}, not a batch of shape {shape:?}: set `img_size`, or resize them"
            )));
        }
        let x = cx.child("patch_embed", &mut self.patch_embed, x)?;
        let mut layers = self.layers.iter_mut().enumerate();
        let x = layers.try_fold(x, |x, (i, layer)| cx.child(format_args!("layers.{i}"), layer, x))?;
        cx.child("ln1", &mut self.ln1, x)?.transpose(1, 2).checked()
    }
}

/// `x + token_mix(ln1(x)ᵀ)ᵀ`, and of that `x + channel_mix(ln2(x))`.
struct MixerBlock {
    ln1: LayerNorm,
    token_mix: FFN,
    ln2: LayerNorm,
    channel_mix: FFN,
}

module!(MixerBlock { ln1, token_mix, ln2, channel_mix });

impl Module for MixerBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let normed = self.ln1.forward(x, cx)?.transpose(1, 2);
        let x = self.token_mix.forward_add(normed, x.transpose(1, 2), cx)?.transpose(1, 2);
        let normed = self.ln2.forward(x, cx)?;
        self.channel_mix.forward_add(normed, x, cx)
    }
}
