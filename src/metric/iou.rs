//! How well predicted masks cover the true ones.

use ndarray::{Array2, Axis};
use schemars::JsonSchema;
use serde::Deserialize;

use super::confusion::best;
use super::{Direction, Metric, Predictions, Undefined};
use crate::base::{Error, Result};

/// Of each class the pixels that both masks have, by those that one of them has, in percent: `mIoU` is the mean over
/// the classes that there are, `aAcc` the share of pixels that are right, `mAcc` the mean of each class's share
/// (MMSegmentation's names).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IoUMetric {
    /// Pixels of this class do not count.
    #[schemars(extend("x-unbounded" = true))]
    ignore_index: Option<i64>,
    /// Counts of (true class, predicted class).
    #[serde(skip)]
    counts: Array2<u64>,
}

crate::register! {
    /// How well predicted masks cover the true ones: `mIoU`, `aAcc` and `mAcc` in percent.
    dyn Metric, "IoUMetric" => IoUMetric
}

impl Metric for IoUMetric {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let (scores, masks) = (predictions.predicted()?, predictions.classes()?);
        let shape = scores.shape().to_vec();
        let places: usize = shape.iter().skip(2).product();
        if shape.len() < 3 || masks.len() != shape[0] * places {
            return Err(Error::invalid(format!(
                "scores of shape {shape:?} and masks of shape {:?}: [N, K, H, W] and [N, H, W] are wanted",
                masks.shape()
            )));
        }
        let classes = shape[1];
        if self.counts.is_empty() {
            self.counts = Array2::zeros((classes, classes));
        } else if self.counts.nrows() != classes {
            return Err(Error::invalid(format!(
                "scores for {classes} classes after {}",
                self.counts.nrows()
            )));
        }
        for (pixel, truth) in scores.lanes(Axis(1)).into_iter().zip(&masks) {
            if self.ignore_index == Some(*truth) {
                continue;
            }
            let class = usize::try_from(*truth).ok().filter(|class| *class < classes).ok_or_else(|| {
                Error::invalid(format!(
                    "a mask has the class {truth}, but the scores are for {classes} classes"
                ))
            })?;
            self.counts[[class, best(pixel)]] += 1;
        }
        Ok(())
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        let hits: Vec<f64> = self.counts.diag().iter().map(|n| *n as f64).collect();
        let of = |axis| self.counts.sum_axis(Axis(axis)).into_iter().map(|n| n as f64).collect::<Vec<_>>();
        let (actual, predicted) = (of(1), of(0));
        let all: f64 = actual.iter().sum();
        if all == 0.0 {
            return Err(Undefined("there was no pixel".into()).into());
        }
        let mean = |figures: &mut dyn Iterator<Item = f64>| {
            let (n, sum) = figures.filter(|f| !f.is_nan()).fold((0, 0.0), |(n, sum), f| (n + 1, sum + f));
            100.0 * sum / f64::from(n.max(1))
        };
        let each = || hits.iter().zip(&actual).zip(&predicted);
        Ok(vec![
            ("mIoU".to_owned(), mean(&mut each().map(|((hit, a), p)| hit / (a + p - hit)))),
            ("aAcc".to_owned(), 100.0 * hits.iter().sum::<f64>() / all),
            ("mAcc".to_owned(), mean(&mut each().map(|((hit, a), _)| hit / a))),
        ])
    }

    fn reset(&mut self) {
        self.counts = Array2::default((0, 0));
    }

    fn names(&self) -> Vec<String> {
        ["mIoU", "aAcc", "mAcc"].map(str::to_owned).to_vec()
    }

    fn direction(&self, _: &str) -> Option<Direction> {
        Some(Direction::Greater)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Batch, Fields};
    use ndarray::{Array4, arr2};

    /// Four pixels, true 0 0 1 1, predicted 0 1 1 1: IoU 1/2 and 2/3, right 3 of 4, shares 1/2 and 1.
    #[test]
    fn four_pixels_by_hand() {
        let batch = Batch::unlabelled(arr2(&[[0.0]]).into_dyn());
        let masks = ndarray::Array3::from_shape_vec((1, 2, 2), vec![0i64, 0, 1, 1]).unwrap();
        let batch = batch.with("target", masks);
        let scores = vec![0.9, 0.2, 0.1, 0.3, 0.1, 0.8, 0.9, 0.7];
        let outputs = Fields::one("scores", Array4::from_shape_vec((1, 2, 2, 2), scores).unwrap().into_dyn());
        let mut metric = IoUMetric::default();
        metric.process(&Predictions::of(&batch, &outputs)).unwrap();
        let values: Vec<f64> = metric.compute().unwrap().into_iter().map(|(_, value)| value).collect();
        let expected = [100.0 * (0.5 + 2.0 / 3.0) / 2.0, 75.0, 75.0];
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{values:?}");
        metric.reset();
        assert!(metric.compute().is_err());
    }
}
