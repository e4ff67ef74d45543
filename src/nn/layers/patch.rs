//! From images to tokens.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{Conv2d, Conv2dParams, Forward, LayerNorm, Module, Var};
use crate::registry::BuildCx;
use crate::{parts, register};

use super::pair::{non_negative, optional_positive, positive};
use super::{Pair, zero};

/// What a [`PatchEmbed`] is made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PatchEmbedParams {
    /// Channels of the images.
    #[serde(default = "three")]
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Size of a token.
    #[serde(default = "dims")]
    #[schemars(range(min = 1))]
    pub embed_dims: usize,
    /// Size of a patch, one number or [vertical, horizontal].
    #[serde(default = "sixteen")]
    #[schemars(schema_with = "positive")]
    pub kernel_size: Pair,
    /// Step from patch to patch; the size of a patch if absent.
    #[serde(default)]
    #[schemars(schema_with = "optional_positive")]
    pub stride: Option<Pair>,
    /// Zeros added on each side of the image.
    #[serde(default = "super::zero")]
    #[schemars(schema_with = "non_negative")]
    pub padding: Pair,
    /// Whether the projection has an offset.
    #[serde(default = "super::yes")]
    pub bias: bool,
    /// A norm of the tokens; none if absent.
    #[serde(default)]
    pub norm_cfg: Option<LayerNormCfg>,
}

fn three() -> usize {
    3
}

fn dims() -> usize {
    768
}

fn sixteen() -> Pair {
    Pair([16, 16])
}

/// `norm_cfg` of networks made of tokens: `{type: LN, eps: 1e-6}`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct LayerNormCfg {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: LayerNormName,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
}

fn eps() -> f64 {
    1e-5
}

impl LayerNormCfg {
    /// A norm of tokens of this size.
    pub fn build(&self, features: usize) -> LayerNorm {
        LayerNorm::over(features, self.eps)
    }
}

/// The norm of a [`LayerNormCfg`], under both of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LayerNormName {
    /// The name in the reference's registry.
    LN,
    /// The name of the class.
    LayerNorm,
}

impl PatchEmbedParams {
    /// Patches of this size side by side, with an offset and without norm.
    pub fn new(in_channels: usize, embed_dims: usize, kernel_size: impl Into<Pair>) -> Self {
        Self {
            in_channels,
            embed_dims,
            kernel_size: kernel_size.into(),
            stride: None,
            padding: zero(),
            bias: true,
            norm_cfg: None,
        }
    }
}

/// Cuts images [N, C, H, W] into patches and projects each to a token: [N, L, D], row by row.
pub struct PatchEmbed {
    /// [D, C, height, width of a patch].
    pub projection: Conv2d,
    /// Of the tokens.
    pub norm: Option<LayerNorm>,
}

parts!(PatchEmbed { projection, norm });

impl PatchEmbed {
    /// An embedding of this make.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new(p: &PatchEmbedParams) -> Result<Self> {
        if p.in_channels == 0 || p.embed_dims == 0 {
            return Err(Error::config("`in_channels` and `embed_dims` must be at least 1"));
        }
        let conv = Conv2dParams {
            stride: p.stride.unwrap_or(p.kernel_size),
            padding: p.padding,
            bias: p.bias,
            ..Conv2dParams::new(p.in_channels, p.embed_dims, p.kernel_size)
        };
        let norm = p.norm_cfg.map(|norm| norm.build(p.embed_dims));
        Ok(Self { projection: Conv2d::new(&conv)?, norm })
    }
}

impl Module for PatchEmbed {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let tokens = self.projection.forward(x, cx)?.embed_tokens(None, None)?;
        match &mut self.norm {
            Some(norm) => norm.forward(tokens, cx),
            None => Ok(tokens),
        }
    }
}

register! { /// Cuts images into patches and projects each to a token.
dyn Module, "PatchEmbed" => |p: PatchEmbedParams, _: &mut BuildCx| -> Result<Box<dyn Module>> { Ok(Box::new(PatchEmbed::new(&p)?)) } }
