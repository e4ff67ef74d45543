//! Activations made of straight pieces, and hard swish, which is one of a parabola.

use schemars::JsonSchema;
use serde::Deserialize;

use super::activation;
use crate::base::{Elem, Error, Result};
use crate::kernels::Act;
use crate::nn::{Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

activation! {
    /// `x` between 0 and 6.
    ReLU6 "ReLU6", relu6() inplace => Act::Ramp { scale: 1.0, shift: 0.0, min: 0.0, max: 6.0 }
}

activation! {
    /// `x / 6 + 1/2` between 0 and 1: a sigmoid of straight pieces.
    Hardsigmoid "Hardsigmoid", hardsigmoid() inplace => Act::Ramp { scale: 1.0 / 6.0, shift: 0.5, min: 0.0, max: 1.0 }
}

activation! {
    /// `x · hardsigmoid(x)` (Howard et al. 2019, <https://arxiv.org/abs/1905.02244>).
    Hardswish "Hardswish" | "HSwish", hardswish() inplace => Act::Hardswish
}

activation! {
    /// `x` beyond `±lambd`, 0 within.
    Hardshrink "Hardshrink", hardshrink(
        /// Half the width of the gap.
        #[schemars(range(min = 0.0))]
        lambd = 0.5
    ) => Act::Hardshrink { bound: lambd }
}

activation! {
    /// `x` moved towards 0 by `lambd`, and no further.
    Softshrink "Softshrink", softshrink(
        /// Half the width of the gap.
        #[schemars(range(min = 0.0))]
        lambd = 0.5
    ) => Act::Softshrink { bound: lambd }
}

/// The keys of a [`Hardtanh`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HardtanhConfig {
    /// The least value.
    #[schemars(extend("x-unbounded" = true))]
    pub min_val: f64,
    /// The largest value.
    #[schemars(extend("x-unbounded" = true))]
    pub max_val: f64,
    /// Accepted for PyTorch's configs; memory is reused either way.
    pub inplace: bool,
}

impl Default for HardtanhConfig {
    fn default() -> Self {
        Self { min_val: -1.0, max_val: 1.0, inplace: false }
    }
}

/// `x` between `min_val` and `max_val`; its slope at both is 0.
#[derive(Debug, Clone)]
pub struct Hardtanh(Act);

module!(Hardtanh {});

impl Hardtanh {
    /// Between −1 and 1.
    pub fn new() -> Self {
        Self(ramp(1.0, 0.0, [-1.0, 1.0]))
    }

    fn from_config(p: HardtanhConfig, _: &mut BuildCx) -> Result<Self> {
        ordered(["min_val", "max_val"], [p.min_val, p.max_val])?;
        Ok(Self(ramp(1.0, 0.0, [p.min_val, p.max_val])))
    }
}

impl Default for Hardtanh {
    fn default() -> Self {
        Self::new()
    }
}

impl Module for Hardtanh {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x.activate(self.0))
    }
}

/// The keys of a [`HSigmoid`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HSigmoidConfig {
    /// What is added first.
    #[schemars(extend("x-unbounded" = true))]
    pub bias: f64,
    /// By what the sum is divided.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub divisor: f64,
    /// The least value.
    #[schemars(extend("x-unbounded" = true))]
    pub min_value: f64,
    /// The largest value.
    #[schemars(extend("x-unbounded" = true))]
    pub max_value: f64,
}

impl Default for HSigmoidConfig {
    fn default() -> Self {
        Self { bias: 3.0, divisor: 6.0, min_value: 0.0, max_value: 1.0 }
    }
}

/// `(x + bias) / divisor` between `min_value` and `max_value`: MMCV's hard sigmoid.
#[derive(Debug, Clone)]
pub struct HSigmoid(Act);

module!(HSigmoid {});

impl HSigmoid {
    fn from_config(p: HSigmoidConfig, _: &mut BuildCx) -> Result<Self> {
        ordered(["min_value", "max_value"], [p.min_value, p.max_value])?;
        Ok(Self(ramp(1.0 / p.divisor, p.bias / p.divisor, [p.min_value, p.max_value])))
    }
}

impl Module for HSigmoid {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x.activate(self.0))
    }
}

/// `x` between `min` and `max`, as MMCV calls it: a [`Hardtanh`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Clamp {
    /// The least value.
    #[schemars(extend("x-unbounded" = true))]
    pub min: f64,
    /// The largest value.
    #[schemars(extend("x-unbounded" = true))]
    pub max: f64,
}

module!(Clamp {});

impl Default for Clamp {
    fn default() -> Self {
        Self { min: -1.0, max: 1.0 }
    }
}

impl Clamp {
    fn from_config(p: Self, _: &mut BuildCx) -> Result<Self> {
        ordered(["min", "max"], [p.min, p.max])?;
        Ok(p)
    }
}

impl Module for Clamp {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.clamp(self.min as Elem, self.max as Elem).checked()
    }
}

register! { /// `x` between `min_val` and `max_val`.
dyn Module, "Hardtanh" => fn Hardtanh::from_config }
register! { /// `(x + bias) / divisor` between `min_value` and `max_value`: MMCV's hard sigmoid.
dyn Module, "HSigmoid" => fn HSigmoid::from_config }
register! { /// `x` between `min` and `max`.
dyn Module, "Clamp" => fn Clamp::from_config }
register! { /// Another name of `Clamp`.
dyn Module, "Clip" => fn Clamp::from_config }

fn ramp(scale: f64, shift: f64, [min, max]: [f64; 2]) -> Act {
    Act::Ramp { scale: scale as Elem, shift: shift as Elem, min: min as Elem, max: max as Elem }
}

fn ordered(names: [&str; 2], [min, max]: [f64; 2]) -> Result<()> {
    if min < max {
        return Ok(());
    }
    let [low, high] = names;
    Err(Error::config(format!("`{low}` must be below `{high}`, got {min} and {max}")))
}
