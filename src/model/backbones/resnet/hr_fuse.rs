//! The neck that makes one map of HRNet's four (Wang et al. 2019, <https://arxiv.org/abs/1904.04514>), as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ResNetConfig;
use super::block::{Bottleneck, Place};
use crate::base::{Error, Result};
use crate::model::backbones::common::Chain;
use crate::nn::init::Kaiming;
use crate::nn::{ConvModule, ConvNormConfig, Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: HRFuseScales, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct HRFuseScalesConfig {
    /// Channels of the maps, the largest map first.
    #[schemars(length(min = 1, max = 4), inner(range(min = 1, max = 1_048_576)))]
    pub in_channels: Vec<usize>,
    /// Channels of the one map that comes of them.
    #[serde(default = "wide")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub out_channels: usize,
    /// The batch norms.
    #[serde(default)]
    pub norm_cfg: ConvNormConfig,
}

fn wide() -> usize {
    2048
}

/// The maps of an [`HRNet`](super::HRNet) made one: each is widened, halved and added to the next smaller one.
///
/// Weight names are MMPretrain's: `increase_layers.0.0.conv1`, `downsample_layers.0.conv`, `final_layer.bn`.
pub struct HRFuseScales {
    increase_layers: Vec<Chain>,
    downsample_layers: Vec<ConvModule>,
    final_layer: ConvModule,
}

module!(HRFuseScales { increase_layers, downsample_layers, final_layer });

register! { /// A neck that makes one map of HRNet's maps of several sizes.
dyn Module, "HRFuseScales" => fn HRFuseScales::from_config }

impl HRFuseScales {
    fn from_config(p: HRFuseScalesConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The neck that the config describes.
    ///
    /// # Errors
    /// When it is for no maps, or more than four.
    pub fn new(p: &HRFuseScalesConfig) -> Result<Self> {
        let n = p.in_channels.len();
        if !(1..=4).contains(&n) {
            return Err(Error::config(format!("`in_channels` names {n} maps: HRFuseScales takes 1 to 4")));
        }
        let blocks = ResNetConfig { zero_init_residual: false, ..ResNetConfig::new(50) };
        let (mut increase_layers, mut downsample_layers) = (Vec::new(), Vec::new());
        for (i, from) in p.in_channels.iter().enumerate() {
            let to = 128 << i;
            let at = Place { from: *from, inner: to / 4, to, stride: 1, first: true, drop_path: 0.0 };
            increase_layers.push(Chain::default().with("0", Bottleneck::new(&blocks, to / 4, at)?));
            if i + 1 < n {
                let down = ConvModule::of(to, 2 * to, 3).stride(2).norm(p.norm_cfg);
                downsample_layers.push(down.kaiming(Kaiming::default()).build()?);
            }
        }
        let last = ConvModule::of(64 << n, p.out_channels, 1).norm(p.norm_cfg);
        Ok(Self {
            increase_layers,
            downsample_layers,
            final_layer: last.kaiming(Kaiming::default()).build()?,
        })
    }
}

impl Module for HRFuseScales {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let n = self.increase_layers.len();
        if xs.len() != n {
            return Err(Error::invalid(format!(
                "HRFuseScales was made for {n} maps (`in_channels`), and gets {}: it stands behind the backbone HRNet, whose \
                 activations are not computed again",
                xs.len()
            )));
        }
        let mut sum: Option<Var<'t>> = None;
        for (i, (layer, x)) in self.increase_layers.iter_mut().zip(xs).enumerate() {
            let wide = cx.child(format_args!("increase_layers.{i}"), layer, *x)?;
            let y = sum.map_or(wide, |sum| sum + wide);
            sum = Some(match self.downsample_layers.get_mut(i) {
                Some(down) => cx.child(format_args!("downsample_layers.{i}"), down, y)?,
                None => y,
            });
        }
        let sum = sum.ok_or_else(|| Error::invalid("HRFuseScales gets no map"))?;
        cx.child("final_layer", &mut self.final_layer, sum)
    }

    fn takes_several(&self) -> bool {
        true
    }
}
