//! Pooling layers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{Forward, Module, PoolOptions, Var};
use crate::{module, register};

use super::pair::{non_negative, optional_positive, positive};
use super::{Pair, one, zero};

fn two() -> usize {
    2
}

/// The largest element of each window of images [N, C, H, W].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct MaxPool2d {
    /// Size of the window, one number or [vertical, horizontal].
    #[schemars(schema_with = "positive")]
    pub kernel_size: Pair,
    /// Step of the window; the size of the window if absent.
    #[serde(default)]
    #[schemars(schema_with = "optional_positive")]
    pub stride: Option<Pair>,
    /// Padding by minus infinity on each side, at most half the window.
    #[serde(default = "super::zero")]
    #[schemars(schema_with = "non_negative")]
    pub padding: Pair,
    /// Distance of two taps of the window.
    #[serde(default = "super::one")]
    #[schemars(schema_with = "positive")]
    pub dilation: Pair,
    /// Whether a last window that only partly fits counts.
    #[serde(default)]
    pub ceil_mode: bool,
}

module!(MaxPool2d {});

impl MaxPool2d {
    /// Windows side by side, without padding.
    pub fn new(kernel_size: impl Into<Pair>) -> Self {
        Self {
            kernel_size: kernel_size.into(),
            stride: None,
            padding: zero(),
            dilation: one(),
            ceil_mode: false,
        }
    }
}

impl MaxPool2d {
    /// The step of the window; its size unless given.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = Some(stride.into());
        self
    }

    /// Padding by minus infinity on each side, at most half the window.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The distance of two taps of the window.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Whether a last window that only partly fits counts.
    #[must_use]
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }
}

impl Module for MaxPool2d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.max_pool2d(PoolOptions {
            stride: self.stride.unwrap_or(self.kernel_size).0,
            padding: self.padding.0,
            dilation: self.dilation.0,
            ceil_mode: self.ceil_mode,
            ..PoolOptions::new(self.kernel_size.0)
        })
        .checked()
    }
}

/// The mean of each window of images [N, C, H, W].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct AvgPool2d {
    /// Size of the window, one number or [vertical, horizontal].
    #[schemars(schema_with = "positive")]
    pub kernel_size: Pair,
    /// Step of the window; the size of the window if absent.
    #[serde(default)]
    #[schemars(schema_with = "optional_positive")]
    pub stride: Option<Pair>,
    /// Padding by zeros on each side, at most half the window.
    #[serde(default = "super::zero")]
    #[schemars(schema_with = "non_negative")]
    pub padding: Pair,
    /// Whether a last window that only partly fits counts.
    #[serde(default)]
    pub ceil_mode: bool,
    /// Whether the mean divides by padded positions too.
    #[serde(default = "super::yes")]
    pub count_include_pad: bool,
}

module!(AvgPool2d {});

impl AvgPool2d {
    /// Windows side by side, without padding.
    pub fn new(kernel_size: impl Into<Pair>) -> Self {
        Self {
            kernel_size: kernel_size.into(),
            stride: None,
            padding: zero(),
            ceil_mode: false,
            count_include_pad: true,
        }
    }
}

impl AvgPool2d {
    /// The step of the window; its size unless given.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = Some(stride.into());
        self
    }

    /// Padding by zeros on each side, at most half the window.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into();
        self
    }

    /// Whether a last window that only partly fits counts.
    #[must_use]
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Whether the mean divides by padded positions too; it does unless this says no.
    #[must_use]
    pub fn count_include_pad(mut self, count_include_pad: bool) -> Self {
        self.count_include_pad = count_include_pad;
        self
    }
}

impl Module for AvgPool2d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.avg_pool2d(PoolOptions {
            stride: self.stride.unwrap_or(self.kernel_size).0,
            padding: self.padding.0,
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
            ..PoolOptions::new(self.kernel_size.0)
        })
        .checked()
    }
}

/// The mean of each of `output_size` parts of images [N, C, H, W], whatever their size.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct AdaptiveAvgPool2d {
    /// Height and width of the output.
    #[serde(default = "super::one")]
    #[schemars(schema_with = "positive")]
    pub output_size: Pair,
}

module!(AdaptiveAvgPool2d {});

impl AdaptiveAvgPool2d {
    /// Height and width of the output.
    pub fn new(output_size: impl Into<Pair>) -> Self {
        Self { output_size: output_size.into() }
    }
}

impl Module for AdaptiveAvgPool2d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.adaptive_avg_pool2d(self.output_size.0).checked()
    }
}

/// The mean of each channel: [N, C, ..] to [N, C], the neck between a convolutional backbone and a linear head.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct GlobalAveragePooling {
    /// Axes behind the channels: 1 for sequences, 2 for images.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 3))]
    pub dim: usize,
}

module!(GlobalAveragePooling {});

impl GlobalAveragePooling {
    /// Of images.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of axes behind the channels: 1 for sequences, 2 for images.
    #[must_use]
    pub fn dim(mut self, dim: usize) -> Self {
        self.dim = dim;
        self
    }
}

impl Default for GlobalAveragePooling {
    fn default() -> Self {
        Self { dim: two() }
    }
}

impl Module for GlobalAveragePooling {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let shape = x.shape();
        if shape.len() != self.dim + 2 {
            return Err(Error::invalid(format!(
                "GlobalAveragePooling with `dim: {}` wants an input of {} axes, got shape {shape:?}",
                self.dim,
                self.dim + 2
            )));
        }
        x.global_avg_pool().checked()
    }
}

register! { /// The largest element of each window.
dyn Module, "MaxPool2d" => MaxPool2d }
register! { /// The mean of each window.
dyn Module, "AvgPool2d" => AvgPool2d }
register! { /// The mean of each of a given number of parts of an image.
dyn Module, "AdaptiveAvgPool2d" => AdaptiveAvgPool2d }
register! { /// The mean of each channel: the neck between a convolutional backbone and a linear head.
dyn Module, "GlobalAveragePooling" => GlobalAveragePooling }
