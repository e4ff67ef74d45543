//! Weights that keep the variance of signals and of gradients through linear layers
//! (Glorot and Bengio, <http://proceedings.mlr.press/v9/glorot10a.html>).

use ndarray::ArrayViewMutD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::draw::Distribution;
use super::{Fans, Initializer, fans_needed};
use crate::base::{Elem, Result, Rng};

/// Weights with standard deviation `gain * sqrt(2 / (fan_in + fan_out))`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Xavier {
    /// Factor of the standard deviation.
    #[schemars(range(min = 0.0))]
    pub gain: f64,
    /// The family of the draws.
    pub distribution: Distribution,
}

impl Default for Xavier {
    fn default() -> Self {
        Self { gain: 1.0, distribution: Distribution::Normal }
    }
}

impl Xavier {
    /// The standard deviation of a weight with these fans.
    pub fn std(&self, fans: Fans) -> f64 {
        self.gain * (2.0 / (fans.fan_in + fans.fan_out) as f64).sqrt()
    }
}

impl Initializer for Xavier {
    fn describe(&self) -> String {
        format!("XavierInit: gain={}, distribution={}", self.gain, self.distribution)
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        let std = self.std(fans_needed("Xavier", fans)?);
        self.distribution.fill(weight, std, rng);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::base::keyed;

    /// INI-01: a 2→2 convolution with kernel 1 has the bound √3·√(2/4) = 1.224745.
    #[test]
    fn the_uniform_bound_is_the_closed_form() {
        let fans = Fans { fan_in: 2, fan_out: 2 };
        let rule = Xavier { distribution: Distribution::Uniform, ..Default::default() };
        assert!((3f64.sqrt() * rule.std(fans) - 1.224_745).abs() < 1e-6);
        let mut weight = ArrayD::zeros(IxDyn(&[100, 100]));
        rule.fill(&mut weight.view_mut(), Some(fans), &mut keyed(0, "init", 0, 0)).unwrap();
        let largest = weight.iter().fold(0.0, |m: Elem, w| m.max(w.abs()));
        assert!((1.22..=1.224_746).contains(&largest), "{largest}");
    }

    #[test]
    fn the_gain_scales_the_standard_deviation() {
        let rule = Xavier { gain: 3.0, ..Default::default() };
        assert_eq!(rule.std(Fans { fan_in: 6, fan_out: 2 }), 1.5);
        assert_eq!(rule.describe(), "XavierInit: gain=3, distribution=normal");
    }
}
