//! Pooling layers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::kernels::{
    Act, PoolGeom, Slope, Window, avg_pool2d, avg_pool2d_backward, global_avg_pool, global_avg_pool_backward,
    max_pool2d, max_pool2d_backward,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::held::{Held, Owned};
use crate::nn::shapes::images;
use crate::nn::{Forward, Grads, Module, Var};
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
    #[serde(default = "crate::config::yes")]
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
register! { /// The mean of each channel: the neck between a convolutional backbone and a linear head.
dyn Module, "GlobalAveragePooling" => GlobalAveragePooling }

/// How a pooling window moves over an image; each pair is vertical, horizontal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Padding on each side: minus infinity for the maximum, zeros for the mean.
    pub padding: [usize; 2],
    /// Distance of two taps; only the maximum knows any but 1.
    pub dilation: [usize; 2],
    /// Whether a last window that only partly fits counts.
    pub ceil_mode: bool,
    /// Whether the mean divides by padded positions too.
    pub count_include_pad: bool,
}

impl PoolOptions {
    /// Windows side by side, without padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    fn geometry(&self, input: [usize; 4]) -> Result<PoolGeom> {
        let Self { kernel, stride, padding, dilation, .. } = *self;
        PoolGeom::new(input, Window { kernel, stride, padding, dilation }, self.ceil_mode)
    }
}

/// The slope of the activation whose output a pooling has read.
fn slope(before: &Option<(Act, Tensor)>) -> Option<Slope<'_>> {
    before.as_ref().map(|(act, y)| Slope { act: *act, saved: slice(y) })
}

impl Grads<'_> {
    /// Adds to the gradient of the only input, or of what is before it if the slope of that is in it.
    fn add_pooled(&mut self, sloped: bool, dx: Vec<Elem>) {
        if sloped { self.add_before(0, dx) } else { self.add(0, dx) }
    }
}

impl<'t> Var<'t> {
    /// The largest element of each window of `x` [N, C, H, W].
    pub fn max_pool2d(self, options: PoolOptions) -> Self {
        self.attempt(|| self.try_max_pool2d(options))
    }

    fn try_max_pool2d(self, options: PoolOptions) -> Result<Self> {
        let x = self.held();
        let input = images(x.shape(), "max pooling")?;
        let g = options.geometry(input)?;
        let mut y = self.tape.output(x.is_half(), g.y_len());
        let mut argmax = self.tape.with_pool(|pool| pool.indices.take(g.y_len()));
        max_pool2d(&g, x.numbers(), y.numbers(), &mut argmax);
        let y = y.held(&[input[0], input[1], g.out[0], g.out[1]]);
        if !self.requires_grad() {
            self.tape.with_pool(|pool| pool.indices.give(argmax));
            return Ok(self.tape.held_node("max_pool2d", y, &[], |_, _| ()));
        }
        let before = match x {
            Held::Full(x) => self.activation().map(|act| (act, x)),
            Held::Half(_) => None,
        };
        Ok(self.tape.held_node("max_pool2d", y, &[self], move |dy, grads| {
            let mut dx = grads.pool.take_owned(grads.is_half(0), g.x_len());
            let before = before.filter(|_| grads.is_alone(0));
            max_pool2d_backward(&g, dy.read(), &argmax, slope(&before), dx.numbers());
            grads.pool.indices.give(argmax);
            dy.recycle(grads.pool);
            match dx {
                Owned::Full(dx) => grads.add_pooled(before.is_some(), dx),
                half => grads.add_owned(0, half),
            }
        }))
    }

    /// The mean of each window of `x` [N, C, H, W].
    pub fn avg_pool2d(self, options: PoolOptions) -> Self {
        self.attempt(|| self.try_avg_pool2d(options))
    }

    fn try_avg_pool2d(self, options: PoolOptions) -> Result<Self> {
        let x = self.value();
        let input = images(x.shape(), "average pooling")?;
        let g = options.geometry(input)?;
        if options.dilation != [1, 1] {
            return Err(Error::invalid("average pooling knows no dilation"));
        }
        let include = options.count_include_pad;
        let mut y = self.tape.take(g.y_len());
        avg_pool2d(&g, include, slice(&x), &mut y);
        let y = tensor(&[input[0], input[1], g.out[0], g.out[1]], y);
        let before = self.activation().map(|act| (act, x));
        Ok(self.tape.node("avg_pool2d", y, &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.x_len());
            let before = before.filter(|_| grads.is_alone(0));
            avg_pool2d_backward(&g, include, &dy, slope(&before), &mut dx);
            grads.pool.give(dy);
            grads.add_pooled(before.is_some(), dx);
        }))
    }

    /// The mean over all axes behind the first two: [N, C, ..] to [N, C].
    pub fn global_avg_pool(self) -> Self {
        self.attempt(|| self.try_global_avg_pool())
    }

    fn try_global_avg_pool(self) -> Result<Self> {
        let x = self.value();
        let (&[n, c], inner) = x
            .shape()
            .split_at_checked(2)
            .and_then(|(head, tail)| Some((<&[usize; 2]>::try_from(head).ok()?, tail)))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "global average pooling wants an input of shape [N, C, ..], got {:?}",
                    x.shape()
                ))
            })?;
        let inner: usize = inner.iter().product();
        if inner == 0 {
            return Err(Error::invalid(format!(
                "global average pooling has nothing to average in shape {:?}",
                x.shape()
            )));
        }
        let mut y = self.tape.take(n * c);
        global_avg_pool(inner, slice(&x), &mut y);
        Ok(self.tape.node("global_avg_pool", tensor(&[n, c], y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(dy.len() * inner);
            global_avg_pool_backward(inner, &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}
