//! Gradient clipping, after accumulation and before the step.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::kernels;
use crate::params::Params;

/// How gradients are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
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
    /// A norm that is not finite ends the run; otherwise that update is skipped and counted.
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
            return Err(Error::config(format!("`{other}` does not belong to this clip_grad type")));
        }
        let limit = limit.ok_or_else(|| Error::config(format!("clip_grad: `{needs}` is missing")))?;
        Ok((needs, limit))
    }

    /// Limits all gradients of `params` in place.
    ///
    /// # Errors
    /// A norm that is not finite, with `error_if_nonfinite`.
    pub fn apply(&self, params: &mut dyn Params) -> Result<Clipped> {
        if let (ClipKind::Value, Some(limit)) = (self.r#type, self.clip_value) {
            let limit = limit as Elem;
            each_grad(params, &mut |all| all.iter_mut().for_each(|g| *g = g.clamp(-limit, limit)));
            return Ok(Clipped::Norm(None));
        }
        let norm = grad_norm(params, self.norm_type);
        if !norm.is_finite() {
            if self.error_if_nonfinite {
                return Err(Error::invalid(format!("the norm of the gradients is {norm}")));
            }
            return Ok(Clipped::NonFinite(norm));
        }
        // PyTorch divides by norm + 1e-6.
        let scale = self.max_norm.unwrap_or(f64::INFINITY) / (norm + 1e-6);
        if scale < 1.0 {
            let scale = scale as Elem;
            each_grad(params, &mut |all| kernels::scale(scale, all));
        }
        Ok(Clipped::Norm(Some(norm)))
    }
}

/// Calls `f` on all gradients, in pieces without gaps.
fn each_grad(params: &mut dyn Params, f: &mut dyn FnMut(&mut [Elem])) {
    params.visit_mut(&mut |p| {
        let Some(mut grad) = p.grad else { return };
        match grad.as_slice_memory_order_mut() {
            Some(all) => f(all),
            None => grad.iter_mut().for_each(|g| f(std::slice::from_mut(g))),
        }
    });
}

/// The norm of all gradients together, summed in f64 in the order of the model. 0 without any gradient.
pub fn grad_norm(params: &dyn Params, order: f64) -> f64 {
    if order == 2.0 {
        let mut sum = 0.0;
        params.visit(&mut |p| {
            let Some(grad) = p.grad else { return };
            sum += match grad.as_slice() {
                Some(all) => kernels::sum_squares(all),
                None => grad.iter().map(|g| (*g as f64).powi(2)).sum(),
            };
        });
        if f64::is_finite(sum) {
            return sum.sqrt();
        }
    }
    scaled_norm(params, order)
}

/// The norm of any order, also where a power is beyond f64.
fn scaled_norm(params: &dyn Params, order: f64) -> f64 {
    let fold = |scale: f64| {
        let (mut sum, mut max) = (0.0f64, 0.0f64);
        params.visit(&mut |p| {
            for g in p.grad.iter().flatten() {
                let a = (*g as f64).abs() * scale;
                // `max` would drop a NaN.
                max = if a > max || a.is_nan() { a } else { max };
                sum += a.powf(order);
            }
        });
        (sum, max)
    };
    let (sum, max) = fold(1.0);
    if order.is_infinite() || max == 0.0 {
        return max;
    }
    if sum.is_finite() || !max.is_finite() {
        return if max.is_finite() { sum.powf(1.0 / order) } else { max };
    }
    // Finite gradients whose powers overflow: measure them in units of the largest.
    max * fold(1.0 / max).0.powf(1.0 / order)
}
