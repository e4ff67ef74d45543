//! From images to tokens.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::kernels::{TokenGeom, col_sums, embed_tokens, token_mean, token_mean_backward, token_planes};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::{expect_shape, images};
use crate::nn::{Conv2d, Conv2dConfig, Forward, LayerNorm, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use super::pair::{non_negative, optional_positive, positive};
use super::{Pair, one};

/// The keys of a [`PatchEmbed`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PatchEmbedConfig {
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
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
    /// A norm of the tokens; none if absent.
    #[serde(default)]
    pub norm_cfg: Option<PatchNormConfig>,
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
pub struct PatchNormConfig {
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

impl Default for PatchNormConfig {
    fn default() -> Self {
        Self { kind: LayerNormName::LN, eps: eps() }
    }
}

impl PatchNormConfig {
    /// A norm of tokens of this size.
    pub fn build(&self, features: usize) -> LayerNorm {
        LayerNorm::new(features).eps(self.eps)
    }
}

/// The norm of a [`PatchNormConfig`], under both of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LayerNormName {
    /// The name in MMEngine's registry.
    LN,
    /// The name of the class.
    LayerNorm,
}

impl PatchEmbedConfig {
    /// The layer.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn build(&self) -> Result<PatchEmbed> {
        if self.in_channels == 0 || self.embed_dims == 0 {
            return Err(Error::config("`in_channels` and `embed_dims` must be at least 1"));
        }
        let projection = Conv2dConfig {
            in_channels: self.in_channels,
            out_channels: self.embed_dims,
            kernel_size: self.kernel_size,
            stride: self.stride.unwrap_or(self.kernel_size),
            padding: self.padding,
            dilation: one(),
            groups: 1,
            bias: self.bias,
        };
        let norm = self.norm_cfg.map(|norm| norm.build(self.embed_dims));
        Ok(PatchEmbed { projection: projection.build()?, norm })
    }
}

/// Cuts images [N, C, H, W] into patches and projects each to a token: [N, L, D], row by row.
pub struct PatchEmbed {
    /// [D, C, height, width of a patch].
    pub projection: Conv2d,
    /// Of the tokens.
    pub norm: Option<LayerNorm>,
}

module!(PatchEmbed { projection, norm });

impl PatchEmbed {
    /// Patches of this size side by side, with an offset and without norm.
    pub fn new(in_channels: usize, embed_dims: usize, patch: impl Into<Pair>) -> Self {
        let patch = patch.into();
        Self { projection: Conv2d::new(in_channels, embed_dims, patch).stride(patch), norm: None }
    }

    /// The step from patch to patch.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.projection = self.projection.stride(stride);
        self
    }

    /// Zeros added on each side of the image.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.projection = self.projection.padding(padding);
        self
    }

    /// Whether the projection has an offset; it has unless this says no.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.projection = self.projection.bias(bias);
        self
    }

    /// A norm of the tokens.
    #[must_use]
    pub fn norm(mut self, norm: LayerNorm) -> Self {
        self.norm = Some(norm);
        self
    }
}

impl Module for PatchEmbed {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let tokens = self.projection.forward(x, cx)?.embed_tokens(None, None).checked()?;
        match &mut self.norm {
            Some(norm) => norm.forward(tokens, cx),
            None => Ok(tokens),
        }
    }
}

register! { /// Cuts images into patches and projects each to a token.
dyn Module, "PatchEmbed" => fn PatchEmbed::from_config }

impl PatchEmbed {
    fn from_config(p: PatchEmbedConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}

impl<'t> Var<'t> {
    /// Images [N, C, H, W] as tokens [N, T, C], row by row: T = H W, and one more if there is a class token `cls` [1,
    /// 1, C], which is put in front. To each token its position `pos` [1, T, C] is added.
    pub fn embed_tokens(self, cls: Option<Self>, pos: Option<Self>) -> Self {
        self.attempt(|| self.try_embed_tokens(cls, pos))
    }

    fn try_embed_tokens(self, cls: Option<Self>, pos: Option<Self>) -> Result<Self> {
        let x = self.value();
        let [n, c, h, w] = images(x.shape(), "an embedding of patches")?;
        let g = TokenGeom { n, c, l: h * w, first: usize::from(cls.is_some()) };
        if let Some(cls) = cls {
            expect_shape("the class token", &cls.shape(), &[1, 1, c])?;
        }
        if let Some(pos) = pos {
            expect_shape("the positions of tokens", &pos.shape(), &[1, g.tokens(), c])?;
        }
        let (front, place) = (cls.map(Var::value), pos.map(Var::value));
        let mut y = self.tape.take(g.tokens_len());
        embed_tokens(&g, slice(&x), front.as_ref().map(slice), place.as_ref().map(slice), &mut y);
        let inputs: Vec<Var<'t>> = [Some(self), cls, pos].into_iter().flatten().collect();
        let (at_cls, at_pos) = (cls.map(|_| 1), pos.map(|_| 1 + g.first));
        Ok(self.tape.node("embed_tokens", tensor(&[n, g.tokens(), c], y), &inputs, move |dy, grads| {
            if grads.wants(0) {
                let mut dx = grads.pool.take(g.planes_len());
                token_planes(&g, &dy, &mut dx);
                grads.add(0, dx);
            }
            if [at_cls, at_pos].into_iter().flatten().any(|i| grads.wants(i)) {
                // The sum over the batch; that of the class token is its first row.
                let mut sums = grads.pool.take(g.tokens() * c);
                col_sums(&dy, 0.0, &mut sums);
                if let Some(i) = at_cls {
                    let mut dcls = grads.pool.take(c);
                    dcls.copy_from_slice(&sums[..c]);
                    grads.add(i, dcls);
                }
                match at_pos {
                    Some(i) => grads.add(i, sums),
                    None => grads.pool.give(sums),
                }
            }
            grads.pool.give(dy);
        }))
    }

    /// Tokens [N, T, C] as images [N, C, H, W] of the last H W of them; those in front are left out.
    pub fn token_planes(self, size: [usize; 2]) -> Self {
        self.attempt(|| self.try_token_planes(size))
    }

    fn try_token_planes(self, size: [usize; 2]) -> Result<Self> {
        let y = self.value();
        let [n, t, c] = tokens(y.shape())?;
        let [h, w] = size;
        let Some(first) = t.checked_sub(h * w) else {
            return Err(Error::invalid(format!("{t} tokens do not fill images of {h} x {w}")));
        };
        let g = TokenGeom { n, c, l: h * w, first };
        let mut x = self.tape.take(g.planes_len());
        token_planes(&g, slice(&y), &mut x);
        Ok(self.tape.node("token_planes", tensor(&[n, c, h, w], x), &[self], move |dx, grads| {
            let mut dy = grads.pool.take(g.tokens_len());
            embed_tokens(&g, &dx, None, None, &mut dy);
            grads.pool.give(dx);
            grads.add(0, dy);
        }))
    }

    /// The mean of all tokens but the `first` ones: [N, T, C] to [N, C].
    pub fn token_mean(self, first: usize) -> Self {
        self.attempt(|| self.try_token_mean(first))
    }

    fn try_token_mean(self, first: usize) -> Result<Self> {
        let x = self.value();
        let [n, t, c] = tokens(x.shape())?;
        let Some(l) = t.checked_sub(first).filter(|l| *l > 0) else {
            return Err(Error::invalid(format!("no mean of {t} tokens without the first {first}")));
        };
        let g = TokenGeom { n, c, l, first };
        let mut y = self.tape.take(n * c);
        token_mean(&g, slice(&x), &mut y);
        Ok(self.tape.node("token_mean", tensor(&[n, c], y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.tokens_len());
            token_mean_backward(&g, &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}

/// The three sizes of a batch of sequences.
pub(super) fn tokens(shape: &[usize]) -> Result<[usize; 3]> {
    <[usize; 3]>::try_from(shape).map_err(|_| {
        Error::invalid(format!("tokens have the shape [N, T, C], got an input of shape {shape:?}"))
    })
}
