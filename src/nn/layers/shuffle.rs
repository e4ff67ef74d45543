//! Channels that change places with each other or with pixels.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::shapes::images;
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

/// Channels as pixels: [N, C r², H, W] to [N, C, H r, W r] (Shi et al. 2016, <https://arxiv.org/abs/1609.05158>).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, PixelShuffle, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 4, 1, 1], vec![1.0, 2.0, 3.0, 4.0]).unwrap());
/// let y = PixelShuffle::new(2).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?;
/// assert_eq!((y.shape(), y.value().as_slice().unwrap().to_vec()), (vec![1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PixelShuffle {
    /// By how much height and width grow.
    #[schemars(range(min = 1, max = 65_535))]
    pub upscale_factor: usize,
}

module!(PixelShuffle {});

impl PixelShuffle {
    /// By how much height and width grow.
    pub fn new(upscale_factor: usize) -> Self {
        Self { upscale_factor }
    }
}

impl Module for PixelShuffle {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.pixel_shuffle(self.upscale_factor).checked()
    }
}

/// Pixels as channels: [N, C, H r, W r] to [N, C r², H, W]; takes [`PixelShuffle`] back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PixelUnshuffle {
    /// By how much height and width shrink.
    #[schemars(range(min = 1, max = 65_535))]
    pub downscale_factor: usize,
}

module!(PixelUnshuffle {});

impl PixelUnshuffle {
    /// By how much height and width shrink.
    pub fn new(downscale_factor: usize) -> Self {
        Self { downscale_factor }
    }
}

impl Module for PixelUnshuffle {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.pixel_unshuffle(self.downscale_factor).checked()
    }
}

/// The channels of `groups` groups by turns, so that the next grouped convolution sees all groups: [N, C, ..] to the same
/// shape (Zhang et al. 2018, <https://arxiv.org/abs/1707.01083>).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, ChannelShuffle, Forward, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_fn(vec![1, 9, 1, 1], |i| i[1] as f32));
/// let y = ChannelShuffle::new(3).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?;
/// assert_eq!(y.value().as_slice().unwrap(), [0.0, 3.0, 6.0, 1.0, 4.0, 7.0, 2.0, 5.0, 8.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ChannelShuffle {
    /// Groups of channels.
    #[schemars(range(min = 1))]
    pub groups: usize,
}

module!(ChannelShuffle {});

impl ChannelShuffle {
    /// Groups of channels.
    pub fn new(groups: usize) -> Self {
        Self { groups }
    }
}

impl Module for ChannelShuffle {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.channel_shuffle(self.groups).checked()
    }
}

/// One of `chunks` equal parts of the channels: [N, C, ..] to [N, C / chunks, ..]. ShuffleNetV2 splits the channels of a
/// unit into two branches (Ma et al. 2018, <https://arxiv.org/abs/1807.11164>).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, ChannelSplit, Forward, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_fn(vec![1, 4, 1, 1], |i| i[1] as f32));
/// let y = ChannelSplit::new(2, 1).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?;
/// assert_eq!(y.value().as_slice().unwrap(), [2.0, 3.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChannelSplit {
    /// Parts of equal size.
    #[schemars(range(min = 1))]
    pub chunks: usize,
    /// The part that is passed on, counted from 0.
    #[schemars(range(min = 0))]
    pub index: usize,
}

module!(ChannelSplit {});

impl ChannelSplit {
    /// Part `index` of `chunks`.
    pub fn new(chunks: usize, index: usize) -> Self {
        Self { chunks, index }
    }
}

impl Default for ChannelSplit {
    fn default() -> Self {
        Self::new(2, 0)
    }
}

impl Module for ChannelSplit {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let size = parts("ChannelSplit", "chunks", &x.shape(), self.chunks)?;
        if self.index >= self.chunks {
            return Err(Error::invalid(format!(
                "ChannelSplit has {} chunks, and no chunk {}: they are counted from 0",
                self.chunks, self.index
            )));
        }
        x.slice(1, self.index * size..(self.index + 1) * size).checked()
    }
}

register! { /// Channels as pixels: images that grow by a factor.
dyn Module, "PixelShuffle" => PixelShuffle }
register! { /// Pixels as channels: images that shrink by a factor.
dyn Module, "PixelUnshuffle" => PixelUnshuffle }
register! { /// The channels of several groups by turns.
dyn Module, "ChannelShuffle" => ChannelShuffle }
register! { /// One of several equal parts of the channels.
dyn Module, "ChannelSplit" => ChannelSplit }

/// The channels of one of `count` equal parts.
fn parts(layer: &str, key: &str, shape: &[usize], count: usize) -> Result<usize> {
    match shape {
        [_, c, ..] if count > 0 && c.is_multiple_of(count) => Ok(c / count),
        [_, c, ..] => {
            Err(Error::invalid(format!("{layer}: {c} channels cannot be cut into {count} equal {key}")))
        }
        _ => Err(Error::invalid(format!("{layer} wants an input of shape [N, C, ..], got {shape:?}"))),
    }
}

impl<'t> Var<'t> {
    /// [N, C r², H, W] to [N, C, H r, W r]: element (h r + i, w r + j) of a channel comes from channel c r² + i r + j.
    pub fn pixel_shuffle(self, factor: usize) -> Self {
        self.attempt(|| {
            let [n, c, h, w] = images(&self.shape(), "PixelShuffle")?;
            let Some(square) = factor.checked_mul(factor).filter(|s| *s > 0 && c.is_multiple_of(*s)) else {
                return Err(Error::invalid(format!(
                    "PixelShuffle by {factor} needs a multiple of its square as channels, got an input of shape {:?}",
                    self.shape()
                )));
            };
            let parts = self.reshape(&[n, c / square, factor, factor, h, w]).permute(&[0, 1, 4, 2, 5, 3]);
            Ok(parts.reshape(&[n, c / square, h * factor, w * factor]))
        })
    }

    /// [N, C, H r, W r] to [N, C r², H, W], the way back of [`Var::pixel_shuffle`].
    pub fn pixel_unshuffle(self, factor: usize) -> Self {
        self.attempt(|| {
            let [n, c, h, w] = images(&self.shape(), "PixelUnshuffle")?;
            if factor == 0 || h % factor != 0 || w % factor != 0 {
                return Err(Error::invalid(format!(
                    "PixelUnshuffle by {factor} needs multiples of it as height and width, got an input of shape {:?}",
                    self.shape()
                )));
            }
            let (h, w) = (h / factor, w / factor);
            let parts = self.reshape(&[n, c, h, factor, w, factor]).permute(&[0, 1, 3, 5, 2, 4]);
            let Some(channels) = factor.checked_mul(factor).and_then(|square| c.checked_mul(square)) else {
                return Err(Error::invalid(format!("PixelUnshuffle by {factor} makes too many channels")));
            };
            Ok(parts.reshape(&[n, channels, h, w]))
        })
    }

    /// The channels of `groups` groups by turns: of [N, C, ..], channel g C / groups + i goes to i groups + g.
    pub fn channel_shuffle(self, groups: usize) -> Self {
        self.attempt(|| {
            let shape = self.shape();
            let size = parts("ChannelShuffle", "groups", &shape, groups)?;
            let inner: usize = shape[2..].iter().product();
            Ok(self.reshape(&[shape[0], groups, size, inner]).transpose(1, 2).reshape(&shape))
        })
    }
}
