//! Figures of a classifier in which rare classes count: balanced accuracy, Cohen's kappa, Matthews' correlation.

use schemars::JsonSchema;
use serde::Deserialize;

use super::confusion::Confusion;
use super::counts::{counted, no_sample};
use super::{Direction, Metric, Predictions, Undefined};
use crate::base::Result;

/// The mean over the classes of their recall, in percent: `accuracy/balanced`. Classes without a sample do not count.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BalancedAccuracy {
    #[serde(skip)]
    counts: Confusion,
}

/// How much better than chance predictions agree with the truth, from -1 to 1: `kappa`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CohenKappa {
    /// What a mistake weighs: null, all the same; linear, by the distance of the classes; quadratic, by its square.
    weights: Option<KappaWeights>,
    #[serde(skip)]
    counts: Confusion,
}

/// What a mistake weighs in [`CohenKappa`], for classes in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KappaWeights {
    /// How many classes it is off.
    Linear,
    /// The square of that.
    Quadratic,
}

/// The correlation of predicted and true classes, from -1 to 1: `mcc`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MatthewsCorrCoef {
    #[serde(skip)]
    counts: Confusion,
}

crate::register! {
    /// The mean over the classes of their recall, in percent: `accuracy/balanced`.
    dyn Metric, "BalancedAccuracy" => BalancedAccuracy
}
crate::register! {
    /// How much better than chance predictions agree with the truth: Cohen's `kappa`, with `weights` for ordered classes.
    dyn Metric, "CohenKappa" => CohenKappa
}
crate::register! {
    /// The correlation of predicted and true classes, Matthews' coefficient: `mcc`.
    dyn Metric, "MatthewsCorrCoef" => MatthewsCorrCoef
}

impl BalancedAccuracy {
    fn value(counts: &Confusion) -> f64 {
        let tallies = counts.tallies();
        let recalls: Vec<f64> = tallies.iter().filter(|t| t.actual > 0).map(|t| t.recall()).collect();
        100.0 * recalls.iter().sum::<f64>() / recalls.len().max(1) as f64
    }
}

impl CohenKappa {
    /// For classes in an order: a mistake weighs more the farther it is off.
    pub fn weighted(weights: KappaWeights) -> Self {
        Self { weights: Some(weights), ..Self::default() }
    }

    /// 1 minus the disagreement that there is by that of chance.
    fn value(&self) -> Result<f64> {
        let (tallies, n) = (self.counts.tallies(), self.counts.total() as f64);
        let weight = |i: usize, j: usize| match self.weights {
            None => f64::from(i != j),
            Some(KappaWeights::Linear) => i.abs_diff(j) as f64,
            Some(KappaWeights::Quadratic) => (i.abs_diff(j) as f64).powi(2),
        };
        let (mut observed, mut expected) = (0.0, 0.0);
        for ((i, j), count) in self.counts.matrix().indexed_iter() {
            observed += weight(i, j) * *count as f64;
            expected += weight(i, j) * tallies[i].actual as f64 * tallies[j].predicted as f64 / n;
        }
        match expected {
            0.0 => {
                Err(Undefined("all samples are of one class and called so: chance would agree too".into())
                    .into())
            }
            _ => Ok(1.0 - observed / expected),
        }
    }
}

impl MatthewsCorrCoef {
    /// Gorodkin's for any number of classes; 0 where all are called one class, or are of one.
    fn value(counts: &Confusion) -> f64 {
        let tallies = counts.tallies();
        let sum = |of: fn(&super::tally::Tally) -> (u64, u64)| -> i128 {
            let product = |(a, b): (u64, u64)| i128::from(a) * i128::from(b);
            tallies.iter().map(|tally| product(of(tally))).sum()
        };
        let n = i128::from(counts.total());
        let together = sum(|t| (t.hits, 1)) * n - sum(|t| (t.actual, t.predicted));
        let predicted = n * n - sum(|t| (t.predicted, t.predicted));
        let actual = n * n - sum(|t| (t.actual, t.actual));
        match predicted == 0 || actual == 0 {
            true => 0.0,
            false => together as f64 / ((predicted as f64).sqrt() * (actual as f64).sqrt()),
        }
    }
}

macro_rules! of_the_confusion {
    ($metric:ident, $prefix:expr, $name:literal, $value:expr) => {
        impl Metric for $metric {
            fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
                self.counts.process(predictions)
            }
            fn compute(&self) -> Result<Vec<(String, f64)>> {
                if self.counts.total() == 0 {
                    return Err(no_sample());
                }
                let value: fn(&Self) -> Result<f64> = $value;
                Ok(vec![($name.to_owned(), value(self)?)])
            }
            counted!(counts);
            fn names(&self) -> Vec<String> {
                vec![$name.to_owned()]
            }
            fn prefix(&self) -> Option<&str> {
                $prefix
            }
            fn direction(&self, _: &str) -> Option<Direction> {
                Some(Direction::Greater)
            }
        }
    };
}
of_the_confusion!(BalancedAccuracy, Some("accuracy"), "balanced", |own| Ok(Self::value(&own.counts)));
of_the_confusion!(CohenKappa, None, "kappa", Self::value);
of_the_confusion!(MatthewsCorrCoef, None, "mcc", |own| Ok(Self::value(&own.counts)));
