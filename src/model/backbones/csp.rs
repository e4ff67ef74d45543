//! CSPNet (Wang et al. 2019, <https://arxiv.org/abs/1911.11929>) as in MMPretrain: CSP-Darknet, CSP-ResNet and CSP-ResNeXt.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Chain, three};
use crate::base::{Error, Result};
use crate::kernels::Act;
use crate::nn::init::{Init, Kaiming, Nonlinearity};
use crate::nn::{BatchNorm2d, Conv2d, ConvModule, Forward, MaxPool2d, Module, Var, set_norm_eval};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: CSPDarkNet, depth: 53}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CSPDarkNetConfig {
    /// Layers: 53.
    #[schemars(range(min = 53, max = 53))]
    pub depth: usize,
    /// Channels of the images.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    #[serde(default)]
    pub norm_eval: bool,
}

/// The keys of `{type: CSPResNet, depth: 50}` and `{type: CSPResNeXt, depth: 50}` in a config, and how a program says the
/// same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CSPResNetConfig {
    /// Layers: 50.
    #[schemars(range(min = 50, max = 50))]
    pub depth: usize,
    /// Channels of the images.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Whether three 3 × 3 convolutions are the stem, instead of one of 7 × 7 and a pooling.
    #[serde(default)]
    pub deep_stem: bool,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    #[serde(default)]
    pub norm_eval: bool,
}

/// Stages of which half of the channels go around the blocks: images to 1024 features of 1/32 of the size, 2048 of a
/// CSPResNeXt.
///
/// Weight names are MMPretrain's: `stem.conv`, `stages.0.expand_conv.conv`, `stages.0.blocks.0.conv1`,
/// `stages.0.atfer_blocks_conv.bn`. 27,642,184 parameters (CSPDarkNet), 21,616,168 (CSPResNet) and 20,569,896 (CSPResNeXt) with a
/// linear layer for 1000 classes.
pub struct CSPNet {
    layers: Chain,
    init: Vec<Init>,
}

module!(CSPNet { ..layers }, init_cfg = init);

register! { /// CSP-Darknet of YOLOv4: 1024 features of 1/32 of the size.
dyn Module, "CSPDarkNet" => fn CSPNet::darknet_from_config }
register! { /// A residual network half of whose channels go around the blocks: 1024 features of 1/32 of the size.
dyn Module, "CSPResNet" => fn CSPNet::resnet_from_config }
register! { /// The same of convolutions in groups: 2048 features of 1/32 of the size.
dyn Module, "CSPResNeXt" => fn CSPNet::resnext_from_config }

const LEAKY: Act = Act::LeakyRelu { slope: 0.01 };

fn conv(from: usize, to: usize, kernel: usize, stride: usize, groups: usize, act: Act) -> Result<ConvModule> {
    let options = ConvModule::of(from, to, kernel).stride(stride).groups(groups).act(act);
    let leaky = Kaiming { a: 0.01, nonlinearity: Nonlinearity::LeakyRelu, ..Kaiming::default() };
    options.kaiming(if act == LEAKY { leaky } else { Kaiming::default() }).build()
}

/// How a stage is made.
struct Stage {
    from: usize,
    to: usize,
    /// Channels that are split into halves.
    expanded: usize,
    blocks: usize,
    /// Groups, and channels, of the convolution to half the size; none if absent.
    down: Option<[usize; 2]>,
    kind: Kind,
}

/// What the blocks are.
#[derive(Clone, Copy)]
enum Kind {
    /// Two convolutions, with so many channels between them, and the stages' first one has an activation.
    Darknet(usize),
    /// Bottlenecks, with so many channels and groups inside.
    Residual([usize; 2]),
}

impl CSPNet {
    fn darknet_from_config(p: CSPDarkNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::darknet(&p)
    }

    fn resnet_from_config(p: CSPResNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::resnet(&p)
    }

    fn resnext_from_config(p: CSPResNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::resnext(&p)
    }

    /// CSP-Darknet.
    ///
    /// # Errors
    /// When there is no such depth.
    pub fn darknet(p: &CSPDarkNetConfig) -> Result<Self> {
        if p.depth != 53 {
            return Err(Error::config(format!("no CSPDarkNet has `depth: {}`: it is 53", p.depth)));
        }
        let stages = [1, 2, 8, 8, 4].into_iter().enumerate().map(|(i, blocks)| {
            let to = 64 << i;
            // The first stage is as wide inside as its output is for all others.
            let expanded = if i == 0 { 2 * to } else { to };
            let kind = Kind::Darknet(if i == 0 { expanded / 4 } else { expanded / 2 });
            Stage { from: to / 2, to, expanded, blocks, down: Some([1, to]), kind }
        });
        Self::new(conv(p.in_channels, 32, 3, 1, 1, LEAKY)?, stages, Vec::new(), p.norm_eval)
    }

    /// CSP-ResNet.
    ///
    /// # Errors
    /// When there is no such depth.
    pub fn resnet(p: &CSPResNetConfig) -> Result<Self> {
        let stages = [3, 3, 5, 2].into_iter().enumerate().map(|(i, blocks)| {
            let from = 64 << i;
            let kind = Kind::Residual([from, 1]);
            let down = (i > 0).then_some([1, from]);
            Stage { from, to: 2 * from, expanded: 4 * from, blocks, down, kind }
        });
        Self::residual(p, stages)
    }

    /// CSP-ResNeXt.
    ///
    /// # Errors
    /// When there is no such depth.
    pub fn resnext(p: &CSPResNetConfig) -> Result<Self> {
        let stages =
            [(3, 64), (3, 256), (5, 512), (2, 1024)].into_iter().enumerate().map(|(i, (blocks, from))| {
                let expanded = if i == 0 { 4 * from } else { 2 * from };
                let down = (i > 0).then_some([32, from]);
                let kind = Kind::Residual([expanded / 2, 32]);
                Stage { from, to: 256 << i, expanded, blocks, down, kind }
            });
        Self::residual(p, stages)
    }

    fn residual(p: &CSPResNetConfig, stages: impl Iterator<Item = Stage>) -> Result<Self> {
        if p.depth != 50 {
            return Err(Error::config(format!(
                "`depth: {}`, but there is a network of 50 layers alone",
                p.depth
            )));
        }
        let stem = match p.deep_stem {
            true => Chain::default()
                .with("0", conv(p.in_channels, 32, 3, 2, 1, LEAKY)?)
                .with("1", conv(32, 32, 3, 1, 1, LEAKY)?)
                .with("2", conv(32, 64, 3, 1, 1, LEAKY)?),
            false => Chain::default()
                .with("0", conv(p.in_channels, 64, 7, 2, 1, LEAKY)?)
                .with("1", MaxPool2d::new(3).stride(2).padding(1)),
        };
        Self::new(stem, stages, vec![Init::new(Kaiming::default()).layer("Conv2d")], p.norm_eval)
    }

    fn new(
        stem: impl Module,
        stages: impl Iterator<Item = Stage>,
        init: Vec<Init>,
        norm_eval: bool,
    ) -> Result<Self> {
        let mut all = Chain::default();
        for (i, stage) in stages.enumerate() {
            all = all.with(i.to_string(), CspStage::new(stage)?);
        }
        let layers = Chain::default().with("stem", stem).with("stages", all);
        let mut net = Self { layers, init };
        set_norm_eval(&mut net, norm_eval);
        Ok(net)
    }
}

impl Module for CSPNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// Half of the channels as they are beside the other half behind blocks.
struct CspStage {
    downsample_conv: Option<ConvModule>,
    expand_conv: ConvModule,
    blocks: Chain,
    behind: ConvModule,
    final_conv: ConvModule,
}

/// `x + conv2(conv1(x))`.
struct DarknetBlock {
    conv1: ConvModule,
    conv2: ConvModule,
}

/// A 3 × 3 convolution, in groups or not, between two of 1 × 1, beside its input.
struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Conv2d,
    bn3: BatchNorm2d,
}

// MMPretrain's files have this name for what comes after the blocks.
module!(CspStage { downsample_conv, expand_conv, blocks, behind as "atfer_blocks_conv", final_conv });
module!(DarknetBlock { conv1, conv2 });
module!(Bottleneck { conv1, bn1, conv2, bn2, conv3, bn3 });

impl CspStage {
    fn new(s: Stage) -> Result<Self> {
        let half = s.expanded / 2;
        let down = s.down.map(|[groups, to]| conv(s.from, to, 3, 2, groups, LEAKY)).transpose()?;
        let from = s.down.map_or(s.from, |[_, to]| to);
        let mut blocks = Chain::default();
        for i in 0..s.blocks {
            let name = i.to_string();
            blocks = match s.kind {
                Kind::Darknet(inner) => {
                    let conv1 = conv(half, inner, 1, 1, 1, LEAKY)?;
                    blocks.with(name, DarknetBlock { conv1, conv2: conv(inner, half, 3, 1, 1, LEAKY)? })
                }
                Kind::Residual(inner) => blocks.with(name, Bottleneck::new(half, inner)?),
            };
        }
        let first = if matches!(s.kind, Kind::Darknet(_)) { LEAKY } else { Act::Identity };
        Ok(Self {
            downsample_conv: down,
            expand_conv: conv(from, s.expanded, 1, 1, 1, first)?,
            blocks,
            behind: conv(half, half, 1, 1, 1, LEAKY)?,
            final_conv: conv(2 * half, s.to, 1, 1, 1, LEAKY)?,
        })
    }
}

impl Bottleneck {
    fn new(channels: usize, [inner, groups]: [usize; 2]) -> Result<Self> {
        let conv = |from, to, kernel, groups| -> Result<Conv2d> {
            let options = ConvModule::of(from, to, kernel).groups(groups).norm(None).bias(false);
            Ok(options.build()?.conv)
        };
        Ok(Self {
            conv1: conv(channels, inner, 1, 1)?,
            bn1: BatchNorm2d::new(inner),
            conv2: conv(inner, inner, 3, groups)?,
            bn2: BatchNorm2d::new(inner),
            conv3: conv(inner, channels, 1, 1)?,
            bn3: BatchNorm2d::new(channels),
        })
    }
}

impl Module for DarknetBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("conv1", &mut self.conv1, x)?;
        (cx.child("conv2", &mut self.conv2, y)? + x).checked()
    }
}

impl Module for Bottleneck {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let Self { conv1, bn1, conv2, bn2, conv3, bn3 } = self;
        let y = conv1.forward(x, cx)?;
        let y = bn1.forward(y, cx)?.activate(LEAKY);
        let y = conv2.forward(y, cx)?;
        let y = bn2.forward(y, cx)?.activate(LEAKY);
        let y = conv3.forward(y, cx)?;
        Ok((bn3.forward(y, cx)? + x).activate(LEAKY))
    }
}

impl Module for CspStage {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut y = x;
        if let Some(down) = &mut self.downsample_conv {
            y = cx.child("downsample_conv", down, y)?;
        }
        let [around, y] = cx.child("expand_conv", &mut self.expand_conv, y)?.chunk(1);
        let y = cx.child("blocks", &mut self.blocks, y)?;
        let y = cx.child("atfer_blocks_conv", &mut self.behind, y)?;
        let both = x.tape().concat(&[around, y], 1);
        cx.child("final_conv", &mut self.final_conv, both)
    }
}
