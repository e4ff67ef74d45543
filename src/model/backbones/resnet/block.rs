//! The blocks of residual networks.

use super::{BlockStyle, ResNetConfig};
use crate::base::Result;
use crate::model::backbones::common::begins_at_zero;
use crate::module;
use crate::nn::init::Init;
use crate::nn::{
    AvgPool2d, BatchNorm2d, BnThen, Conv2d, ConvModule, DropPath, Forward, Module, SELayer, Sequential, Var,
    make_divisible,
};

/// A convolution without offset (batch norm has one) that keeps the size but for its stride.
pub(super) fn conv(from: usize, to: usize, kernel: usize, stride: usize, groups: usize) -> Result<Conv2d> {
    Ok(ConvModule::of(from, to, kernel).stride(stride).groups(groups).norm(None).bias(false).build()?.conv)
}

/// Where a block stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Channels of its input.
    pub from: usize,
    /// Channels inside.
    pub inner: usize,
    /// Channels of its output.
    pub to: usize,
    pub stride: usize,
    /// Whether its stage begins with it.
    pub first: bool,
    /// Probability with which the block is left out in training.
    pub drop_path: f64,
}

impl Place {
    /// How the input gets to the sum: as it is, if nothing says otherwise.
    pub fn shortcut(self, p: &ResNetConfig) -> Result<Option<Sequential>> {
        if self.from == self.to && self.stride == 1 {
            return Ok(None);
        }
        let means = p.avg_down && self.stride != 1;
        let mut shortcut = Sequential::new();
        if means {
            let mean = AvgPool2d::new(self.stride).ceil_mode(true).count_include_pad(false);
            shortcut = shortcut.with(mean);
        }
        let stride = if means { 1 } else { self.stride };
        let shortcut = shortcut.with(conv(self.from, self.to, 1, stride, 1)?);
        Ok(Some(shortcut.with(p.norm_cfg.build(self.to))))
    }

    /// What leaves the block out, if anything does.
    pub fn drop_path(self) -> Option<DropPath> {
        (self.drop_path > 0.0).then(|| DropPath::new(self.drop_path))
    }
}

/// Two 3 × 3 convolutions beside a shortcut.
pub(super) struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Option<Sequential>,
    drop_path: Option<DropPath>,
    init: Vec<Init>,
}

module!(BasicBlock { conv1, bn1, conv2, bn2, downsample, drop_path }, init_cfg = init);

impl BasicBlock {
    pub fn new(p: &ResNetConfig, at: Place) -> Result<Self> {
        Ok(Self {
            conv1: conv(at.from, at.to, 3, at.stride, 1)?,
            bn1: p.norm_cfg.build(at.to),
            conv2: conv(at.to, at.to, 3, 1, 1)?,
            bn2: p.norm_cfg.build(at.to),
            downsample: at.shortcut(p)?,
            drop_path: at.drop_path(),
            init: if p.zero_init_residual { begins_at_zero("bn2") } else { Vec::new() },
        })
    }
}

impl Module for BasicBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shortcut = match &mut self.downsample {
            Some(downsample) => downsample.forward(x, cx)?,
            None => x,
        };
        let y = self.conv1.forward(x, cx)?;
        let y = self.bn1.forward_then(y, BnThen { add: None, relu: BnThen::RELU }, cx)?;
        let y = self.conv2.forward(y, cx)?;
        let Some(drop_path) = &mut self.drop_path else {
            return self.bn2.forward_then(y, BnThen { add: Some(shortcut), relu: BnThen::RELU }, cx);
        };
        let y = self.bn2.forward(y, cx)?;
        Ok((drop_path.forward(y, cx)? + shortcut).relu())
    }
}

/// A 3 × 3 convolution, in groups in a ResNeXt, between two of 1 × 1, beside a shortcut.
pub(super) struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Conv2d,
    bn3: BatchNorm2d,
    se_layer: Option<SELayer>,
    downsample: Option<Sequential>,
    drop_path: Option<DropPath>,
    init: Vec<Init>,
}

module!(Bottleneck { conv1, bn1, conv2, bn2, conv3, bn3, se_layer, downsample, drop_path }, init_cfg = init);

impl Bottleneck {
    pub fn new(p: &ResNetConfig, base: usize, at: Place) -> Result<Self> {
        let groups = p.groups.unwrap_or(1);
        let inner = if groups == 1 {
            at.inner
        } else {
            let width = groups.saturating_mul(p.width_per_group.unwrap_or(4));
            width.saturating_mul(at.inner) / base.max(1)
        };
        let (first, second) = if p.style == BlockStyle::Caffe { (at.stride, 1) } else { (1, at.stride) };
        let squeezed = |ratio: usize| make_divisible((at.to / ratio.max(1)) as f64, 8);
        Ok(Self {
            conv1: conv(at.from, inner, 1, first, 1)?,
            bn1: p.norm_cfg.build(inner),
            conv2: conv(inner, inner, 3, second, groups)?,
            bn2: p.norm_cfg.build(inner),
            conv3: conv(inner, at.to, 1, 1, 1)?,
            bn3: p.norm_cfg.build(at.to),
            se_layer: p.se_ratio.map(|ratio| SELayer::new(at.to, squeezed(ratio))).transpose()?,
            downsample: at.shortcut(p)?,
            drop_path: at.drop_path(),
            init: if p.zero_init_residual { begins_at_zero("bn3") } else { Vec::new() },
        })
    }
}

impl Module for Bottleneck {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shortcut = match &mut self.downsample {
            Some(downsample) => downsample.forward(x, cx)?,
            None => x,
        };
        let then = BnThen { add: None, relu: BnThen::RELU };
        let y = self.conv1.forward(x, cx)?;
        let y = self.bn1.forward_then(y, then, cx)?;
        let y = self.conv2.forward(y, cx)?;
        let y = self.bn2.forward_then(y, then, cx)?;
        let y = self.conv3.forward(y, cx)?;
        if self.se_layer.is_none() && self.drop_path.is_none() {
            return self.bn3.forward_then(y, BnThen { add: Some(shortcut), relu: BnThen::RELU }, cx);
        }
        let mut y = self.bn3.forward(y, cx)?;
        if let Some(se_layer) = &mut self.se_layer {
            y = se_layer.forward(y, cx)?;
        }
        if let Some(drop_path) = &mut self.drop_path {
            y = drop_path.forward(y, cx)?;
        }
        Ok((y + shortcut).relu())
    }
}
