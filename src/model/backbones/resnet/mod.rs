//! Residual networks as in MMPretrain: ResNet (He et al. 2015, <https://arxiv.org/abs/1512.03385>) of basic blocks and
//! bottlenecks, ResNeXt (Xie et al. 2017, <https://arxiv.org/abs/1611.05431>), SE-ResNet (Hu et al. 2018,
//! <https://arxiv.org/abs/1709.01507>), wide ResNets (Zagoruyko and Komodakis 2016, <https://arxiv.org/abs/1605.07146>) and the
//! variants C and D of He et al. 2019 (<https://arxiv.org/abs/1812.01187>).

mod block;
mod config;
mod hr_fuse;
mod hrnet;
mod regnet;
mod res2net;
mod resnest;

pub use config::{BlockStyle, ResNetConfig};
pub use hr_fuse::{HRFuseScales, HRFuseScalesConfig};
pub use hrnet::{HRNet, HRNetArch, HRNetConfig, HRNetExtra, HRStageConfig, ResidualKind};
pub use regnet::{RegNet, RegNetArch, RegNetConfig};
pub use res2net::Res2NetConfig;
pub use resnest::ResNeStConfig;

use block::{BasicBlock, Bottleneck, Place, conv};
use config::Plan;

use super::common::{drop_path_rates, freeze};
use crate::base::Result;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{BatchNorm2d, BnThen, Conv2d, ConvModule, Forward, MaxPool2d, Module, Sequential, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// A type of the family: its name, and what it makes of the keys.
macro_rules! resnet {
    ($(#[doc = $doc:literal])+ $name:literal, $make:ident, |$p:ident| $net:expr) => {
        register! { $(#[doc = $doc])+ dyn Module, $name => fn $make }

        fn $make($p: ResNetConfig, _: &mut BuildCx) -> Result<ResNet> {
            $net
        }
    };
}

resnet!(
    /// A residual network of 18, 34, 50, 101 or 152 layers: features of 1/32 of the size.
    "ResNet", resnet, |p| ResNet::new(&p)
);
resnet!(
    /// A residual network for small images: a 3 × 3 stem that keeps the size, no pooling after it.
    "ResNet_CIFAR", resnet_cifar, |p| ResNet::cifar(&p)
);
resnet!(
    /// A residual network whose 3 × 3 convolutions are in groups: `groups` of `width_per_group` channels.
    "ResNeXt", resnext, |p| ResNet::new(&p.resnext())
);
resnet!(
    /// A residual network with squeeze and excitation in its blocks.
    "SEResNet", se_resnet, |p| ResNet::new(&p.squeeze())
);
resnet!(
    /// A ResNeXt with squeeze and excitation in its blocks.
    "SEResNeXt", se_resnext, |p| ResNet::new(&p.resnext().squeeze())
);
resnet!(
    /// A residual network with three 3 × 3 convolutions as its stem.
    "ResNetV1c", resnet_v1c, |p| ResNet::new(&p.deep_stem())
);
resnet!(
    /// A residual network with three 3 × 3 convolutions as its stem, and shortcuts that take means.
    "ResNetV1d", resnet_v1d, |p| ResNet::new(&p.avg_down())
);

/// Images to the features of the last stage, of 1/32 of the size: 512 channels, with bottlenecks 2048. [`ResNet::cifar`] is
/// the form for small images: 1/8 of the size, or 1/4 and 64 channels with three stages.
///
/// Weight names are MMPretrain's: `conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0`. 11,168,832 parameters with
/// depth 18 in the form for small images, 271,824 with depth 20.
///
/// ```
/// use shanty::model::{ResNet, ResNetConfig};
/// use shanty::params::{Info, Params};
///
/// let net = ResNet::cifar(&ResNetConfig::new(20))?;
/// let trained = |p: Info<'_>| if p.role.is_trained() { p.shape.iter().product() } else { 0 };
/// let mut count: usize = 0;
/// net.infos(&mut |p| count += trained(p));
/// assert_eq!(count, 271_824);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct ResNet {
    conv1: Option<Conv2d>,
    bn1: Option<BatchNorm2d>,
    stem: Option<Sequential>,
    layer1: Vec<Box<dyn Module>>,
    layer2: Vec<Box<dyn Module>>,
    layer3: Vec<Box<dyn Module>>,
    layer4: Vec<Box<dyn Module>>,
    maxpool: Option<MaxPool2d>,
    init: Vec<Init>,
}

module!(ResNet { conv1, bn1, stem, layer1, layer2, layer3, layer4 }, init_cfg = init);

impl ResNet {
    /// For large images: a stem of stride 2, then 3 × 3 max pooling of stride 2.
    ///
    /// # Errors
    /// When there is no such depth, or keys do not fit it.
    pub fn new(p: &ResNetConfig) -> Result<Self> {
        Self::with_stem(p, false)
    }

    /// For small images: a 3 × 3 stem of stride 1 and no pooling.
    ///
    /// # Errors
    /// When there is no such depth, or keys do not fit it.
    pub fn cifar(p: &ResNetConfig) -> Result<Self> {
        Self::with_stem(p, true)
    }

    fn with_stem(p: &ResNetConfig, small: bool) -> Result<Self> {
        let plan = p.plan(small)?;
        let (base, deep) = (plan.base, plan.bottleneck);
        Self::with_blocks(p, plan, small, |at| {
            Ok(if deep { Box::new(Bottleneck::new(p, base, at)?) } else { Box::new(BasicBlock::new(p, at)?) })
        })
    }

    /// A network of such blocks.
    fn with_blocks(
        p: &ResNetConfig,
        plan: Plan,
        small: bool,
        block: impl Fn(Place) -> Result<Box<dyn Module>>,
    ) -> Result<Self> {
        let (base, mut from) = (plan.base, plan.stem);
        let expansion = if plan.bottleneck { p.expansion.unwrap_or(4) } else { 1 };
        let mut rates = drop_path_rates(p.drop_path_rate, plan.blocks.iter().sum());
        let mut stages = Vec::new();
        for (i, blocks) in plan.blocks.iter().enumerate() {
            let inner = base.saturating_mul(1 << i);
            let to = inner.saturating_mul(expansion);
            let mut stage: Vec<Box<dyn Module>> = Vec::new();
            for j in 0..*blocks {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                let drop_path = rates.next().unwrap_or_default();
                let from = std::mem::replace(&mut from, to);
                stage.push(block(Place { from, inner, to, stride, first: j == 0, drop_path })?);
            }
            stages.push(stage);
        }
        let frozen: Vec<Vec<String>> = (0..=stages.len())
            .map(|i| match (i, p.deep_stem) {
                (0, true) => vec!["stem".into()],
                (0, false) => vec!["conv1".into(), "bn1".into()],
                _ => vec![format!("layer{i}")],
            })
            .collect();
        let mut stages = stages.into_iter();
        let mut stage = || stages.next().unwrap_or_default();
        let stride = if small { 1 } else { 2 };
        let plain = |kernel| conv(p.in_channels, plan.stem, kernel, stride, 1);
        let mut net = Self {
            conv1: (!p.deep_stem).then(|| plain(if small { 3 } else { 7 })).transpose()?,
            bn1: (!p.deep_stem).then(|| p.norm_cfg.build(plan.stem)),
            stem: p.deep_stem.then(|| deep_stem(p, plan.stem, stride)).transpose()?,
            layer1: stage(),
            layer2: stage(),
            layer3: stage(),
            layer4: stage(),
            maxpool: (!small).then(|| MaxPool2d::new(3).stride(2).padding(1)),
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        freeze(&mut net, &frozen, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }
}

/// Three 3 × 3 convolutions, the first of which has the stride.
fn deep_stem(p: &ResNetConfig, to: usize, stride: usize) -> Result<Sequential> {
    let half = (to / 2).max(1);
    let conv = |from, to| ConvModule::of(from, to, 3).norm(p.norm_cfg);
    Ok(Sequential::new()
        .with(conv(p.in_channels, half).stride(stride).build()?)
        .with(conv(half, half).build()?)
        .with(conv(half, to).build()?))
}

impl Module for ResNet {
    fn forward<'t>(&mut self, mut x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if let (Some(conv1), Some(bn1)) = (&mut self.conv1, &mut self.bn1) {
            x = conv1.forward(x, cx)?;
            x = bn1.forward_then(x, BnThen { add: None, relu: BnThen::RELU }, cx)?;
        }
        if let Some(stem) = &mut self.stem {
            x = stem.forward(x, cx)?;
        }
        if let Some(pool) = &mut self.maxpool {
            x = pool.forward(x, cx)?;
        }
        let stages = [&mut self.layer1, &mut self.layer2, &mut self.layer3, &mut self.layer4];
        stages.into_iter().flatten().try_fold(x, |x, block| block.forward(x, cx))
    }
}
