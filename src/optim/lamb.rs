//! LAMB (You et al. 2020), as timm and MMPretrain define it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::adam::corrections;
use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::{sum_squares, walk, walk_and_sum};

/// `u = m̂ / (√v̂ + eps) + wd·w` with Adam's means; `w -= lr · |w| / |u| · u`, the norms those of the tensor.
///
/// Tensors without weight decay are stepped by `u` itself, unless `always_adapt`. The gradients of all tensors together
/// are cut to the norm `max_grad_norm` before.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Lamb {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Divide the running means by what they lack at first.
    pub bias_correction: bool,
    /// Decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "super::adam::betas")]
    pub betas: (f64, f64),
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Weight decay, part of the step that is scaled.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// The gradient enters its mean by `1 - β₁`, instead of whole.
    pub grad_averaging: bool,
    /// Largest norm of the gradients of all parameters together; null leaves them.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub max_grad_norm: Option<f64>,
    /// `|w| / |u|` is at most 1 (LAMBC).
    pub trust_clip: bool,
    /// Scale tensors without weight decay, too.
    pub always_adapt: bool,
}

impl Default for Lamb {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            bias_correction: true,
            betas: (0.9, 0.999),
            eps: 1e-6,
            weight_decay: 0.01,
            grad_averaging: true,
            max_grad_norm: Some(1.0),
            trust_clip: false,
            always_adapt: false,
        }
    }
}

impl Optimizer for Lamb {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("beta1", &mut self.betas.0),
            ("beta2", &mut self.betas.1),
            ("eps", &mut self.eps),
            ("weight_decay", &mut self.weight_decay),
        ]
    }

    fn flags(&mut self) -> Vec<(&'static str, &mut bool)> {
        vec![
            ("bias_correction", &mut self.bias_correction),
            ("grad_averaging", &mut self.grad_averaging),
            ("trust_clip", &mut self.trust_clip),
            ("always_adapt", &mut self.always_adapt),
        ]
    }

    fn state(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn max_grad_norm(&self) -> Option<f64> {
        self.max_grad_norm
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let [mean, square]: [&mut [Elem]; 2] = p.state()?;
        let (b1, b2) = self.betas;
        let (correct1, correct2) =
            if self.bias_correction { corrections(self.betas, p.steps) } else { (1.0, 1.0) };
        let entering = if self.grad_averaging { 1.0 - b1 } else { 1.0 };
        let [b1, entering, b2, new2, correct1, scale2, eps, decay] =
            [b1, entering, b2, 1.0 - b2, correct1, correct2.sqrt(), self.eps, self.weight_decay]
                .map(|v| v as Elem);
        let update = move |w: Elem, m: Elem, s: Elem| m / correct1 / (s.sqrt() / scale2 + eps) + decay * w;
        let weights = sum_squares(p.value).sqrt();
        let updates = walk_and_sum(p.value, p.grad, [&mut *mean, &mut *square], move |w, g, [m, s]| {
            let (m, s) = (b1 * m + entering * g, b2 * s + new2 * g * g);
            let u = update(w, m, s);
            (w, [m, s], u * u)
        })
        .sqrt();
        let adapts = (self.weight_decay != 0.0 || self.always_adapt) && weights > 0.0 && updates > 0.0;
        let trust = if adapts { weights / updates } else { 1.0 };
        let trust = if self.trust_clip { trust.min(1.0) } else { trust };
        let rate = (self.lr * trust) as Elem;
        // The state is only read; the gradient is not needed any more.
        walk(p.value, p.grad, [mean, square], move |w, _, [m, s]| (w - rate * update(w, m, s), [m, s]));
        Ok(())
    }
}

crate::register! {
    /// LAMB (You et al. 2020, as in timm): Adam's steps, scaled to the norm of each tensor.
    dyn Optimizer, "Lamb" => Lamb
}
