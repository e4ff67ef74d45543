//! The gated feed-forward network of DINOv2 and EVA-02.

use crate::base::Result;
use crate::module;
use crate::nn::{Dropout, Forward, LayerNorm, LayerScale, Linear, Module, Var};

/// `w3(norm(silu(a) · b))`, where `w12` gives `a` and `b` side by side (Shazeer 2020, <https://arxiv.org/abs/2002.05202>).
pub(super) struct SwiGluFfn {
    pub w12: Linear,
    pub norm: Option<LayerNorm>,
    pub w3: Linear,
    pub gamma2: Option<LayerScale>,
    pub dropout: Dropout,
}

module!(SwiGluFfn { w12, norm, w3, gamma2, dropout as "dropout_layer" });

impl SwiGluFfn {
    /// From `dims` to `inner` features and back, with offsets.
    pub fn new(dims: usize, inner: usize) -> Self {
        Self {
            w12: Linear::new(dims, inner.saturating_mul(2)),
            norm: None,
            w3: Linear::new(inner, dims),
            gamma2: None,
            dropout: Dropout::new(0.0),
        }
    }
}

impl Module for SwiGluFfn {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [gate, value] = cx.child("w12", &mut self.w12, x)?.chunk(-1);
        let mut x = gate.silu() * value;
        if let Some(norm) = &mut self.norm {
            x = cx.child("norm", norm, x)?;
        }
        x = cx.child("w3", &mut self.w3, x)?;
        if let Some(gamma2) = &mut self.gamma2 {
            x = cx.child("gamma2", gamma2, x)?;
        }
        self.dropout.forward(x, cx)
    }
}
