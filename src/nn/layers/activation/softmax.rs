//! Probabilities along an axis, as layers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

macro_rules! along {
    ($(#[doc = $doc:literal])+ $name:ident $registered:literal, $op:ident) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        pub struct $name {
            /// The axis along which the probabilities sum to 1; negative numbers count from the end.
            #[schemars(extend("x-unbounded" = true))]
            pub dim: isize,
        }

        module!($name {});

        impl $name {
            /// Along this axis.
            pub fn new(dim: isize) -> Self {
                Self { dim }
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
                x.$op(self.dim).checked()
            }
        }

        register! { $(#[doc = $doc])+ dyn Module, $registered => $name }
    };
}

along!(
    /// `exp(x) / Σ exp(x)` along an axis.
    Softmax "Softmax",
    softmax
);
along!(
    /// The logarithm of the softmax along an axis.
    LogSoftmax "LogSoftmax",
    log_softmax
);
