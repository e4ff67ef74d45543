//! The inverted residual block of MobileNetV3 and EfficientNet (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>).

use crate::base::Result;
use crate::kernels::Act;
use crate::module;
use crate::nn::{ConvModule, ConvNormConfig, DropPath, Forward, Module, SELayer, Var};

/// Channels, kernel, stride, activation and gate of an [`InvertedResidual`].
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub from: usize,
    pub inner: usize,
    pub to: usize,
    pub kernel: usize,
    pub stride: usize,
    pub act: Act,
    /// Numbers that squeeze and excitation squeezes the inner channels to, and its two activations.
    pub squeeze: Option<(usize, [Act; 2])>,
    pub norm: ConvNormConfig,
    pub adaptive: bool,
    pub drop_path: f64,
}

/// A convolution of 1 × 1 to more channels, one of each channel alone, squeeze and excitation, and a convolution of 1 × 1
/// back, beside the input where sizes allow it.
///
/// Weight names are MMPretrain's: `expand_conv`, `depthwise_conv`, `se`, `linear_conv`.
pub(super) struct InvertedResidual {
    expand_conv: Option<ConvModule>,
    depthwise_conv: ConvModule,
    se: Option<SELayer>,
    linear_conv: ConvModule,
    drop_path: DropPath,
    residual: bool,
}

module!(InvertedResidual { expand_conv, depthwise_conv, se, linear_conv, drop_path });

impl InvertedResidual {
    pub fn new(s: Shape) -> Result<Self> {
        let expand = ConvModule::of(s.from, s.inner, 1).norm(s.norm).act(s.act);
        let depthwise = ConvModule::of(s.inner, s.inner, s.kernel).stride(s.stride).groups(s.inner);
        let linear = ConvModule::of(s.inner, s.to, 1).norm(s.norm).act(Act::Identity);
        Ok(Self {
            expand_conv: (s.inner != s.from).then(|| expand.build()).transpose()?,
            depthwise_conv: depthwise.norm(s.norm).act(s.act).adaptive(s.adaptive).build()?,
            se: s.squeeze.map(|(to, acts)| SELayer::with_acts(s.inner, to, acts)).transpose()?,
            linear_conv: linear.build()?,
            drop_path: DropPath::new(s.drop_path),
            residual: s.stride == 1 && s.from == s.to,
        })
    }
}

impl Module for InvertedResidual {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut y = x;
        if let Some(expand_conv) = &mut self.expand_conv {
            y = cx.child("expand_conv", expand_conv, y)?;
        }
        y = cx.child("depthwise_conv", &mut self.depthwise_conv, y)?;
        if let Some(se) = &mut self.se {
            y = cx.child("se", se, y)?;
        }
        y = cx.child("linear_conv", &mut self.linear_conv, y)?;
        if self.residual { (x + self.drop_path.forward(y, cx)?).checked() } else { Ok(y) }
    }
}
