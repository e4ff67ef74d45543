//! Weights by what cannot be known of each task (Kendall 2018).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Weighed, Weighting};
use crate::base::{Elem, Result};
use crate::nn::init::Constant;
use crate::nn::{Activation, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of an [`UncertaintyWeighting`] in YAML: none.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct UncertaintyWeightingConfig {}

/// `Σ c e⁻ˢ L + s / 2` with a learnt log-variance s for each loss L, and c = 1/2 for losses of numbers, 1 for those of
/// classes and labels: Kendall 2018, equations 7 and 10. A task that stays noisy is turned down.
///
/// The log-variances are the parameter `weighting.log_vars`, which begins at 0 and is moved by the run's optimizer. Decay
/// would pull it to 0: `paramwise_cfg: {custom_keys: {weighting: {decay_mult: 0}}}`.
///
/// ```
/// use shanty::model::{Objective, Supervised, UncertaintyWeighting};
/// use shanty::nn::{CrossEntropyLoss, Linear, MSELoss};
///
/// let model = Supervised::trunk(Linear::new(4, 8))
///     .head("price", Linear::new(8, 1))
///     .head("kind", Linear::new(8, 3))
///     .objective(Objective::new(MSELoss::default()).head("price").target("price"))
///     .objective(Objective::new(CrossEntropyLoss::default()).head("kind").target("kind"))
///     .weighting(UncertaintyWeighting::default());
/// let mut names = Vec::new();
/// shanty::params::HostParams::visit(&model, &mut |p| names.push((p.name.to_owned(), p.value.len())));
/// assert_eq!(names.last().unwrap(), &("weighting.log_vars".to_owned(), 2));
/// ```
pub struct UncertaintyWeighting {
    log_vars: Param,
    factors: Vec<Elem>,
}

module!(UncertaintyWeighting { log_vars });

impl Default for UncertaintyWeighting {
    fn default() -> Self {
        Self { log_vars: Param::full(&[0], 0.0), factors: Vec::new() }
    }
}

impl UncertaintyWeighting {
    fn from_config(_: UncertaintyWeightingConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::default())
    }
}

impl Weighting for UncertaintyWeighting {
    fn begin(&mut self, losses: &[Activation]) {
        let of_numbers = |loss: &Activation| if *loss == Activation::Identity { 0.5 } else { 1.0 };
        self.factors = losses.iter().map(of_numbers).collect();
        self.log_vars = Param::init(&[losses.len()], Constant { val: 0.0 });
    }

    fn weigh<'t>(&mut self, losses: &[Var<'t>], _: &[Elem]) -> Result<Weighed<'t>> {
        let mut weighed = Weighed { terms: Vec::new(), weights: Vec::new(), extra: None };
        for (i, (loss, factor)) in losses.iter().zip(&self.factors).enumerate() {
            let log_var = loss.tape().param(&self.log_vars).select(0, i);
            let weight = (-log_var).exp() * *factor;
            weighed.weights.push(f64::from(weight.item()));
            weighed.terms.push(weight * *loss);
            let half = log_var * 0.5;
            weighed.extra = Some(weighed.extra.map_or(half, |sum| sum + half));
        }
        Ok(weighed)
    }
}

register! { /// Weights by a learnt uncertainty of each task (Kendall 2018).
dyn Weighting, "UncertaintyWeighting" => fn UncertaintyWeighting::from_config }
