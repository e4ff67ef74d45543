//! Convolution of sequences: that of images one pixel high, without a copy.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use super::conv::ConvOptions;

/// The keys of a [`Conv1d`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Conv1dConfig {
    /// Channels of the input.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub in_channels: usize,
    /// Channels of the output.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub out_channels: usize,
    /// Size of the kernel.
    #[schemars(range(min = 1, max = 65_535))]
    pub kernel_size: usize,
    /// Step of the kernel.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65_535))]
    pub stride: usize,
    /// Zeros added on each side.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65_535))]
    pub padding: usize,
    /// Distance of two taps of the kernel.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65_535))]
    pub dilation: usize,
    /// Groups of channels that do not see each other; both numbers of channels are multiples of it.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub groups: usize,
    /// Whether an offset is added to each output channel.
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
}

fn one() -> usize {
    1
}

impl Conv1dConfig {
    fn check(&self) -> Result<()> {
        let (c, k, groups) = (self.in_channels, self.out_channels, self.groups);
        if groups == 0 || c % groups != 0 || k % groups != 0 {
            return Err(Error::config(format!(
                "{groups} groups do not divide {c} input and {k} output channels"
            )));
        }
        let sizes = [("kernel_size", self.kernel_size), ("stride", self.stride), ("dilation", self.dilation)];
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((name, _)) => Err(Error::config(format!("{name} must be at least 1, got 0"))),
            None => Ok(()),
        }
    }

    /// The layer.
    ///
    /// # Errors
    /// When the groups do not divide both numbers of channels, or a size is 0.
    pub fn build(&self) -> Result<Conv1d> {
        self.check()?;
        Ok(self.layer())
    }

    fn layer(&self) -> Conv1d {
        let per_group = self.in_channels.checked_div(self.groups).unwrap_or(0);
        let fan_in = per_group.saturating_mul(self.kernel_size);
        Conv1d {
            weight: Param::fan_in(&[self.out_channels, per_group, self.kernel_size], fan_in),
            bias: self.bias.then(|| Param::fan_in(&[self.out_channels], fan_in)),
            config: self.clone(),
        }
    }
}

/// Convolution (cross-correlation, as in PyTorch) of sequences [N, C, L] to [N, K, L'],
/// L' = (L + 2 padding − dilation (kernel − 1) − 1) / stride + 1, rounded down.
///
/// Weights and bias begin uniform within ±1/√(C / groups · kernel), as in PyTorch.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Conv1d, Forward, Module, Tape};
///
/// let mut conv = Conv1d::new(1, 1, 2).bias(false);
/// conv.weight.value.as_slice_mut().unwrap().copy_from_slice(&[-1.0, 1.0]);
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 1, 4], vec![0.0, 1.0, 4.0, 9.0]).unwrap());
/// let y = conv.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?;
/// assert_eq!(y.value().as_slice().unwrap(), [1.0, 3.0, 5.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv1d {
    /// [K, C / groups, kernel].
    pub weight: Param,
    /// `[K]`.
    pub bias: Option<Param>,
    config: Conv1dConfig,
}

module!(Conv1d: "_ConvNd" { weight, bias }, groups = config.groups);

impl Conv1d {
    /// Stride 1, no padding, no dilation, one group, with bias: `Conv1d::new(3, 16, 5).padding(2)`.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> Self {
        let (stride, padding, dilation, groups) = (1, 0, 1, 1);
        Conv1dConfig { in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: true }
            .layer()
    }

    /// The step of the kernel.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.config.stride = stride;
        self
    }

    /// Zeros added on each side.
    #[must_use]
    pub fn padding(mut self, padding: usize) -> Self {
        self.config.padding = padding;
        self
    }

    /// The distance of two taps of the kernel.
    #[must_use]
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.config.dilation = dilation;
        self
    }

    /// Groups of channels that do not see each other. If they do not divide both numbers of channels, `forward` says
    /// so.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        Conv1dConfig { groups, ..self.config }.layer()
    }

    /// Whether an offset is added to each output channel; it is unless this says no.
    #[must_use]
    pub fn bias(self, bias: bool) -> Self {
        Conv1dConfig { bias, ..self.config }.layer()
    }
}

impl Module for Conv1d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        self.config.check()?;
        let (tape, c) = (x.tape(), &self.config);
        let options = ConvOptions {
            stride: [1, c.stride],
            padding: [0, c.padding],
            dilation: [1, c.dilation],
            groups: c.groups,
        };
        x.conv1d(tape.param(&self.weight), self.bias.as_ref().map(|b| tape.param(b)), options).checked()
    }
}

register! { /// Convolution of sequences.
dyn Module, "Conv1d" => fn Conv1d::from_config }

impl Conv1d {
    fn from_config(p: Conv1dConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}

/// A sequence [N, C, L] as images one pixel high.
pub(super) fn as_images<'t>(x: Var<'t>, what: &str) -> Result<Var<'t>> {
    let shape = x.shape();
    if shape.len() == 3 {
        return Ok(x.unsqueeze(2));
    }
    Err(Error::invalid(format!("{what} wants sequences of shape [N, C, L], got an input of shape {shape:?}")))
}

impl<'t> Var<'t> {
    /// The convolution of `x` [N, C, L] with `weight` [K, C / groups, kernel] and `bias` of shape `[K]`; the second
    /// number of each pair of `options` counts.
    pub fn conv1d(self, weight: Self, bias: Option<Self>, options: ConvOptions) -> Self {
        self.attempt(|| {
            let x = as_images(self, "a convolution of sequences")?;
            let weight = as_images(weight, "the weight of a convolution of sequences")?;
            let y = x.conv2d(weight, bias, options).checked()?;
            let waiting = y.absorbed("squeeze", |product| product.squeezed(2));
            Ok(waiting.unwrap_or_else(|| y.squeeze(2)))
        })
    }
}
