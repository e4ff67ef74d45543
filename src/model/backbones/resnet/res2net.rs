//! Res2Net (Gao et al. 2019, <https://arxiv.org/abs/1904.01169>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::block::{Place, conv};
use super::config::Plan;
use super::{ResNet, ResNetConfig};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::model::backbones::common::{begins_at_zero, last_only, last_stage, none_frozen, three};
use crate::nn::init::Init;
use crate::nn::{
    AvgPool2d, BatchNorm2d, BnThen, Conv2d, ConvNormConfig, DropPath, Forward, Module, Sequential, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: Res2Net, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Res2NetConfig {
    /// Layers: 50, 101 or 152.
    #[schemars(range(min = 50, max = 152))]
    pub depth: usize,
    /// Into how many parts a block splits its channels, each of which sees the one before.
    #[schemars(range(min = 2, max = 1024))]
    pub scales: usize,
    /// Channels of a part in the first stage.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub base_width: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels behind the stem.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub stem_channels: usize,
    /// Channels inside the blocks of the first stage of a ResNet, doubled from stage to stage: four times as many come out.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub base_channels: usize,
    /// Whether three 3 × 3 convolutions are the stem, instead of one of 7 × 7.
    pub deep_stem: bool,
    /// Whether shortcuts take means instead of steps.
    pub avg_down: bool,
    /// Accepted if it is 4.
    #[schemars(range(min = 4, max = 4))]
    pub num_stages: usize,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Whether each block begins as its shortcut: the scale of its last batch norm is 0 at first.
    pub zero_init_residual: bool,
    /// The batch norms.
    pub norm_cfg: ConvNormConfig,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n stages; -1 none.
    #[schemars(range(min = -1, max = 4))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
}

impl Default for Res2NetConfig {
    fn default() -> Self {
        Self {
            depth: 50,
            scales: 4,
            base_width: 26,
            in_channels: three(),
            stem_channels: 64,
            base_channels: 64,
            deep_stem: true,
            avg_down: true,
            num_stages: 4,
            out_indices: last_stage(),
            zero_init_residual: true,
            norm_cfg: ConvNormConfig::default(),
            frozen_stages: none_frozen(),
            norm_eval: false,
            drop_path_rate: 0.0,
        }
    }
}

register! { /// A residual network whose blocks split their channels, and each part sees the one before.
dyn Module, "Res2Net" => fn ResNet::res2net_from_config }

impl ResNet {
    fn res2net_from_config(p: Res2NetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::res2net(&p)
    }

    /// A Res2Net: weight names are MMPretrain's, `layer1.0.convs.0`, `layer1.0.bns.0`.
    ///
    /// # Errors
    /// When there is no such depth, or the parts have no channels.
    pub fn res2net(p: &Res2NetConfig) -> Result<Self> {
        if p.num_stages != 4 {
            return Err(Error::config("a Res2Net has four stages: leave `num_stages` out"));
        }
        last_only(&p.out_indices, 4)?;
        let inner = ResNetConfig {
            in_channels: p.in_channels,
            stem_channels: Some(p.stem_channels),
            base_channels: Some(p.base_channels),
            deep_stem: p.deep_stem,
            norm_cfg: p.norm_cfg,
            frozen_stages: p.frozen_stages,
            norm_eval: p.norm_eval,
            drop_path_rate: p.drop_path_rate,
            ..ResNetConfig::new(p.depth)
        };
        if p.depth < 50 {
            return Err(Error::config(format!("no Res2Net has `depth: {}`: it is 50, 101 or 152", p.depth)));
        }
        let plan: Plan = inner.plan(false)?;
        Self::with_blocks(&inner, plan, false, |at| Ok(Box::new(Bottle2neck::new(p, at)?)))
    }
}

/// The channels in parts between two convolutions of 1 × 1, beside a shortcut. In the first block of a stage each part is
/// convolved alone and the last becomes means, in others each is added to what came of the one before and the last stays.
struct Bottle2neck {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    convs: Vec<Conv2d>,
    bns: Vec<BatchNorm2d>,
    conv3: Conv2d,
    bn3: BatchNorm2d,
    downsample: Option<Sequential>,
    drop_path: Option<DropPath>,
    pool: Option<AvgPool2d>,
    /// Channels of a part.
    width: usize,
    init: Vec<Init>,
}

module!(Bottle2neck { conv1, bn1, convs, bns, conv3, bn3, downsample, drop_path }, init_cfg = init);

impl Bottle2neck {
    fn new(p: &Res2NetConfig, at: Place) -> Result<Self> {
        let width = (at.inner as f64 * (p.base_width as f64 / p.base_channels as f64)).floor() as usize;
        let inner = width.saturating_mul(p.scales);
        let others = p.scales.saturating_sub(1);
        if width == 0 || others == 0 {
            return Err(Error::config(format!(
                "`base_width: {}` of {} `base_channels` in {} `scales` leaves parts without channels",
                p.base_width, p.base_channels, p.scales
            )));
        }
        let norm = |channels| p.norm_cfg.build(channels);
        Ok(Self {
            conv1: conv(at.from, inner, 1, 1, 1)?,
            bn1: norm(inner),
            convs: (0..others).map(|_| conv(width, width, 3, at.stride, 1)).collect::<Result<_>>()?,
            bns: (0..others).map(|_| norm(width)).collect(),
            conv3: conv(inner, at.to, 1, 1, 1)?,
            bn3: norm(at.to),
            downsample: shortcut(p, at)?,
            drop_path: at.drop_path(),
            pool: at.first.then(|| AvgPool2d::new(3).stride(at.stride).padding(1)),
            width,
            init: if p.zero_init_residual { begins_at_zero("bn3") } else { Vec::new() },
        })
    }
}

/// How the input gets to the sum. Means of single places stand in front of the convolution too.
fn shortcut(p: &Res2NetConfig, at: Place) -> Result<Option<Sequential>> {
    if !at.first || (at.stride == 1 && at.from == at.to) {
        return Ok(None);
    }
    let (mut shortcut, mut stride) = (Sequential::new(), at.stride);
    if p.avg_down {
        let mean = AvgPool2d::new(std::mem::replace(&mut stride, 1));
        shortcut = shortcut.with(mean.ceil_mode(true).count_include_pad(false));
    }
    Ok(Some(shortcut.with(conv(at.from, at.to, 1, stride, 1)?).with(p.norm_cfg.build(at.to))))
}

impl Module for Bottle2neck {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shortcut = match &mut self.downsample {
            Some(downsample) => downsample.forward(x, cx)?,
            None => x,
        };
        let then = BnThen { add: None, relu: BnThen::RELU };
        let y = self.conv1.forward(x, cx)?;
        let y = self.bn1.forward_then(y, then, cx)?;
        let mut parts = y.split(&vec![self.width; self.convs.len() + 1], 1);
        let mut before: Option<Var<'t>> = None;
        for ((conv, norm), part) in self.convs.iter_mut().zip(&mut self.bns).zip(&mut parts) {
            let seen = before.filter(|_| self.pool.is_none()).map_or(*part, |before| before + *part);
            let y = conv.forward(seen, cx)?;
            *part = norm.forward_then(y, then, cx)?;
            before = Some(*part);
        }
        if let (Some(pool), Some(last)) = (&mut self.pool, parts.last_mut()) {
            *last = pool.forward(*last, cx)?;
        }
        let y = self.conv3.forward(x.tape().concat(&parts, 1).checked()?, cx)?;
        let Some(drop_path) = &mut self.drop_path else {
            return self.bn3.forward_then(y, BnThen { add: Some(shortcut), relu: BnThen::RELU }, cx);
        };
        let y = self.bn3.forward(y, cx)?;
        Ok((drop_path.forward(y, cx)? + shortcut).relu())
    }
}
