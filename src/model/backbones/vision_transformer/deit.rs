//! The relatives of the vision transformer: DeiT with a distillation token (Touvron et al. 2020,
//! <https://arxiv.org/abs/2012.12877>) and DeiT III (2022, <https://arxiv.org/abs/2204.07118>), as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Family, OutType, VisionTransformer, VisionTransformerArch, VisionTransformerConfig};
use crate::base::Result;
use crate::model::backbones::arch::{Arch, ArchConfig};
use crate::nn::{Module, Pair, PatchNormConfig};
use crate::register;
use crate::registry::BuildCx;

register! { /// DeiT: a vision transformer with a class token and a distillation token, [N, 2, embed_dims], for a `DeiTClsHead`.
dyn Module, "DistilledVisionTransformer" => fn VisionTransformer::distilled_from_config }
register! { /// DeiT III: a vision transformer whose branches are scaled, and whose class token has no position.
dyn Module, "DeiT3" => fn VisionTransformer::deit3_from_config }

impl VisionTransformer {
    fn distilled_from_config(p: VisionTransformerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::distilled(&p)
    }

    /// With a distillation token behind the class token, both of which are its output, [N, 2, D].
    ///
    /// # Errors
    /// As those of [`new`](Self::new).
    pub fn distilled(p: &VisionTransformerConfig) -> Result<Self> {
        Self::of(p, Family::Distilled, Self::usual_layers(p, 2)?)
    }

    fn deit3_from_config(p: DeiT3Config, _: &mut BuildCx) -> Result<Self> {
        Self::deit3(&p)
    }

    /// The network of DeiT III.
    ///
    /// # Errors
    /// As those of [`new`](Self::new).
    pub fn deit3(p: &DeiT3Config) -> Result<Self> {
        let own = VisionTransformerConfig {
            arch: ArchConfig(p.arch.0.0),
            img_size: p.img_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            drop_rate: p.drop_rate,
            drop_path_rate: p.drop_path_rate,
            qkv_bias: p.qkv_bias,
            norm_cfg: p.norm_cfg,
            final_norm: p.final_norm,
            out_type: p.out_type,
            with_cls_token: p.with_cls_token,
            layer_scale_init_value: if p.use_layer_scale { 1e-5 } else { 0.0 },
            ..VisionTransformerConfig::default()
        };
        Self::of(&own, Family::DeiT3, Self::usual_layers(&own, usize::from(own.with_cls_token))?)
    }
}

/// The keys of `{type: DeiT3, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeiT3Config {
    /// `small`, `medium`, `base`, `large` or `huge`; or a mapping with `embed_dims`, `num_layers`, `num_heads` and
    /// `feedforward_channels`.
    pub arch: ArchConfig<DeiT3Arch>,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Probability with which dropout zeroes an element of the embedding and behind every linear layer but `qkv`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
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
    /// Whether the branches are scaled, by 1e-5 at first.
    pub use_layer_scale: bool,
}

impl Default for DeiT3Config {
    fn default() -> Self {
        let p = VisionTransformerConfig::default();
        Self {
            arch: ArchConfig::default(),
            img_size: p.img_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            drop_rate: p.drop_rate,
            drop_path_rate: p.drop_path_rate,
            qkv_bias: p.qkv_bias,
            norm_cfg: p.norm_cfg,
            final_norm: p.final_norm,
            out_type: p.out_type,
            with_cls_token: p.with_cls_token,
            use_layer_scale: true,
        }
    }
}

/// The sizes of a DeiT III, some of which have other names than those of a vision transformer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeiT3Arch(pub VisionTransformerArch);

impl Arch for DeiT3Arch {
    fn names() -> Vec<(&'static str, Self)> {
        let sizes = [[384, 12, 6], [512, 12, 8], [768, 12, 12], [1024, 24, 16], [1280, 32, 16]];
        let names = [["s", "small"], ["m", "medium"], ["b", "base"], ["l", "large"], ["h", "huge"]];
        let all = names.into_iter().zip(sizes);
        all.flat_map(|(names, [embed_dims, num_layers, num_heads])| {
            let feedforward_channels = 4 * embed_dims;
            let arch = VisionTransformerArch { embed_dims, num_layers, num_heads, feedforward_channels };
            names.map(|name| (name, Self(arch)))
        })
        .collect()
    }
}
