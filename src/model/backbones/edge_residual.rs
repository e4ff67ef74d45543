//! The fused inverted residual block of EfficientNetV2 (Tan and Le 2021, <https://arxiv.org/abs/2104.00298>) and of
//! EfficientNet-EdgeTPU.

use super::inverted_residual::Shape;
use crate::base::Result;
use crate::kernels::Act;
use crate::module;
use crate::nn::{ConvModule, DropPath, Forward, Module, Var};

/// A convolution to more channels, and one of 1 × 1 back, beside the input where sizes allow it: an
/// [`InvertedResidual`](super::inverted_residual::InvertedResidual) whose first two convolutions are one.
///
/// Weight names are MMPretrain's: `conv1`, `conv2`.
pub(super) struct EdgeResidual {
    conv1: ConvModule,
    conv2: ConvModule,
    drop_path: DropPath,
    residual: bool,
}

module!(EdgeResidual { conv1, conv2, drop_path });

impl EdgeResidual {
    /// Without squeeze and excitation, whatever the shape says; beside its input only if `residual` says so too.
    pub fn new(s: Shape, residual: bool) -> Result<Self> {
        let wide = ConvModule::of(s.from, s.inner, s.kernel).stride(s.stride).norm(s.norm).act(s.act);
        let narrow = ConvModule::of(s.inner, s.to, 1).norm(s.norm).act(Act::Identity);
        Ok(Self {
            conv1: wide.adaptive(s.adaptive).build()?,
            conv2: narrow.build()?,
            drop_path: DropPath::new(s.drop_path),
            residual: residual && s.stride == 1 && s.from == s.to,
        })
    }
}

impl Module for EdgeResidual {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("conv1", &mut self.conv1, x)?;
        let y = cx.child("conv2", &mut self.conv2, y)?;
        if self.residual { (x + self.drop_path.forward(y, cx)?).checked() } else { Ok(y) }
    }
}
