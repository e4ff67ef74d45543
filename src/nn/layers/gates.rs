//! Layers that weigh the channels or places of an image by what they see in it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::kernels::Act;
use crate::nn::shapes::images;
use crate::nn::{BatchNorm2d, Conv1d, Conv2d, ConvModule, Flatten, Forward, Linear, Module, ReLU, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The multiple of `divisor` that is nearest to `value`, but not less than nine tenths of it (MobileNet's rule for
/// numbers of channels).
pub(crate) fn make_divisible(value: f64, divisor: usize) -> usize {
    let step = divisor.max(1) as f64;
    let nearest = ((value + step / 2.0) / step).floor().max(1.0) * step;
    (if nearest < 0.9 * value { nearest + step } else { nearest }) as usize
}

/// The keys of an [`SELayer`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SELayerConfig {
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Numbers that an image is squeezed to; `channels / ratio`, made divisible by `divisor`, if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub squeeze_channels: Option<usize>,
    /// By how much the channels are squeezed.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1))]
    pub ratio: usize,
    /// What the squeezed channels are a multiple of.
    #[serde(default = "eight")]
    #[schemars(range(min = 1))]
    pub divisor: usize,
}

fn sixteen() -> usize {
    16
}

fn eight() -> usize {
    8
}

/// Squeeze and excitation (Hu et al. 2018, <https://arxiv.org/abs/1709.01507>): each channel of an image times
/// `sigmoid(conv2(relu(conv1(mean of the channels))))`.
///
/// Weight names are MMPretrain's: `conv1.conv`, `conv2.conv`.
pub struct SELayer {
    conv1: ConvModule,
    conv2: ConvModule,
}

module!(SELayer { conv1, conv2 });

impl SELayer {
    /// Of `channels`, squeezed to so many, with ReLU and sigmoid.
    ///
    /// # Errors
    /// If a number is 0.
    pub fn new(channels: usize, squeezed: usize) -> Result<Self> {
        Self::with_acts(channels, squeezed, [Act::Relu, Act::Sigmoid])
    }

    /// With other activations behind the first and the second convolution.
    ///
    /// # Errors
    /// If a number is 0.
    pub fn with_acts(channels: usize, squeezed: usize, [act, gate]: [Act; 2]) -> Result<Self> {
        if channels == 0 || squeezed == 0 {
            return Err(Error::config("an SELayer needs at least one channel, squeezed too"));
        }
        let conv = |from, to, act| ConvModule::of(from, to, 1).norm(None).act(act).build();
        Ok(Self { conv1: conv(channels, squeezed, act)?, conv2: conv(squeezed, channels, gate)? })
    }

    fn from_config(p: SELayerConfig, _: &mut BuildCx) -> Result<Self> {
        let squeezed = make_divisible((p.channels / p.ratio.max(1)) as f64, p.divisor);
        Self::new(p.channels, p.squeeze_channels.unwrap_or(squeezed))
    }
}

impl SELayer {
    /// What the channels are multiplied by, [N, C, 1, 1].
    ///
    /// # Errors
    /// When the image has another number of channels.
    pub fn weights<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("conv1", &mut self.conv1, x.adaptive_avg_pool2d([1, 1]))?;
        cx.child("conv2", &mut self.conv2, y)
    }
}

impl Module for SELayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        (x * self.weights(x, cx)?).checked()
    }
}

/// The keys of an [`ECA`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ECAConfig {
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Channels that are looked at for each, an odd number; by the paper's rule, |(log2 C + 1) / 2| made odd, if
    /// absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    pub kernel_size: Option<usize>,
}

/// Efficient channel attention (Wang et al. 2020, <https://arxiv.org/abs/1910.03151>): each channel of an image times the
/// sigmoid of a convolution over the means of its neighbours. The weight is `conv`, of the shape [1, 1, kernel].
pub struct ECA {
    conv: Conv1d,
    channels: usize,
}

module!(ECA { conv });

impl ECA {
    /// Of so many channels, with the paper's size of the kernel.
    pub fn new(channels: usize) -> Self {
        let size = (((channels.max(1) as f64).log2() + 1.0) / 2.0) as usize;
        Self::with_kernel(channels, if size % 2 == 1 { size } else { size + 1 })
    }

    /// With a kernel of this size.
    fn with_kernel(channels: usize, size: usize) -> Self {
        Self { conv: Conv1d::new(1, 1, size).padding(size / 2).bias(false), channels }
    }

    fn from_config(p: ECAConfig, _: &mut BuildCx) -> Result<Self> {
        match p.kernel_size {
            Some(size) if size % 2 == 0 => Err(Error::config(format!(
                "`kernel_size: {size}` of ECA has no middle: it is an odd number, as {}",
                size + 1
            ))),
            Some(size) => Ok(Self::with_kernel(p.channels, size)),
            None => Ok(Self::new(p.channels)),
        }
    }
}

impl Module for ECA {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [n, c, ..] = images(&x.shape(), "ECA")?;
        if c != self.channels {
            return Err(Error::invalid(format!("ECA was made for {} channels, not for {c}", self.channels)));
        }
        let y = cx.child("conv", &mut self.conv, x.global_avg_pool().unsqueeze(1))?;
        (x * y.sigmoid().reshape(&[n, c, 1, 1])).checked()
    }
}

/// The keys of a [`CBAM`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CBAMConfig {
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub gate_channels: usize,
    /// By how much the channels are squeezed.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1))]
    pub reduction_ratio: usize,
    /// Whether the gate of the places is left out.
    #[serde(default)]
    pub no_spatial: bool,
}

/// The convolutional block attention module (Woo et al. 2018, <https://arxiv.org/abs/1807.06521>): first each channel times
/// the sigmoid of what two linear layers make of its mean and of its maximum, then each place times the sigmoid of a 7 × 7
/// convolution over the largest and the mean channel.
///
/// Weight names are those of the authors' code: `ChannelGate.mlp.{1,3}`, `SpatialGate.spatial.{conv,bn}`.
pub struct CBAM {
    channel: ChannelGate,
    spatial: Option<SpatialGate>,
}

struct ChannelGate {
    mlp: ChannelMlp,
}

struct ChannelMlp {
    flatten: Flatten,
    hidden: Linear,
    act: ReLU,
    out: Linear,
}

struct SpatialGate {
    spatial: ConvNorm,
}

struct ConvNorm {
    conv: Conv2d,
    bn: BatchNorm2d,
}

module!(CBAM { channel as "ChannelGate", spatial as "SpatialGate" });
module!(ChannelGate { mlp });
module!(ChannelMlp { flatten as "0", hidden as "1", act as "2", out as "3" });
module!(SpatialGate { spatial });
module!(ConvNorm { conv, bn });

impl CBAM {
    /// With both gates, the channels squeezed by this ratio.
    pub fn new(gate_channels: usize, reduction_ratio: usize) -> Self {
        let squeezed = (gate_channels / reduction_ratio.max(1)).max(1);
        let mlp = ChannelMlp {
            flatten: Flatten::new(),
            hidden: Linear::new(gate_channels, squeezed),
            act: ReLU::new(),
            out: Linear::new(squeezed, gate_channels),
        };
        let conv = Conv2d::new(2, 1, 7).padding(3).bias(false);
        let spatial = ConvNorm { conv, bn: BatchNorm2d::new(1).momentum(0.01) };
        Self { channel: ChannelGate { mlp }, spatial: Some(SpatialGate { spatial }) }
    }

    fn from_config(p: CBAMConfig, _: &mut BuildCx) -> Result<Self> {
        let both = Self::new(p.gate_channels, p.reduction_ratio);
        Ok(if p.no_spatial { Self { spatial: None, ..both } } else { both })
    }
}

impl Module for ChannelMlp {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("1", &mut self.hidden, x.flatten(1, -1))?;
        cx.child("3", &mut self.out, x.relu())
    }
}

impl Module for CBAM {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [n, c, ..] = images(&x.shape(), "CBAM")?;
        let mlp = &mut self.channel.mlp;
        let mean = cx.child("ChannelGate.mlp", mlp, x.global_avg_pool())?;
        let most = cx.child("ChannelGate.mlp", mlp, x.adaptive_max_pool2d([1, 1]))?;
        let x = x * (mean + most).sigmoid().reshape(&[n, c, 1, 1]);
        let Some(SpatialGate { spatial }) = &mut self.spatial else { return x.checked() };
        let seen = x.tape().concat(&[x.max_keepdim(&[1]), x.mean_keepdim(&[1])], 1);
        let y = cx.child("SpatialGate.spatial.conv", &mut spatial.conv, seen)?;
        let y = cx.child("SpatialGate.spatial.bn", &mut spatial.bn, y)?;
        (x * y.sigmoid()).checked()
    }
}

register! { /// Squeeze and excitation: channels are weighed by what two layers make of their means.
dyn Module, "SELayer" => fn SELayer::from_config }
register! { /// Efficient channel attention: channels are weighed by the means of their neighbours.
dyn Module, "ECA" => fn ECA::from_config }
register! { /// Convolutional block attention: channels are weighed first, then places.
dyn Module, "CBAM" => fn CBAM::from_config }

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that MMPretrain's `make_divisible` gives.
    #[test]
    fn channels_are_rounded_as_in_mobilenet() {
        let cases = [
            (4.0, 8, 8),
            (18.0, 8, 24),
            (16.0, 8, 16),
            (60.0, 8, 64),
            (11.0, 8, 16),
            (10.0, 1, 10),
            (72.0, 8, 72),
        ];
        for (value, divisor, wanted) in cases {
            assert_eq!(make_divisible(value, divisor), wanted, "{value} by {divisor}");
        }
    }
}
