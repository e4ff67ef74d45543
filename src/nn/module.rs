//! What a layer does.

use std::any::Any;

use crate::base::{Result, Rng};
use crate::params::Params;

use super::{Parts, Var};

/// A layer or a network: parts with a name, and a way from one tensor to the next.
pub trait Module: Parts + Params + Any + Send {
    /// The output for `x`, recorded on the tape of `x`.
    ///
    /// # Errors
    /// When the input does not fit: number of axes, channels, size.
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>>;
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        (**self).forward(x, cx)
    }
}

/// What a forward pass is for.
pub struct Forward<'a> {
    /// Whether dropout drops and batch norm takes its statistics from the batch.
    pub training: bool,
    /// The stream of this pass, keyed by seed and iteration: layers draw from it in the order in which they are called.
    pub rng: &'a mut Rng,
}
