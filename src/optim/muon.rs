//! Muon (Jordan et al. 2024), as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Error, Result};
use crate::kernels::{MuonStep, muon};
use crate::params::Info;

/// How the learning rate follows the shape of a matrix of `A` rows and `B` columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustLr {
    /// Times `√max(1, A/B)`.
    #[default]
    Original,
    /// Times `0.2·√max(A, B)`: learning rate and weight decay of AdamW can be kept.
    MatchRmsAdamw,
    /// Times `√(A/B)`.
    SpectralUnclamped,
}

/// The momentum of SGD, made orthogonal by Newton-Schulz iterations, for matrices alone.
///
/// PyTorch iterates in bfloat16; here it is f32.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Muon {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decoupled weight decay.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Momentum μ.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// Look ahead along the momentum.
    pub nesterov: bool,
    /// Coefficients of the polynomial `a x + b x³ + c x⁵`.
    #[schemars(extend("x-unbounded" = true))]
    pub ns_coefficients: [f64; 3],
    /// Smallest norm that the update is divided by.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// How often the polynomial is applied.
    #[schemars(range(min = 1, max = 99))]
    pub ns_steps: usize,
    /// How the learning rate follows the shape; `original` if absent.
    pub adjust_lr_fn: Option<AdjustLr>,
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            weight_decay: 0.1,
            momentum: 0.95,
            nesterov: true,
            ns_coefficients: [3.4445, -4.775, 2.0315],
            eps: 1e-7,
            ns_steps: 5,
            adjust_lr_fn: None,
        }
    }
}

impl Optimizer for Muon {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("weight_decay", &mut self.weight_decay),
            ("momentum", &mut self.momentum),
            ("eps", &mut self.eps),
        ]
    }

    fn flags(&mut self) -> Vec<(&'static str, &mut bool)> {
        vec![("nesterov", &mut self.nesterov)]
    }

    fn state(&self) -> &'static [&'static str] {
        &["momentum_buffer"]
    }

    fn takes(&self, p: &Info<'_>) -> Result<()> {
        match p.shape {
            [_, _] => Ok(()),
            shape => Err(Error::config(format!(
                "Muon moves matrices alone, and `{}` has shape {shape:?}: let an `OptimWrapperDict` give `ndim: 2` to \
                 Muon and all else to AdamW",
                p.name
            ))),
        }
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let &[rows, cols] = p.shape else {
            return Err(Error::invalid(format!("Muon moves matrices alone, and `{}` is none", p.name)));
        };
        let (a, b) = (rows as f64, cols.max(1) as f64);
        let factor = match self.adjust_lr_fn.unwrap_or_default() {
            AdjustLr::Original => (a / b).max(1.0).sqrt(),
            AdjustLr::MatchRmsAdamw => 0.2 * a.max(b).sqrt(),
            AdjustLr::SpectralUnclamped => (a / b).sqrt(),
        };
        let step = MuonStep {
            shape: (rows, cols),
            rate: (self.lr * factor) as Elem,
            shrink: (1.0 - self.lr * self.weight_decay) as Elem,
            momentum: self.momentum as Elem,
            new: (1.0 - self.momentum) as Elem,
            nesterov: self.nesterov,
            coefficients: self.ns_coefficients.map(|c| c as Elem),
            iterations: self.ns_steps,
            eps: self.eps as Elem,
        };
        let [momentum] = p.state()?;
        muon(&step, p.value, p.grad, momentum);
        Ok(())
    }
}

crate::register! {
    /// Muon (Jordan et al. 2024): the momentum of a matrix, made orthogonal; other parameters need another optimizer.
    dyn Optimizer, "Muon" => Muon
}
