//! Convolution of images.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, memory};
use crate::kernels::{
    ConvGeom, LayerEpilogue, Window, channel_sums, conv2d, conv2d_backward_data, conv2d_backward_weight,
};
use crate::nn::buffer_pool::slice;
use crate::nn::pending::{Pending, ProductValue};
use crate::nn::shapes::{expect_shape, images};
use crate::nn::{Forward, Module, Param, Var, Work};
use crate::registry::BuildCx;
use crate::{module, register};

use super::pair::{non_negative, positive};
use super::{Pair, one, zero};

/// The keys of a [`Conv2d`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Conv2dConfig {
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
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
}

fn one_group() -> usize {
    1
}

impl Conv2dConfig {
    fn check(&self) -> Result<()> {
        let (c, k, groups) = (self.in_channels, self.out_channels, self.groups);
        if groups == 0 || c % groups != 0 || k % groups != 0 {
            return Err(Error::config(format!(
                "{groups} groups do not divide {c} input and {k} output channels"
            )));
        }
        for (name, Pair(pair)) in
            [("kernel_size", self.kernel_size), ("stride", self.stride), ("dilation", self.dilation)]
        {
            if pair.contains(&0) {
                return Err(Error::config(format!("{name} must be at least 1, got {pair:?}")));
            }
        }
        Ok(())
    }

    /// The layer.
    ///
    /// # Errors
    /// When the groups do not divide both numbers of channels, or a size is 0.
    pub fn build(&self) -> Result<Conv2d> {
        self.check()?;
        Ok(self.layer())
    }

    fn fan_in(&self) -> usize {
        let Pair([kh, kw]) = self.kernel_size;
        let per_group = self.in_channels.checked_div(self.groups).unwrap_or(0);
        per_group.saturating_mul(kh).saturating_mul(kw)
    }

    fn layer(&self) -> Conv2d {
        let (Pair([kh, kw]), k, fan_in) = (self.kernel_size, self.out_channels, self.fan_in());
        let per_group = self.in_channels.checked_div(self.groups).unwrap_or(0);
        Conv2d {
            weight: Param::fan_in(&[k, per_group, kh, kw], fan_in),
            bias: self.bias.then(|| Param::fan_in(&[k], fan_in)),
            config: self.clone(),
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
    /// `[K]`.
    pub bias: Option<Param>,
    config: Conv2dConfig,
}

module!(Conv2d: "_ConvNd" { weight, bias }, groups = config.groups);

impl Conv2d {
    /// Stride 1, no padding, no dilation, one group, with bias: `Conv2d::new(3, 16, 3).padding(1)`.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: impl Into<Pair>) -> Self {
        let (kernel_size, stride, padding, dilation) = (kernel_size.into(), one(), zero(), one());
        let groups = one_group();
        Conv2dConfig { in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: true }
            .layer()
    }

    /// The step of the kernel.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.config.stride = stride.into();
        self
    }

    /// Zeros added on each side.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.config.padding = padding.into();
        self
    }

    /// The distance of two taps of the kernel.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.config.dilation = dilation.into();
        self
    }

    /// Groups of channels that do not see each other. If they do not divide both numbers of channels, `forward` says
    /// so.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        Conv2dConfig { groups, ..self.config }.layer()
    }

    /// Whether an offset is added to each output channel; it is unless this says no.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.config.bias = bias;
        self.bias = bias.then(|| Param::fan_in(&[self.config.out_channels], self.config.fan_in()));
        self
    }

    /// Stride, padding, dilation and groups.
    pub fn options(&self) -> ConvOptions {
        let Conv2dConfig {
            stride: Pair(stride),
            padding: Pair(padding),
            dilation: Pair(dilation),
            groups,
            ..
        } = self.config;
        ConvOptions { stride, padding, dilation, groups }
    }
}

impl Module for Conv2d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        self.config.check()?;
        let (tape, options) = (x.tape(), self.options());
        x.conv2d(tape.param(&self.weight), self.bias.as_ref().map(|b| tape.param(b)), options).checked()
    }
}

register! { /// Convolution of images.
dyn Module, "Conv2d" => fn Conv2d::from_config }

impl Conv2d {
    fn from_config(p: Conv2dConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}

/// How a window moves over an image; each pair is vertical, horizontal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Step of the window.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// Distance of two taps of the kernel.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// The convolution of an input of this shape, with a weight and a bias of these.
fn geometry(x: &[usize], w: &[usize], b: Option<&[usize]>, options: ConvOptions) -> Result<ConvGeom> {
    let input = images(x, "a convolution")?;
    let &[k, per_group, kh, kw] = w else {
        return Err(Error::invalid(format!("the weight of a convolution has four axes, not shape {w:?}")));
    };
    let ConvOptions { stride, padding, dilation, groups } = options;
    if input[1] != per_group * groups {
        return Err(Error::invalid(format!(
            "a convolution of {} channels got an input of shape {input:?}: its second axis counts the channels",
            per_group * groups
        )));
    }
    let g = ConvGeom::new(input, k, Window { kernel: [kh, kw], stride, padding, dilation }, groups)?;
    if let Some(b) = b {
        expect_shape("the bias of a convolution", b, &[k])?;
    }
    let framed = [0, 1].map(|axis| input[axis + 2].saturating_add(padding[axis].saturating_mul(2)));
    let padded = [g.n, input[1], framed[0], framed[1]];
    memory::fits("the padded input of a convolution", &padded, size_of::<Elem>())?;
    memory::fits("the output of a convolution", &[g.n, g.k, g.out[0], g.out[1]], size_of::<Elem>())?;
    Ok(g)
}

impl<'t> Var<'t> {
    /// The convolution (cross-correlation, as PyTorch's) of `x` [N, C, H, W] with `weight` [K, C / groups, kH, kW] and
    /// `bias` of shape `[K]`.
    pub fn conv2d(self, weight: Self, bias: Option<Self>, options: ConvOptions) -> Self {
        self.attempt(|| self.try_conv2d(weight, bias, options))
    }

    fn try_conv2d(self, weight: Self, bias: Option<Self>, options: ConvOptions) -> Result<Self> {
        let (x, w, b) = (self.held(), weight.value(), bias.map(Var::value));
        let g = geometry(x.shape(), w.shape(), b.as_ref().map(|b| b.shape()), options)?;
        let work = Work::sums(g.y_len(), w.shape()[1..].iter().product());
        self.tape.worked(work);
        let shape = [g.n, g.k, g.out[0], g.out[1]];
        let run = {
            let x = x.clone();
            move |w: &[Elem], then: LayerEpilogue<'_>, y: &mut [Elem]| conv2d(&g, x.numbers(), w, then, y)
        };
        if self.tape.fuses {
            return Ok(self.tape.pending("conv2d", Pending::new(&shape, 1, w, b, run)));
        }
        let has_bias = b.is_some();
        // With a bias of its own it may be followed by an activation, without one by a norm, which reads bf16.
        let y = if has_bias && self.tape.keeps() {
            ProductValue::Waits(Box::new(Pending::new(&shape, 1, w.clone(), b, run)))
        } else {
            let half = !has_bias && g.is_bf16() && self.tape.holds_bf16(g.y_len());
            let mut y = self.tape.output(half, g.y_len());
            let then = LayerEpilogue { bias: b.as_ref().map(slice), ..LayerEpilogue::default() };
            conv2d(&g, x.numbers(), slice(&w), then, y.numbers());
            ProductValue::Held(y.held(&shape))
        };
        let inputs: &[Var<'t>] = match bias {
            Some(bias) => &[self, weight, bias],
            None => &[self, weight],
        };
        Ok(self.tape.product_node("conv2d", y, inputs, move |dy, grads| {
            if grads.wants(0) {
                let half = grads.is_half(0);
                let mut dx = grads.pool.take_owned(half, g.x_len());
                conv2d_backward_data(&g, dy.read(), slice(&w), dx.numbers());
                grads.worked(work);
                grads.add_owned(0, dx);
            }
            let mut db = (has_bias && grads.wants(2)).then(|| grads.pool.take(g.k));
            if grads.wants(1) {
                let mut dw = grads.pool.take(g.w_len());
                conv2d_backward_weight(&g, x.numbers(), dy.read(), 0.0, &mut dw, db.as_deref_mut());
                grads.worked(work);
                grads.add(1, dw);
            } else if let Some(db) = &mut db {
                channel_sums(g.n, g.k, g.out[0] * g.out[1], dy.read(), 0.0, db);
            }
            if let Some(db) = db {
                grads.add(2, db);
            }
            dy.recycle(grads.pool);
        }))
    }
}
