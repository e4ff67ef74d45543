//! Convolution, batch norm and activation as one module.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::kernels::Act;
use crate::module;
use crate::nn::init::{Init, Kaiming};
use crate::nn::{
    BatchNorm2d, BnThen, ChildMut, Conv2d, Conv2dConfig, Forward, Module, ModuleTree, PadMode, Pair, Var,
};

/// `norm_cfg` of convolutional networks: `{type: BN, eps: 1e-3, momentum: 0.01}`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct ConvNormConfig {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: BatchNormName,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Weight of the newest batch in the running statistics.
    #[serde(default = "momentum")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Whether its factors and offsets are trained.
    #[serde(default = "crate::config::yes")]
    pub requires_grad: bool,
}

/// The norm of a [`ConvNormConfig`], under all of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum BatchNormName {
    /// The name in MMCV's registry.
    BN,
    /// The other name there.
    BN2d,
    /// The name of the class.
    BatchNorm2d,
    /// By the statistics of all processes that train together.
    SyncBN,
    /// The same by the name of an op of MMCV.
    MMSyncBN,
    /// The same by the name of the class.
    SyncBatchNorm,
}

fn eps() -> f64 {
    1e-5
}

fn momentum() -> f64 {
    0.1
}

impl Default for ConvNormConfig {
    /// PyTorch's batch norm.
    fn default() -> Self {
        Self { kind: BatchNormName::BN, eps: eps(), momentum: momentum(), requires_grad: true }
    }
}

impl ConvNormConfig {
    /// A norm of this many channels.
    pub fn build(&self, channels: usize) -> BatchNorm2d {
        use BatchNormName::{MMSyncBN, SyncBN, SyncBatchNorm};
        let sync = matches!(self.kind, SyncBN | MMSyncBN | SyncBatchNorm);
        let mut norm = BatchNorm2d::new(channels).eps(self.eps).momentum(self.momentum).sync(sync);
        norm.visit_children_mut(&mut |_, part| {
            if let ChildMut::Param(param) = part {
                param.trainable = self.requires_grad;
            }
        });
        norm
    }
}

/// How a [`ConvModule`] is made: see [`ConvModule::of`].
#[derive(Debug, Clone)]
pub struct ConvModuleOptions {
    conv: Conv2dConfig,
    norm: Option<ConvNormConfig>,
    act: Act,
    adaptive: bool,
    init: Vec<Init>,
}

/// A convolution, and in one call the batch norm and the activation that follow it (mmcv's ConvModule).
///
/// Weight names are mmcv's: `conv`, `bn`.
#[derive(Debug, Clone)]
pub struct ConvModule {
    /// The convolution; without an offset where a norm follows.
    pub conv: Conv2d,
    /// The norm.
    pub bn: Option<BatchNorm2d>,
    act: Act,
    /// Kernel and stride of a convolution whose input is padded by its size.
    adaptive: Option<[usize; 2]>,
    init: Vec<Init>,
}

module!(ConvModule { conv, bn }, init_cfg = init);

impl ConvModule {
    /// Begins one that keeps the size, with batch norm and ReLU: `ConvModule::of(16, 32, 3).stride(2).build()?`.
    pub fn of(in_channels: usize, out_channels: usize, kernel: usize) -> ConvModuleOptions {
        let conv = Conv2dConfig {
            in_channels,
            out_channels,
            kernel_size: kernel.into(),
            stride: Pair([1, 1]),
            padding: (kernel / 2).into(),
            dilation: Pair([1, 1]),
            groups: 1,
            bias: false,
        };
        let norm = Some(ConvNormConfig::default());
        ConvModuleOptions { conv, norm, act: Act::Relu, adaptive: false, init: Vec::new() }
    }
}

impl ConvModuleOptions {
    /// Another kernel, of unequal sides, and the zeros that its input is framed by.
    #[must_use]
    pub fn kernel(mut self, kernel: Pair, padding: Pair) -> Self {
        (self.conv.kernel_size, self.conv.padding) = (kernel, padding);
        self
    }

    /// The step of the kernel.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.conv.stride = stride.into();
        self
    }

    /// Into how many groups the channels are split.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.conv.groups = groups;
        self
    }

    /// How the convolution begins, whatever the network says: mmcv's begin by themselves.
    #[must_use]
    pub fn kaiming(mut self, rule: Kaiming) -> Self {
        self.init = vec![Init::new(rule).layer("Conv2d")];
        self
    }

    /// What comes last; nothing does with [`Act::Identity`].
    #[must_use]
    pub fn act(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// The norm; with `None` the convolution has an offset instead.
    #[must_use]
    pub fn norm(mut self, norm: impl Into<Option<ConvNormConfig>>) -> Self {
        self.norm = norm.into();
        self.conv.bias = self.norm.is_none();
        self
    }

    /// Whether the convolution has an offset, which it has not where a norm follows.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.conv.bias = bias;
        self
    }

    /// Whether the input is padded so that the output has size / stride places, rounded up, as in TensorFlow: at the
    /// end rather than at the front where an odd number of zeros is needed (mmcv's Conv2dAdaptivePadding).
    #[must_use]
    pub fn adaptive(mut self, adaptive: bool) -> Self {
        self.adaptive = adaptive;
        self
    }

    /// The module.
    ///
    /// # Errors
    /// When the groups do not divide both numbers of channels, or a size is 0.
    pub fn build(&self) -> Result<ConvModule> {
        let mut conv = self.conv.clone();
        let adaptive = self.adaptive.then_some([conv.kernel_size.0[0], conv.stride.0[0]]);
        if self.adaptive {
            conv.padding = Pair([0, 0]);
        }
        let bn = self.norm.map(|norm| norm.build(conv.out_channels));
        Ok(ConvModule { conv: conv.build()?, bn, act: self.act, adaptive, init: self.init.clone() })
    }
}

/// How many zeros an axis of this size lacks for a kernel to have size / stride places, rounded up.
fn lacking(size: usize, kernel: usize, stride: usize) -> isize {
    let covered = (size.div_ceil(stride.max(1)).max(1) - 1) * stride + kernel;
    covered.saturating_sub(size) as isize
}

/// Images with zeros on all sides, so that a convolution gives size / stride places, rounded up (mmcv's `padding: same`).
pub(crate) fn same_padding(x: Var<'_>, kernel: usize, stride: usize) -> Var<'_> {
    let &[_, _, h, w] = &x.shape()[..] else { return x };
    let [[top, bottom], [left, right]] = [h, w].map(|size| {
        let more = lacking(size, kernel, stride);
        [more / 2, more - more / 2]
    });
    x.pad(&[left, right, top, bottom], PadMode::Constant(0.0))
}

/// Images with zeros at their ends, so that a convolution gives size / stride places, rounded up (mmcv's `padding: corner`).
pub(crate) fn corner_padding(x: Var<'_>, kernel: usize, stride: usize) -> Var<'_> {
    let &[_, _, h, w] = &x.shape()[..] else { return x };
    match [h, w].map(|size| lacking(size, kernel, stride)) {
        [0, 0] => x,
        [bottom, right] => x.pad(&[0, right, 0, bottom], PadMode::Constant(0.0)),
    }
}

impl Module for ConvModule {
    fn forward<'t>(&mut self, mut x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if let Some([kernel, stride]) = self.adaptive {
            x = same_padding(x, kernel, stride);
        }
        let x = cx.child("conv", &mut self.conv, x)?;
        let relu = BnThen::relu_of(self.act);
        match &mut self.bn {
            Some(bn) => {
                let x = bn.forward_then(x, BnThen { add: None, relu }, cx)?;
                Ok(if relu.is_some() { x } else { x.activate(self.act) })
            }
            None => Ok(x.activate(self.act)),
        }
    }
}
