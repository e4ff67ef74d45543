//! Convolution of images.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{ConvOptions, Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{parts, register};

use super::pair::{non_negative, positive};
use super::{Pair, initial, one, zero};

/// What a [`Conv2d`] is made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Conv2dParams {
    /// Channels of the input.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub in_channels: usize,
    /// Channels of the output.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub out_channels: usize,
    /// Size of the kernel, one number or [vertical, horizontal].
    #[schemars(schema_with = "positive")]
    pub kernel_size: Pair,
    /// Step of the kernel.
    #[serde(default = "super::one")]
    #[schemars(schema_with = "positive")]
    pub stride: Pair,
    /// Zeros added on each side.
    #[serde(default = "super::zero")]
    #[schemars(schema_with = "non_negative")]
    pub padding: Pair,
    /// Distance of two taps of the kernel.
    #[serde(default = "super::one")]
    #[schemars(schema_with = "positive")]
    pub dilation: Pair,
    /// Groups of channels that do not see each other; both numbers of channels are multiples of it.
    #[serde(default = "one_group")]
    #[schemars(range(min = 1))]
    pub groups: usize,
    /// Whether an offset is added to each output channel.
    #[serde(default = "super::yes")]
    pub bias: bool,
}

fn one_group() -> usize {
    1
}

impl Conv2dParams {
    /// Stride 1, no padding, no dilation, one group, with bias.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: impl Into<Pair>) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel_size: kernel_size.into(),
            stride: one(),
            padding: zero(),
            dilation: one(),
            groups: 1,
            bias: true,
        }
    }
}

/// Convolution (cross-correlation, as in PyTorch) of images [N, C, H, W] to [N, K, H', W'],
/// H' = (H + 2 padding − dilation (kernel − 1) − 1) / stride + 1, rounded down.
///
/// Weights and bias begin uniform within ±1/√(C / groups · kH · kW), as in PyTorch.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// [K, C / groups, kH, kW].
    pub weight: Param,
    /// [K].
    pub bias: Option<Param>,
    options: ConvOptions,
}

parts!(Conv2d: "_ConvNd" { weight, bias }, groups = options.groups);

impl Conv2d {
    /// A layer of this make.
    ///
    /// # Errors
    /// When the groups do not divide both numbers of channels, or a size is 0.
    pub fn new(p: &Conv2dParams) -> Result<Self> {
        let (c, k, groups) = (p.in_channels, p.out_channels, p.groups);
        if groups == 0 || c % groups != 0 || k % groups != 0 {
            return Err(Error::config(format!(
                "{groups} groups do not divide {c} input and {k} output channels"
            )));
        }
        for (name, Pair(pair)) in
            [("kernel_size", p.kernel_size), ("stride", p.stride), ("dilation", p.dilation)]
        {
            if pair.contains(&0) {
                return Err(Error::config(format!("{name} must be at least 1, got {pair:?}")));
            }
        }
        let Pair([kh, kw]) = p.kernel_size;
        let fan_in = (c / groups).saturating_mul(kh).saturating_mul(kw);
        Ok(Self {
            weight: initial(&[k, c / groups, kh, kw], fan_in),
            bias: p.bias.then(|| initial(&[k], fan_in)),
            options: ConvOptions { stride: p.stride.0, padding: p.padding.0, dilation: p.dilation.0, groups },
        })
    }

    /// Stride, padding, dilation and groups.
    pub fn options(&self) -> ConvOptions {
        self.options
    }
}

impl Module for Conv2d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        x.conv2d(tape.param(&self.weight), self.bias.as_ref().map(|b| tape.param(b)), self.options)
    }
}

register! { /// Convolution of images.
dyn Module, "Conv2d" => |p: Conv2dParams, _: &mut BuildCx| -> Result<Box<dyn Module>> { Ok(Box::new(Conv2d::new(&p)?)) } }
