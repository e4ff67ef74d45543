//! How well predicted masks cover the true ones.

use schemars::JsonSchema;
use serde::Deserialize;

use super::confusion::{Confusion, best};
use super::counts::counted;
use super::tally::Tally;
use super::{Direction, Metric, Predictions, Undefined};
use crate::base::{Error, Result};
use crate::config::OneOrMany;

/// What is told of masks beside `aAcc`, the share of pixels that are right (MMSegmentation's names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[allow(non_camel_case_types)]
pub enum MaskFigure {
    /// Of each class the pixels that both masks have, by those that one of them has: `mIoU`; and `mAcc`.
    mIoU,
    /// Twice the pixels that both have, by those of one and those of the other: `mDice`; and `mAcc`.
    mDice,
    /// `mFscore`, with `mPrecision` and `mRecall`.
    mFscore,
}

/// Of each class the pixels that both masks have, by those that one of them has, in percent: `mIoU` is the mean over
/// the classes that there are, `aAcc` the share of pixels that are right, `mAcc` the mean of each class's share
/// (MMSegmentation's names). `iou_metrics` asks for more.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IoUMetric {
    /// Pixels of this class do not count.
    #[schemars(extend("x-unbounded" = true))]
    ignore_index: Option<i64>,
    /// Which figures: mIoU, mDice, mFscore.
    iou_metrics: OneOrMany<MaskFigure>,
    /// How many times as much recall counts as precision in mFscore.
    #[schemars(range(min = 0.0))]
    beta: f64,
    #[serde(skip)]
    counts: Confusion,
}

/// mIoU and mAcc of all pixels.
impl Default for IoUMetric {
    fn default() -> Self {
        let iou_metrics = OneOrMany(vec![MaskFigure::mIoU]);
        Self { ignore_index: None, iou_metrics, beta: 1.0, counts: Confusion::default() }
    }
}

crate::register! {
    /// How well predicted masks cover the true ones: `mIoU`, `aAcc` and `mAcc` in percent, `mDice` and `mFscore` if asked.
    dyn Metric, "IoUMetric" => IoUMetric
}

/// A share; of nothing there is none.
fn share(hits: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| hits as f64 / of as f64)
}

/// The share of a class, with the beta of F-beta; `None` where the class is not there.
type Share = fn(&Tally, f64) -> Option<f64>;

impl MaskFigure {
    fn shares(self) -> &'static [(&'static str, Share)] {
        const M_ACC: (&str, Share) = ("mAcc", |t, _| share(t.hits, t.actual));
        match self {
            Self::mIoU => &[("mIoU", |t, _| share(t.hits, t.actual + t.predicted - t.hits)), M_ACC],
            Self::mDice => &[("mDice", |t, _| share(2 * t.hits, t.actual + t.predicted)), M_ACC],
            Self::mFscore => &[
                ("mFscore", |t, beta| (t.actual + t.predicted > 0).then(|| t.f(beta))),
                ("mPrecision", |t, _| share(t.hits, t.predicted)),
                ("mRecall", |t, _| share(t.hits, t.actual)),
            ],
        }
    }
}

impl IoUMetric {
    /// What is asked for, each once.
    fn shares(&self) -> Vec<(&'static str, Share)> {
        let mut all = Vec::<(&str, Share)>::new();
        for own in self.iou_metrics.iter().flat_map(|figure| figure.shares()) {
            if all.iter().all(|(known, _)| *known != own.0) {
                all.push(*own);
            }
        }
        all
    }
}

/// `aAcc` stands behind the first figure, which `save_best: auto` goes by.
fn with_all_pixels<T>(mut figures: Vec<T>, all: T) -> Vec<T> {
    figures.insert(figures.len().min(1), all);
    figures
}

impl Metric for IoUMetric {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let shape = predictions.scores()?.shape().to_vec();
        match shape[..] {
            [_, classes, _, ..] => self.counts.expect(classes)?,
            _ => return Err(Error::invalid(format!("scores of shape {shape:?}: masks want [N, K, H, W]"))),
        }
        let counts = &mut self.counts;
        predictions.at_places(self.ignore_index, |scores, truth| counts.count(truth, best(scores)))
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        let (tallies, all) = (self.counts.tallies(), self.counts.total());
        if all == 0 {
            return Err(Undefined("there was no pixel".into()).into());
        }
        let hits: u64 = tallies.iter().map(|tally| tally.hits).sum();
        let mean = |(name, share): (&str, Share)| {
            let shares: Vec<f64> = tallies.iter().filter_map(|tally| share(tally, self.beta)).collect();
            (name.to_owned(), 100.0 * shares.iter().sum::<f64>() / shares.len().max(1) as f64)
        };
        let right = ("aAcc".to_owned(), 100.0 * hits as f64 / all as f64);
        Ok(with_all_pixels(self.shares().into_iter().map(mean).collect(), right))
    }

    counted!(counts);

    fn names(&self) -> Vec<String> {
        let names = self.shares().into_iter().map(|(name, _)| name.to_owned()).collect();
        with_all_pixels(names, "aAcc".to_owned())
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

    /// Four pixels, true 0 0 1 1, predicted 0 1 1 1: IoU 1/2 and 2/3, right 3 of 4, shares 1/2 and 1. Dice 2/3 and 4/5,
    /// which is F1 too.
    #[test]
    fn four_pixels_by_hand() {
        let batch = Batch::unlabelled(arr2(&[[0.0]]).into_dyn());
        let masks = ndarray::Array3::from_shape_vec((1, 2, 2), vec![0i64, 0, 1, 1]).unwrap();
        let batch = batch.with("target", masks);
        let scores = vec![0.9, 0.2, 0.1, 0.3, 0.1, 0.8, 0.9, 0.7];
        let outputs = Fields::one("scores", Array4::from_shape_vec((1, 2, 2, 2), scores).unwrap().into_dyn());
        let iou_metrics = OneOrMany(vec![MaskFigure::mIoU, MaskFigure::mDice, MaskFigure::mFscore]);
        for (mut metric, wanted) in
            [(IoUMetric::default(), 3), (IoUMetric { iou_metrics, ..IoUMetric::default() }, 7)]
        {
            metric.process(&Predictions::of(&batch, &outputs)).unwrap();
            let expected = [
                ("mIoU", (0.5 + 2.0 / 3.0) / 2.0),
                ("aAcc", 0.75),
                ("mAcc", 0.75),
                ("mDice", (2.0 / 3.0 + 0.8) / 2.0),
                ("mFscore", (2.0 / 3.0 + 0.8) / 2.0),
                ("mPrecision", (1.0 + 2.0 / 3.0) / 2.0),
                ("mRecall", 0.75),
            ];
            let values = metric.compute().unwrap();
            assert_eq!(values.len(), wanted);
            for ((name, value), (meant, share)) in values.iter().zip(expected) {
                assert!(name == meant && (value - 100.0 * share).abs() < 1e-9, "{name} {value}");
            }
            metric.reset();
            assert!(metric.compute().is_err());
        }
    }
}
