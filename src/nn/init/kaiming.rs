//! Weights that keep the variance of signals through rectifiers (He et al., <https://arxiv.org/abs/1502.01852>).

use ndarray::ArrayViewMutD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::draw::Distribution;
use super::{Fans, Initializer, fans_needed};
use crate::base::{Elem, Result, Rng};

/// Weights with standard deviation `gain / sqrt(fan)`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Kaiming {
    /// Negative slope of the rectifier after the layer; counts only with `nonlinearity: leaky_relu`.
    #[schemars(range(min = 0.0))]
    pub a: f64,
    /// Which variance is kept: `fan_in` that of the forward pass, `fan_out` that of the gradients.
    pub mode: FanMode,
    /// The function after the layer, which sets the gain.
    pub nonlinearity: Nonlinearity,
    /// The family of the draws.
    pub distribution: Distribution,
}

/// Whose fan [`Kaiming`] divides by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FanMode {
    /// [`Fans::fan_in`].
    FanIn,
    /// [`Fans::fan_out`].
    #[default]
    FanOut,
}

/// What comes after a layer, by PyTorch's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinearity {
    /// Gain √2.
    #[default]
    Relu,
    /// Gain √(2 / (1 + a²)).
    LeakyRelu,
    /// Gain 5/3.
    Tanh,
    /// Gain 3/4.
    Selu,
    /// Gain 1.
    Sigmoid,
    /// Gain 1.
    Linear,
    /// Gain 1.
    Conv1d,
    /// Gain 1.
    Conv2d,
    /// Gain 1.
    Conv3d,
}

impl Nonlinearity {
    /// PyTorch's `calculate_gain`; `a` is the negative slope of a leaky rectifier.
    pub fn gain(self, a: f64) -> f64 {
        match self {
            Self::Relu => 2f64.sqrt(),
            Self::LeakyRelu => (2.0 / (1.0 + a * a)).sqrt(),
            Self::Tanh => 5.0 / 3.0,
            Self::Selu => 0.75,
            Self::Sigmoid | Self::Linear | Self::Conv1d | Self::Conv2d | Self::Conv3d => 1.0,
        }
    }
}

impl Kaiming {
    /// The standard deviation of a weight with these fans.
    pub fn std(&self, fans: Fans) -> f64 {
        let fan = match self.mode {
            FanMode::FanIn => fans.fan_in,
            FanMode::FanOut => fans.fan_out,
        };
        self.nonlinearity.gain(self.a) / (fan as f64).sqrt()
    }

    fn arguments(&self) -> String {
        let Self { a, distribution, .. } = self;
        let mode = match self.mode {
            FanMode::FanIn => "fan_in",
            FanMode::FanOut => "fan_out",
        };
        // The words of the config are the variants in snake case.
        let nonlinearity = match self.nonlinearity {
            Nonlinearity::LeakyRelu => "leaky_relu".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        // The stray blank is MMEngine's: people grep for its lines.
        format!("a={a}, mode={mode}, nonlinearity={nonlinearity}, distribution ={distribution}")
    }
}

impl Initializer for Kaiming {
    fn describe(&self) -> String {
        format!("KaimingInit: {}", self.arguments())
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        let std = self.std(fans_needed("Kaiming", fans)?);
        self.distribution.fill(weight, std, rng);
        Ok(())
    }
}

/// Caffe2's `XavierFill`: U(±√(3 / fan_in)).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Caffe2Xavier {}

impl Caffe2Xavier {
    fn kaiming() -> Kaiming {
        Kaiming {
            a: 1.0,
            mode: FanMode::FanIn,
            nonlinearity: Nonlinearity::LeakyRelu,
            distribution: Distribution::Uniform,
        }
    }
}

impl Initializer for Caffe2Xavier {
    fn describe(&self) -> String {
        format!("Caffe2XavierInit: {}", Self::kaiming().arguments())
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        Self::kaiming().fill(weight, fans, rng)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::base::keyed;

    fn fans(fan_in: usize, fan_out: usize) -> Fans {
        Fans { fan_in, fan_out }
    }

    /// INI-01: 4→4 3×3 in 4 groups has fan_out 9, so std √(2/9).
    #[test]
    fn standard_deviations_are_the_closed_forms() {
        assert!((Kaiming::default().std(fans(9, 9)) - 0.471_405).abs() < 1e-6);
        let fan_in =
            |nonlinearity, a| Kaiming { a, mode: FanMode::FanIn, nonlinearity, ..Default::default() };
        assert_eq!(fan_in(Nonlinearity::Tanh, 0.0).std(fans(25, 150)), 5.0 / 3.0 / 5.0);
        assert_eq!(fan_in(Nonlinearity::Linear, 0.0).std(fans(25, 150)), 0.2);
        // PyTorch's default for layers: leaky_relu with a = √5 and fan_in, U(±1/√fan_in).
        let default = fan_in(Nonlinearity::LeakyRelu, 5f64.sqrt());
        assert!((3f64.sqrt() * default.std(fans(72, 72)) - 0.117_851).abs() < 1e-6);
        // The slope of a leaky rectifier means nothing for a plain one.
        assert_eq!(fan_in(Nonlinearity::Relu, 9.0).std(fans(2, 1)), 1.0);
    }

    #[test]
    fn caffe2_xavier_reaches_root_three_over_fan_in() {
        let mut weight = ArrayD::zeros(IxDyn(&[100, 12]));
        Caffe2Xavier {}
            .fill(&mut weight.view_mut(), Some(fans(12, 100)), &mut keyed(0, "init", 0, 0))
            .unwrap();
        let largest = weight.iter().fold(0.0, |m: Elem, w| m.max(w.abs()));
        assert!((0.49..=0.5).contains(&largest), "{largest}");
    }

    #[test]
    fn the_report_speaks_the_words_of_the_reference() {
        assert_eq!(
            Kaiming::default().describe(),
            "KaimingInit: a=0, mode=fan_out, nonlinearity=relu, distribution =normal"
        );
        assert_eq!(
            Caffe2Xavier {}.describe(),
            "Caffe2XavierInit: a=1, mode=fan_in, nonlinearity=leaky_relu, distribution =uniform"
        );
    }

    #[test]
    fn a_weight_of_one_axis_is_refused() {
        let mut weight = ArrayD::zeros(IxDyn(&[4]));
        let error =
            Kaiming::default().fill(&mut weight.view_mut(), None, &mut keyed(0, "init", 0, 0)).unwrap_err();
        assert!(error.to_string().starts_with("Kaiming needs a weight of two or more axes"), "{error}");
    }
}
