//! Gradient clipping, after accumulation and before the step.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::params::{Op, Params, Set, Want};

/// How gradients are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipKind {
    /// By the norm of all gradients together.
    #[default]
    Norm,
    /// Each value by itself.
    Value,
}

/// `clip_grad:` of an optim_wrapper. A norm is logged as `grad_norm` before clipping.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClipGrad {
    /// `norm` or `value`.
    pub r#type: ClipKind,
    /// Largest norm; `.inf` only measures.
    #[schemars(extend("exclusiveMinimum" = 0, "x-infinite" = true))]
    pub max_norm: Option<f64>,
    /// Order of the norm; `.inf` takes the largest absolute value.
    #[schemars(extend("exclusiveMinimum" = 0, "x-infinite" = true))]
    pub norm_type: f64,
    /// A norm that is not finite ends the run; otherwise that update is skipped, and the hundredth in a row of an optimizer ends the run.
    pub error_if_nonfinite: bool,
    /// Largest absolute value, with `type: value`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_value: Option<f64>,
}

impl Default for ClipGrad {
    fn default() -> Self {
        Self {
            r#type: ClipKind::Norm,
            max_norm: None,
            norm_type: 2.0,
            error_if_nonfinite: false,
            clip_value: None,
        }
    }
}

/// What clipping found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clipped {
    /// The norm before clipping; `None` by value.
    Norm(Option<f64>),
    /// The norm is not finite and gradients are as they were: do not step.
    NonFinite(f64),
}

impl ClipGrad {
    /// Clips by the norm.
    pub fn by_norm(max_norm: f64) -> Self {
        Self { max_norm: Some(max_norm), ..Self::default() }
    }

    /// Checks what a schema cannot say.
    ///
    /// # Errors
    /// A limit that the type needs is missing, is not a number, or belongs to the other type.
    pub fn check(&self) -> Result<()> {
        let (needs, limit) = self.limit()?;
        if limit > 0.0 {
            return Ok(());
        }
        Err(Error::config(format!("clip_grad: `{needs}` must be above 0, not {limit}")))
    }

    /// The limit that the type needs, and its key.
    pub(super) fn limit(&self) -> Result<(&'static str, f64)> {
        let (needs, limit, other) = match self.r#type {
            ClipKind::Norm => ("max_norm", self.max_norm, self.clip_value.map(|_| "clip_value")),
            ClipKind::Value => ("clip_value", self.clip_value, self.max_norm.map(|_| "max_norm")),
        };
        if let Some(other) = other {
            let kind = if needs == "max_norm" { "value" } else { "norm" };
            return Err(Error::config(format!(
                "`{other}` belongs to a clip_grad of `type: {kind}`, and this one clips by `{needs}`: leave one out"
            )));
        }
        let limit = limit.ok_or_else(|| Error::config(format!("clip_grad: `{needs}` is missing")))?;
        Ok((needs, limit))
    }

    /// Limits the wanted gradients, where they are.
    ///
    /// # Errors
    /// A norm that is not finite, with `error_if_nonfinite`; what the device says.
    pub fn apply(&self, params: &mut dyn Params, want: Want<'_>) -> Result<Clipped> {
        if let (ClipKind::Value, Some(limit)) = (self.r#type, self.clip_value) {
            params.apply(Op::ClampGrads(limit), want)?;
            return Ok(Clipped::Norm(None));
        }
        let norm = params.norm(Set::Grads, self.norm_type, want)?;
        if !norm.is_finite() {
            if self.error_if_nonfinite {
                return Err(Error::invalid(format!("the norm of the gradients is {norm}")));
            }
            return Ok(Clipped::NonFinite(norm));
        }
        // PyTorch divides by norm + 1e-6.
        let scale = self.max_norm.unwrap_or(f64::INFINITY) / (norm + 1e-6);
        if scale < 1.0 {
            params.apply(Op::ScaleGrads(scale), want)?;
        }
        Ok(Clipped::Norm(Some(norm)))
    }
}
