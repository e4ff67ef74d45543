//! Pooling of sequences: that of images one pixel high, without a copy.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

use super::PoolOptions;
use super::conv1d::as_images;

/// The largest element of each window of sequences [N, C, L].
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, MaxPool1d, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 1, 5], vec![1.0, 3.0, 2.0, 0.0, 4.0]).unwrap());
/// let rng = &mut keyed(0, "example", 0, 0);
/// let cx = &mut Forward::new(true, rng);
/// assert_eq!(MaxPool1d::new(2).forward(x, cx)?.value().as_slice().unwrap(), [3.0, 2.0]);
/// assert_eq!(MaxPool1d::new(2).ceil_mode(true).forward(x, cx)?.value().as_slice().unwrap(), [3.0, 2.0, 4.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct MaxPool1d {
    /// Size of the window.
    #[schemars(range(min = 1, max = 65_535))]
    pub kernel_size: usize,
    /// Step of the window; the size of the window if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    pub stride: Option<usize>,
    /// Padding by minus infinity on each side, at most half the window.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65_535))]
    pub padding: usize,
    /// Distance of two taps of the window.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65_535))]
    pub dilation: usize,
    /// Whether a last window that only partly fits counts.
    #[serde(default)]
    pub ceil_mode: bool,
}

fn one() -> usize {
    1
}

module!(MaxPool1d {});

impl MaxPool1d {
    /// Windows side by side, without padding.
    pub fn new(kernel_size: usize) -> Self {
        Self { kernel_size, stride: None, padding: 0, dilation: 1, ceil_mode: false }
    }

    /// The step of the window; its size unless given.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = Some(stride);
        self
    }

    /// Padding by minus infinity on each side, at most half the window.
    #[must_use]
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// The distance of two taps of the window.
    #[must_use]
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = dilation;
        self
    }

    /// Whether a last window that only partly fits counts.
    #[must_use]
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }
}

impl Module for MaxPool1d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let options = PoolOptions {
            stride: [1, self.stride.unwrap_or(self.kernel_size)],
            padding: [0, self.padding],
            dilation: [1, self.dilation],
            ceil_mode: self.ceil_mode,
            ..PoolOptions::new([1, self.kernel_size])
        };
        Ok(as_images(x, "MaxPool1d")?.max_pool2d(options).checked()?.squeeze(2))
    }
}

/// The mean of each window of sequences [N, C, L].
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{AvgPool1d, BufferPool, Forward, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 1, 4], vec![3.0, 6.0, 9.0, 12.0]).unwrap());
/// let rng = &mut keyed(0, "example", 0, 0);
/// let cx = &mut Forward::new(true, rng);
/// let pool = AvgPool1d::new(3).stride(2).padding(1);
/// assert_eq!(pool.clone().forward(x, cx)?.value().as_slice().unwrap(), [3.0, 9.0]);
/// let pool = &mut pool.count_include_pad(false);
/// assert_eq!(pool.forward(x, cx)?.value().as_slice().unwrap(), [4.5, 9.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct AvgPool1d {
    /// Size of the window.
    #[schemars(range(min = 1, max = 65_535))]
    pub kernel_size: usize,
    /// Step of the window; the size of the window if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    pub stride: Option<usize>,
    /// Padding by zeros on each side, at most half the window.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65_535))]
    pub padding: usize,
    /// Whether a last window that only partly fits counts.
    #[serde(default)]
    pub ceil_mode: bool,
    /// Whether the mean divides by padded positions too.
    #[serde(default = "crate::config::yes")]
    pub count_include_pad: bool,
}

module!(AvgPool1d {});

impl AvgPool1d {
    /// Windows side by side, without padding.
    pub fn new(kernel_size: usize) -> Self {
        Self { kernel_size, stride: None, padding: 0, ceil_mode: false, count_include_pad: true }
    }

    /// The step of the window; its size unless given.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = Some(stride);
        self
    }

    /// Padding by zeros on each side, at most half the window.
    #[must_use]
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
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

impl Module for AvgPool1d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let options = PoolOptions {
            stride: [1, self.stride.unwrap_or(self.kernel_size)],
            padding: [0, self.padding],
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
            ..PoolOptions::new([1, self.kernel_size])
        };
        Ok(as_images(x, "AvgPool1d")?.avg_pool2d(options).checked()?.squeeze(2))
    }
}

register! { /// The largest element of each window of a sequence.
dyn Module, "MaxPool1d" => MaxPool1d }
register! { /// The mean of each window of a sequence.
dyn Module, "AvgPool1d" => AvgPool1d }
