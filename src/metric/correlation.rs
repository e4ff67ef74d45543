//! Whether predicted numbers rise and fall with what they should be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Counts, add_each, counted, no_sample};
use super::{Direction, Metric, Predictions, Undefined};
use crate::base::{Error, Result};

/// Of each value of a sample what was predicted and what it should be, of all samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Numbers(Vec<(Vec<f64>, Vec<f64>)>);

impl Counts for Numbers {
    fn add(&mut self, other: Self) -> Result<()> {
        add_each(&mut self.0, other.0, "values a sample", |own, other| {
            own.0.extend(other.0);
            own.1.extend(other.1);
        })
    }
}

impl Numbers {
    fn count(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let pairs = predictions.pairs()?;
        let (width, before) = (pairs.width(), self.0.len());
        if before != 0 && before != width {
            return Err(Error::invalid(format!("{width} values a sample after {before}")));
        }
        self.0.resize(width, Default::default());
        pairs.each(|at, predicted, target| {
            self.0[at].0.push(predicted);
            self.0[at].1.push(target);
        });
        Ok(())
    }

    /// The mean over the values of a sample of their correlation.
    fn correlation(&self, of: fn(&[f64], &[f64]) -> Result<f64>) -> Result<f64> {
        if self.0.iter().all(|(predicted, _)| predicted.is_empty()) {
            return Err(no_sample());
        }
        let sum = self.0.iter().map(|(predicted, target)| of(predicted, target)).sum::<Result<f64>>()?;
        Ok(sum / self.0.len() as f64)
    }
}

fn pearson(a: &[f64], b: &[f64]) -> Result<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b).map(|(a, b)| (a - mean_a, b - mean_b)) {
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    match aa == 0.0 || bb == 0.0 {
        true => {
            Err(Undefined("all predictions or all targets are equal: nothing rises or falls".into()).into())
        }
        false => Ok((ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0)),
    }
}

fn spearman(a: &[f64], b: &[f64]) -> Result<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// The place of each value in their order; equal values share the mean of their places.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let (mut ranks, mut before) = (vec![0.0; values.len()], 0);
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let place = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|at| ranks[*at] = if values[*at].is_nan() { f64::NAN } else { place });
        before += tied.len();
    }
    ranks
}

macro_rules! correlation {
    ($(#[doc = $doc:expr])+ $name:ident, $registered:literal, $value:literal, $of:expr) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct $name {
            #[serde(skip)]
            numbers: Numbers,
        }

        crate::register! {
            $(#[doc = $doc])+
            dyn Metric, $registered => $name
        }

        impl Metric for $name {
            fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
                self.numbers.count(predictions)
            }
            fn compute(&self) -> Result<Vec<(String, f64)>> {
                Ok(vec![($value.to_owned(), self.numbers.correlation($of)?)])
            }
            counted!(numbers);
            fn names(&self) -> Vec<String> {
                vec![$value.to_owned()]
            }
            fn direction(&self, _: &str) -> Option<Direction> {
                Some(Direction::Greater)
            }
        }
    };
}
correlation! {
    /// How nearly predictions are a linear function of the targets, from -1 to 1: `pearson`.
    PearsonCorrCoef, "PearsonCorrCoef", "pearson", pearson
}
correlation! {
    /// How nearly predictions have the order of the targets, from -1 to 1: `spearman`.
    SpearmanCorrCoef, "SpearmanCorrCoef", "spearman", spearman
}
