//! Initialisers that do not look at the layer: a constant, and distributions with given parameters.

use ndarray::ArrayViewMutD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::draw::{self, TruncatedNormal};
use super::{Fans, Initializer};
use crate::base::{Elem, Error, Result, Rng};
use crate::registry::BuildCx;

/// One value everywhere.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Constant {
    /// The value of the weights.
    #[schemars(extend("x-unbounded" = true))]
    pub val: f64,
}

impl Initializer for Constant {
    fn describe(&self) -> String {
        format!("ConstantInit: val={}", self.val)
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, _fans: Option<Fans>, _rng: &mut Rng) -> Result<()> {
        weight.fill(self.val as Elem);
        Ok(())
    }
}

/// U(−1/√fan_in, 1/√fan_in): how PyTorch's linear layers and convolutions begin, weight and bias alike.
#[derive(Debug, Clone, Copy)]
pub struct FanInUniform {
    /// Values that are summed into one output value.
    pub fan_in: usize,
}

impl Initializer for FanInUniform {
    fn describe(&self) -> String {
        format!("PyTorch's default: uniform within 1/sqrt({})", self.fan_in)
    }

    fn fill(&self, values: &mut ArrayViewMutD<'_, Elem>, _fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        let bound = if self.fan_in == 0 { 0.0 } else { 1.0 / (self.fan_in as f64).sqrt() };
        draw::uniform(values, -bound, bound, rng);
        Ok(())
    }
}

/// N(mean, std²).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Normal {
    /// The mean.
    #[schemars(extend("x-unbounded" = true))]
    pub mean: f64,
    /// The standard deviation.
    #[schemars(range(min = 0))]
    pub std: f64,
}

impl Default for Normal {
    fn default() -> Self {
        Self { mean: 0.0, std: 1.0 }
    }
}

impl Initializer for Normal {
    fn describe(&self) -> String {
        format!("NormalInit: mean={}, std={}", self.mean, self.std)
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, _fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        draw::normal(weight, self.mean, self.std, rng);
        Ok(())
    }
}

/// N(mean, std²) cut off at `a` and `b`, which are values and not multiples of `std`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TruncNormal {
    /// The mean of the curve before it is cut.
    #[schemars(extend("x-unbounded" = true))]
    pub mean: f64,
    /// The standard deviation of the curve before it is cut.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub std: f64,
    /// The lower bound.
    #[schemars(extend("x-unbounded" = true))]
    pub a: f64,
    /// The upper bound.
    #[schemars(extend("x-unbounded" = true))]
    pub b: f64,
}

impl Default for TruncNormal {
    fn default() -> Self {
        Self { mean: 0.0, std: 1.0, a: -2.0, b: 2.0 }
    }
}

impl Initializer for TruncNormal {
    fn describe(&self) -> String {
        let Self { mean, std, a, b } = self;
        format!("TruncNormalInit: a={a}, b={b}, mean={mean}, std={std}")
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, _fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        TruncatedNormal::new(self.mean, self.std, self.a, self.b)?.fill(weight, rng);
        Ok(())
    }
}

/// U(a, b).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Uniform {
    /// The lower bound.
    #[schemars(extend("x-unbounded" = true))]
    pub a: f64,
    /// The upper bound.
    #[schemars(extend("x-unbounded" = true))]
    pub b: f64,
}

impl Default for Uniform {
    fn default() -> Self {
        Self { a: 0.0, b: 1.0 }
    }
}

impl Uniform {
    /// Whether there is something between the bounds.
    ///
    /// # Errors
    /// When `a` is greater than `b`.
    pub(super) fn checked(self, _: &mut BuildCx) -> Result<Self> {
        let Self { a, b } = self;
        if a > b {
            return Err(Error::config(format!(
                "`a` is {a}, which is greater than `b`, {b}: there is nothing between"
            )));
        }
        Ok(self)
    }
}

impl Initializer for Uniform {
    fn describe(&self) -> String {
        format!("UniformInit: a={}, b={}", self.a, self.b)
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, _fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        draw::uniform(weight, self.a, self.b, rng);
        Ok(())
    }
}
