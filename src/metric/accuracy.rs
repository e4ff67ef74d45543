//! How often the right class is among the best k.

use std::num::NonZeroUsize;

use ndarray::ArrayView1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::registry::BuildCx;

use super::counts::{Counts, add_each, counted, no_sample};
use super::{Direction, Metric, Predictions};

/// Top-k accuracy in percent: `accuracy/top1`, `accuracy/top5`, …
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    topk: Vec<usize>,
    thrs: Vec<Option<f64>>,
    counts: Hits,
}

/// Hits for each k and each threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Hits {
    hits: Vec<u64>,
    samples: u64,
}

impl Counts for Hits {
    fn add(&mut self, other: Self) -> Result<()> {
        add_each(&mut self.hits, other.hits, "kinds of hits", |own, other| *own += other)?;
        self.samples += other.samples;
        Ok(())
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct AccuracyConfig {
    /// A sample is a hit for k when its class is among the k best.
    topk: OneOrMany<NonZeroUsize>,
    /// A hit needs a score above this; null asks for none.
    #[schemars(extend("x-unbounded" = true))]
    thrs: OneOrMany<Option<f64>>,
}

impl Default for AccuracyConfig {
    fn default() -> Self {
        Self { topk: OneOrMany(vec![NonZeroUsize::MIN]), thrs: OneOrMany(vec![Some(0.0)]) }
    }
}

crate::register! {
    /// Top-k accuracy in percent: `accuracy/top1`, …
    dyn Metric, "Accuracy" => fn Accuracy::from_config
}

impl Accuracy {
    fn from_config(p: AccuracyConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(p.topk.iter().map(|k| k.get()).collect(), p.thrs.0)
    }
}

/// Top-1, with a score above 0.
impl Default for Accuracy {
    fn default() -> Self {
        Self { topk: vec![1], thrs: vec![Some(0.0)], counts: Hits::default() }
    }
}

impl Accuracy {
    /// A sample is a hit for k when its class has one of the k best scores and that score is above the threshold;
    /// without threshold its place is enough. Among equal scores the lower class wins.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no k or no threshold, or a k is 0.
    pub fn new(topk: Vec<usize>, thrs: Vec<Option<f64>>) -> Result<Self> {
        if topk.is_empty() || topk.contains(&0) || thrs.is_empty() {
            let thrs: Vec<_> =
                thrs.iter().map(|thr| thr.map_or("null".to_owned(), |thr| thr.to_string())).collect();
            return Err(Error::invalid(format!(
                "Accuracy: `topk` {topk:?} and `thrs` [{}] need one entry at least, each k > 0",
                thrs.join(", ")
            )));
        }
        Ok(Self { topk, thrs, counts: Hits::default() })
    }

    fn name(&self, k: usize, thr: Option<f64>) -> String {
        format!("top{k}{}", threshold_suffix(&self.thrs, thr))
    }
}

/// Names carry the threshold only where there are several.
pub(super) fn threshold_suffix(thrs: &[Option<f64>], thr: Option<f64>) -> String {
    match thr {
        _ if thrs.len() < 2 => String::new(),
        None => "_no-thr".to_owned(),
        Some(thr) => format!("_thr-{thr:.2}"),
    }
}

/// How many classes come before `class`; `None` when its score is no number.
fn place(scores: ArrayView1<'_, Elem>, class: usize) -> Option<usize> {
    let own = scores[class];
    let better = |(other, &score): (usize, &Elem)| score > own || (score == own && other < class);
    (!own.is_nan()).then(|| scores.iter().enumerate().filter(|&s| better(s)).count())
}

impl Metric for Accuracy {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let (scores, labels) = predictions.classified()?;
        if let Some(k) = self.topk.iter().find(|&&k| k > scores.ncols()) {
            return Err(Error::invalid(format!(
                "topk {k} is more than the {} classes: give `topk: [1]`, in an `evaluation` of MMCV 1.x by `metric_options`",
                scores.ncols()
            )));
        }
        self.counts.hits.resize(self.topk.len() * self.thrs.len(), 0);
        for (scores, &label) in scores.outer_iter().zip(&labels) {
            let Some(place) = place(scores, label) else { continue };
            let kinds = self.topk.iter().flat_map(|&k| self.thrs.iter().map(move |thr| (k, *thr)));
            for ((k, thr), hits) in kinds.zip(&mut self.counts.hits) {
                let above = thr.is_none_or(|thr| scores[label] > thr as Elem);
                *hits += u64::from(place < k && above);
            }
        }
        self.counts.samples += labels.len() as u64;
        Ok(())
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        let Hits { hits, samples } = &self.counts;
        if *samples == 0 {
            return Err(no_sample());
        }
        let percent = |&hits: &u64| 100.0 * hits as f64 / *samples as f64;
        Ok(self.names().into_iter().zip(hits.iter().map(percent)).collect())
    }

    counted!(counts);

    fn names(&self) -> Vec<String> {
        self.topk.iter().flat_map(|&k| self.thrs.iter().map(move |&thr| self.name(k, thr))).collect()
    }

    fn prefix(&self) -> Option<&str> {
        Some("accuracy")
    }

    fn direction(&self, _name: &str) -> Option<Direction> {
        Some(Direction::Greater)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn places_count_from_the_best_and_ties_go_to_the_lower_class() {
        let scores = arr1(&[0.1, 0.4, 0.4, 0.1]);
        assert_eq!(
            (0..4).map(|class| place(scores.view(), class)).collect::<Vec<_>>(),
            [2, 0, 1, 3].map(Some)
        );
        assert_eq!(place(arr1(&[Elem::NAN, 0.5]).view(), 0), None);
        // NaN never wins a comparison
        assert_eq!(place(arr1(&[Elem::NAN, 0.5]).view(), 1), Some(0));
    }
}
