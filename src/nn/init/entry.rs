//! One entry of `init_cfg`: a rule, and where it applies.

use std::fmt;
use std::sync::Arc;

use super::Initializer;
use crate::base::Error;
use crate::config::{Diag, Diags, Node};

/// A rule, the layers it is for, the value of their biases, and sub-modules that it treats in another way.
///
/// ```
/// use shanty::nn::init::{Constant, Init, Kaiming};
/// let init = Init::new(Kaiming::default())
///     .layer("Conv2d")
///     .override_with("head", Init::new(Constant { val: 0.0 }).bias_prob(0.01));
/// assert_eq!(init.to_string(), "KaimingInit: a=0, mode=fan_out, nonlinearity=relu, distribution =normal, bias=0");
/// ```
#[derive(Clone)]
pub struct Init {
    pub(super) rule: Arc<dyn Initializer>,
    pub(super) layers: Vec<String>,
    pub(super) bias: f64,
    pub(super) bias_std: f64,
    pub(super) overrides: Vec<Override>,
    /// What a config says, for errors that come when weights are made.
    pub(super) node: Option<Node>,
}

/// A sub-module of which everything is initialised, by a rule of its own or by that of the entry.
#[derive(Clone)]
pub(super) struct Override {
    pub name: String,
    pub by: Option<Init>,
}

impl Init {
    /// The rule for no layer yet. A rule that loads tensors needs no layer.
    pub fn new(rule: impl Initializer) -> Self {
        Self::from_box(Box::new(rule))
    }

    pub(super) fn from_box(rule: Box<dyn Initializer>) -> Self {
        Self {
            rule: rule.into(),
            layers: Vec::new(),
            bias: 0.0,
            bias_std: 0.0,
            overrides: Vec::new(),
            node: None,
        }
    }

    /// Says what is odd about it, with its place.
    pub(super) fn warn(&self, text: &str) {
        match &self.node {
            Some(node) => log::warn!("{text} ({})", node.get("type").unwrap_or(node).def),
            None => log::warn!("{text}"),
        }
    }

    /// The error with the place of the entry in its config.
    pub(super) fn placed(&self, error: Error) -> Error {
        match (error, &self.node) {
            (Error::Config(source), _) if source.is::<Diags>() => Error::Config(source),
            (error, Some(node)) => {
                let at = node.get("checkpoint").or(node.get("type")).unwrap_or(node);
                let absent = error.is_absence();
                Diags::from(Diag { absent, ..Diag::error(error.to_string()).on(at) }).into()
            }
            (error, None) => error,
        }
    }

    /// Adds the layers of this type (`Conv2d`) or family (`_BatchNorm`).
    #[must_use]
    pub fn layer(mut self, name: impl Into<String>) -> Self {
        self.layers.push(name.into());
        self
    }

    /// The value of the biases; 0 if not set.
    #[must_use]
    pub fn bias(mut self, value: f64) -> Self {
        self.bias = value;
        self
    }

    /// Draws the biases from N(value, std²), as MMPretrain's vision transformers do.
    #[must_use]
    pub fn bias_std(mut self, std: f64) -> Self {
        self.bias_std = std;
        self
    }

    /// Biases from which a sigmoid makes the probability `p`: −ln((1 − p) / p).
    #[must_use]
    pub fn bias_prob(self, p: f64) -> Self {
        self.bias(0.0 - ((1.0 - p) / p).ln())
    }

    /// Applies the same rule to everything below the sub-module `name`.
    #[must_use]
    pub fn override_all(mut self, name: impl Into<String>) -> Self {
        self.overrides.push(Override { name: name.into(), by: None });
        self
    }

    /// Applies another rule to everything below the sub-module `name`.
    #[must_use]
    pub fn override_with(mut self, name: impl Into<String>, by: Init) -> Self {
        self.overrides.push(Override { name: name.into(), by: Some(by) });
        self
    }
}

/// As the report tells it.
impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, bias={}", self.rule.describe(), self.bias)?;
        if self.bias_std > 0.0 { write!(f, ", bias_std={}", self.bias_std) } else { Ok(()) }
    }
}

impl fmt::Debug for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Init({self}, layer={:?})", self.layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::init::Normal;

    /// −ln(99), the prior of focal loss.
    #[test]
    fn a_prior_probability_becomes_a_bias() {
        let init = Init::new(Normal { mean: 0.0, std: 0.01 }).bias_prob(0.01);
        assert!((init.bias + 4.595_119_850_134_59).abs() < 1e-14);
        assert!(
            init.to_string().starts_with("NormalInit: mean=0, std=0.01, bias=-4.5951198501345"),
            "{init}"
        );
    }
}
