//! Gated linear units: an axis is cut in two halves, and one decides what the other lets through.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::kernels::{Gate, gated, gated_backward};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

macro_rules! gated_unit {
    ($(#[doc = $doc:literal])+ $name:ident $registered:literal, $op:ident, $gate:expr) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct $name {
            /// The axis that is cut in halves; negative numbers count from the end.
            #[schemars(extend("x-unbounded" = true))]
            pub dim: isize,
        }

        module!($name {});

        impl $name {
            /// With halves of this axis.
            pub fn new(dim: isize) -> Self {
                Self { dim }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(-1)
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
                x.$op(self.dim).checked()
            }
        }

        register! { $(#[doc = $doc])+ dyn Module, $registered => $name }

        impl Var<'_> {
            $(#[doc = $doc])+
            pub fn $op(self, axis: isize) -> Self {
                self.attempt(|| self.gated(stringify!($op), $gate, axis))
            }
        }
    };
}

gated_unit!(
    /// `a · sigmoid(b)` for the halves a, b of an axis (Dauphin et al. 2016, <https://arxiv.org/abs/1612.08083>).
    GLU "GLU",
    glu,
    Gate::Sigmoid
);
gated_unit!(
    /// `a · sigmoid(a) · b` for the halves a, b of an axis (Shazeer 2020, <https://arxiv.org/abs/2002.05202>).
    SwiGLU "SwiGLU",
    swiglu,
    Gate::Swish
);

impl Var<'_> {
    fn gated(self, op: &'static str, gate: Gate, axis: isize) -> Result<Self> {
        let x = self.value();
        let axis = crate::nn::arithmetic::axis_of(op, x.shape(), axis)?;
        let mut shape = x.shape().to_vec();
        if !shape[axis].is_multiple_of(2) {
            return Err(Error::invalid(format!(
                "`{op}` cuts axis {axis} of shape {shape:?} in two halves, but its size is odd"
            )));
        }
        shape[axis] /= 2;
        let half = shape[axis..].iter().product();
        let mut y = self.tape.take(shape.iter().product());
        gated(gate, half, slice(&x), &mut y);
        Ok(self.tape.node(op, tensor(&shape, y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(x.len());
            gated_backward(gate, half, slice(&x), &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}
