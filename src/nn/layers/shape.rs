//! Layers that compute nothing.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// Joins the axes `start_dim..=end_dim` into one: [N, C, H, W] to [N, C·H·W] by default.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Flatten {
    /// First axis that is joined; negative numbers count from the end.
    #[schemars(extend("x-unbounded" = true))]
    pub start_dim: isize,
    /// Last axis that is joined.
    #[schemars(extend("x-unbounded" = true))]
    pub end_dim: isize,
}

module!(Flatten {});

impl Flatten {
    /// All axes behind the first.
    pub fn new() -> Self {
        Self::default()
    }

    /// The axes from `start` to `end`; negative numbers count from the end.
    pub fn axes(start: isize, end: isize) -> Self {
        Self { start_dim: start, end_dim: end }
    }
}

impl Default for Flatten {
    fn default() -> Self {
        Self { start_dim: 1, end_dim: -1 }
    }
}

impl Module for Flatten {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.flatten(self.start_dim, self.end_dim).checked()
    }
}

/// The keys of a [`Transpose`] in YAML.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct TransposeConfig {
    /// One axis; negative numbers count from the end.
    #[serde(default = "first")]
    #[schemars(extend("x-unbounded" = true))]
    pub dim0: isize,
    /// The other one.
    #[serde(default = "second")]
    #[schemars(extend("x-unbounded" = true))]
    pub dim1: isize,
}

fn first() -> isize {
    1
}

fn second() -> isize {
    2
}

/// Exchanges two axes: [N, T, K] to [N, K, T], as the losses of classes want the scores of each step.
#[derive(Debug, Clone)]
pub struct Transpose {
    axes: [isize; 2],
}

module!(Transpose {});

impl Transpose {
    /// Of these two axes; negative numbers count from the end.
    pub fn new(dim0: isize, dim1: isize) -> Self {
        Self { axes: [dim0, dim1] }
    }

    fn from_config(p: TransposeConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::new(p.dim0, p.dim1))
    }
}

impl Module for Transpose {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.transpose(self.axes[0], self.axes[1]).checked()
    }
}

/// The input itself.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Identity {}

module!(Identity {});

impl Identity {
    /// The layer, which has nothing to set.
    pub fn new() -> Self {
        Self {}
    }
}

impl Module for Identity {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x)
    }
}

register! { /// Joins axes into one: [N, C, H, W] to [N, C·H·W] by default.
dyn Module, "Flatten" => Flatten }
register! { /// Exchanges two axes: [N, T, K] to [N, K, T] by default.
dyn Module, "Transpose" => fn Transpose::from_config }
register! { /// The input itself.
dyn Module, "Identity" => Identity }
