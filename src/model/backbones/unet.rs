//! U-Net (Ronneberger et al. 2015, <https://arxiv.org/abs/1505.04597>) as in MMSegmentation.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::three;
use crate::base::{Error, Result};
use crate::nn::{ConvModule, Forward, MaxPool2d, Module, Sequential, Upsample, Var, set_norm_eval};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: UNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UNetConfig {
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels of the first stage, and of the output; doubled from stage to stage.
    #[schemars(range(min = 1, max = 65_536))]
    pub base_channels: usize,
    /// Sizes of the image that are looked at, each half of the one before.
    #[schemars(range(min = 2, max = 10))]
    pub num_stages: usize,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
}

impl Default for UNetConfig {
    fn default() -> Self {
        Self { in_channels: three(), base_channels: 64, num_stages: 5, norm_eval: false }
    }
}

/// An encoder that halves the image from stage to stage, and a decoder that doubles it again and sees what the encoder saw
/// at that size: images [N, C, H, W] to features [N, base, H, W] for masks. Height and width are multiples of
/// 2^(stages − 1).
///
/// Weight names are MMSegmentation's: `encoder.0.0.convs.0.conv`, `encoder.1.1.convs.0.conv`,
/// `decoder.0.upsample.interp_upsample.1.conv`, `decoder.0.conv_block.convs.0.conv`.
pub struct UNet {
    encoder: Vec<Sequential>,
    decoder: Vec<UpConvBlock>,
}

module!(UNet { encoder, decoder });

register! { /// U-Net: features of the size of the image, for masks.
dyn Module, "UNet" => fn UNet::from_config }

impl UNet {
    fn from_config(p: UNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When it has less than two stages or more than ten.
    pub fn new(p: &UNetConfig) -> Result<Self> {
        if !(2..=10).contains(&p.num_stages) {
            return Err(Error::config(format!(
                "`num_stages: {}` of a UNet is between 2 and 10",
                p.num_stages
            )));
        }
        let width = |i: usize| p.base_channels.saturating_mul(1 << i);
        let (mut encoder, mut decoder) = (Vec::new(), Vec::new());
        for i in 0..p.num_stages {
            encoder.push(match i.checked_sub(1) {
                None => Sequential::new().with(ConvBlock::new(p.in_channels, width(0))?),
                Some(before) => {
                    decoder.push(UpConvBlock::new(width(i), width(before))?);
                    Sequential::new().with(MaxPool2d::new(2)).with(ConvBlock::new(width(before), width(i))?)
                }
            });
        }
        let mut net = Self { encoder, decoder };
        set_norm_eval(&mut net, p.norm_eval);
        Ok(net)
    }
}

impl Module for UNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (shape, step) = (x.shape(), 1 << self.decoder.len());
        if shape.len() != 4 || shape[2..].iter().any(|size| size % step != 0) {
            return Err(Error::invalid(format!(
                "a UNet of {} stages wants images whose height and width are multiples of {step}, got a batch of shape \
                 {shape:?}: pad or resize them",
                self.encoder.len()
            )));
        }
        let (mut seen, mut x) = (Vec::new(), x);
        for (i, stage) in self.encoder.iter_mut().enumerate() {
            x = cx.child(format_args!("encoder.{i}"), stage, x)?;
            seen.push(x);
        }
        for (i, stage) in self.decoder.iter_mut().enumerate().rev() {
            let up = cx.child(format_args!("decoder.{i}.upsample"), &mut stage.upsample, x)?;
            let both = x.tape().concat(&[seen[i], up], 1);
            x = cx.child(format_args!("decoder.{i}.conv_block"), &mut stage.conv_block, both)?;
        }
        Ok(x)
    }
}

/// Two 3 × 3 convolutions.
struct ConvBlock {
    convs: Sequential,
}

/// Twice the size, half the channels, and then what the encoder saw beside it.
struct UpConvBlock {
    conv_block: ConvBlock,
    upsample: InterpUpsample,
}

struct InterpUpsample {
    interp_upsample: Sequential,
}

module!(ConvBlock { convs });
module!(UpConvBlock { conv_block, upsample });
module!(InterpUpsample { interp_upsample });

impl ConvBlock {
    fn new(from: usize, to: usize) -> Result<Self> {
        let convs = Sequential::new().with(ConvModule::of(from, to, 3).build()?);
        Ok(Self { convs: convs.with(ConvModule::of(to, to, 3).build()?) })
    }
}

impl UpConvBlock {
    fn new(from: usize, to: usize) -> Result<Self> {
        let upsample = Sequential::new().with(Upsample::scale(2.0).bilinear(false));
        let upsample =
            InterpUpsample { interp_upsample: upsample.with(ConvModule::of(from, to, 1).build()?) };
        Ok(Self { conv_block: ConvBlock::new(to.saturating_mul(2), to)?, upsample })
    }
}

impl Module for ConvBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        cx.child("convs", &mut self.convs, x)
    }
}

impl Module for InterpUpsample {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        cx.child("interp_upsample", &mut self.interp_upsample, x)
    }
}
