//! A learnt factor for each feature of a branch.

use crate::base::{Elem, Result};
use crate::module;
use crate::nn::{Forward, Module, Param, Var};

/// Each feature, of the last axis, times a learnt number that begins small, so that a deep network begins near its shortcuts
/// (Touvron et al. 2021, <https://arxiv.org/abs/2103.17239>).
pub struct LayerScale {
    /// `[D]`.
    pub weight: Param,
}

module!(LayerScale { weight });

impl LayerScale {
    /// Of so many features, which are multiplied by `first` at first.
    pub fn new(dims: usize, first: f64) -> Self {
        Self { weight: Param::full(&[dims], first as Elem) }
    }
}

impl Module for LayerScale {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        (x * x.tape().param(&self.weight)).checked()
    }
}
