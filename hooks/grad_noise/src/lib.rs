//! A tutorial hook: Gaussian noise on the gradients that fades with time (Neelakantan et al. 2015).
use rand_distr::{Distribution, Normal};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::plugin::prelude::*;

/// Adds N(0, σ²) to every gradient, with σ² = eta / (1 + iteration)^gamma.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct GradNoise {
    /// Variance of the noise in the first iteration.
    #[schemars(range(min = 0.0))]
    eta: f64,
    /// How fast it fades.
    #[serde(default = "gamma")]
    gamma: f64,
}

fn gamma() -> f64 {
    0.55
}

impl Hook for GradNoise {
    fn after_backward(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        let variance = self.eta / (1.0 + cx.progress.iter as f64).powf(self.gamma);
        let (noise, mut rng) = (Normal::new(0.0, variance.sqrt())?, cx.rng("grad_noise"));
        cx.model.edit(Set::Grads, &shanty::params::all, &mut |_, grad| {
            grad.into_iter().for_each(|g| *g += noise.sample(&mut rng) as Elem);
        })?;
        Ok(())
    }
}

register! {
    /// Gaussian noise on the gradients that fades with time (Neelakantan et al. 2015).
    dyn Hook, "GradNoise" => GradNoise
}
