//! Precision, recall and F1 of several labels at once.

use schemars::JsonSchema;
use serde::Deserialize;

use super::counts::counted;
use super::tally::{self, Average, Tallies, Tally};
use super::{Direction, Item, Metric, Predictions};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::registry::BuildCx;

/// Precision, recall and F1 in percent of labels that do not exclude each other: `multi-label/precision`,
/// `multi-label/recall`, `multi-label/f1-score` (MMPretrain's MultiLabelMetric).
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabelMetric {
    given: Given,
    items: Vec<Item>,
    average: Option<Average>,
    /// What a label of -1 is: a yes, a no, or nothing that counts.
    doubtful: Option<bool>,
    counts: Tallies,
}

/// Which labels count as given.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Given {
    /// Those whose probability is at least this.
    Above(f64),
    /// So many with the highest probabilities, the lower label among equals.
    Best(usize),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct MultiLabelConfig {
    /// A label is given whose probability is at least this; 0.5 without `topk`.
    #[schemars(range(min = 0.0, max = 1.0))]
    thr: Option<f64>,
    /// Instead of `thr`: so many labels are given, those with the highest probabilities.
    #[schemars(range(min = 1))]
    topk: Option<usize>,
    /// Which figures: precision, recall, f1-score, support.
    items: OneOrMany<Item>,
    /// macro: the mean over the labels; weighted: the mean over those that there are; micro: all of them together;
    /// null: a figure for each label.
    average: Option<Average>,
    /// Whether a label of -1, which is in doubt, counts as one that is there; null: it does not count.
    difficult_as_positive: Option<bool>,
}

impl Default for MultiLabelConfig {
    fn default() -> Self {
        let items = OneOrMany(vec![Item::Precision, Item::Recall, Item::F1Score]);
        Self { thr: None, topk: None, items, average: Some(Average::Macro), difficult_as_positive: None }
    }
}

/// The mean over the labels, a label given from a probability of 0.5 on.
impl Default for MultiLabelMetric {
    fn default() -> Self {
        let MultiLabelConfig { items, average, .. } = MultiLabelConfig::default();
        Self { given: Given::Above(0.5), items: items.0, average, doubtful: None, counts: Tallies::default() }
    }
}

crate::register! {
    /// Precision, recall and F1 in percent of several labels at once: `multi-label/precision`, …
    dyn Metric, "MultiLabelMetric" => fn MultiLabelMetric::from_config
}
crate::register! {
    /// MultiLabelMetric by its name for VOC, whose labels of -1 are in doubt.
    dyn Metric, "VOCMultiLabelMetric" => fn MultiLabelMetric::from_config
}

impl MultiLabelMetric {
    fn from_config(p: MultiLabelConfig, _: &mut BuildCx) -> Result<Self> {
        let given = match (p.thr, p.topk) {
            (Some(_), Some(_)) => {
                return Err(Error::config("give either `thr` or `topk`: each says which labels are given"));
            }
            (thr, None) => Given::Above(thr.unwrap_or(0.5)),
            (None, Some(k)) => Given::Best(k),
        };
        let (items, average, doubtful) = (p.items.0, p.average, p.difficult_as_positive);
        Ok(Self { given, items, average, doubtful, counts: Tallies::default() })
    }

    /// The same with another average, or without one a figure for each label.
    #[must_use]
    pub fn average(self, average: Option<Average>) -> Self {
        Self { average, ..self }
    }

    /// What stands behind the names: MMPretrain's, which tell everything but the usual threshold.
    fn suffix(&self) -> String {
        match self.given {
            Given::Above(0.5) => String::new(),
            Given::Above(thr) => format!("_thr-{thr:.2}"),
            Given::Best(k) => format!("_top{k}"),
        }
    }

    /// Which of a sample's labels are given, by their probabilities.
    fn given(&self, probabilities: &[f64]) -> Vec<bool> {
        match self.given {
            Given::Above(thr) => probabilities.iter().map(|p| *p >= thr).collect(),
            Given::Best(k) => {
                let mut order: Vec<usize> = (0..probabilities.len()).collect();
                order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
                let mut given = vec![false; probabilities.len()];
                order.iter().take(k).for_each(|at| given[*at] = true);
                given
            }
        }
    }
}

/// Whether a label is there; -1 is what is `doubtful`.
pub(super) fn label(value: f64, doubtful: Option<bool>) -> Result<Option<bool>> {
    match value {
        1.0 => Ok(Some(true)),
        0.0 => Ok(Some(false)),
        -1.0 => Ok(doubtful),
        other => Err(Error::invalid(format!(
            "a label is 0 or 1, or -1 where it does not count, and one is {other}"
        ))),
    }
}

impl Metric for MultiLabelMetric {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        predictions.scores()?;
        let pairs = predictions.pairs()?;
        let (width, before) = (pairs.width(), self.counts.0.len());
        if let Given::Best(k) = self.given
            && k > width
        {
            return Err(Error::invalid(format!("topk {k} is more than the {width} labels")));
        }
        if before != 0 && before != width {
            return Err(Error::invalid(format!("{width} labels after {before}")));
        }
        self.counts.0.resize(width, Tally::default());
        pairs.rows(|probabilities, values| {
            let given = self.given(probabilities);
            for (at, value) in values.iter().enumerate() {
                let (tally, given) = (&mut self.counts.0[at], given[at]);
                let Some(actual) = label(*value, self.doubtful)? else { continue };
                tally.actual += u64::from(actual);
                tally.predicted += u64::from(given);
                tally.hits += u64::from(given && actual);
            }
            Ok(())
        })
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        let suffix = self.suffix();
        let all = self.items.iter().map(|item| item.of(&self.counts, &suffix, self.average));
        Ok(all.collect::<Result<Vec<_>>>()?.concat())
    }

    counted!(counts);

    fn names(&self) -> Vec<String> {
        let suffix = self.suffix();
        let name = |item: &Item| tally::names(&format!("{}{suffix}", item.name()), self.average, None);
        self.items.iter().flat_map(name).collect()
    }

    fn prefix(&self) -> Option<&str> {
        Some("multi-label")
    }

    fn direction(&self, name: &str) -> Option<Direction> {
        (!name.starts_with(Item::Support.name())).then_some(Direction::Greater)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Batch, Fields};
    use ndarray::arr2;

    /// Labels 0: hit, miss, false alarm; 1: two hits, nothing wrong. By hand: precision 50 and 100, recall 50 and 100.
    #[test]
    fn labels_count_apart() {
        let batch = Batch::unlabelled(arr2(&[[0.0], [0.0], [0.0]]).into_dyn());
        let batch = batch.with("target", arr2(&[[1i64, 1], [1, 0], [0, 1]]));
        let outputs = Fields::one("scores", arr2(&[[0.5, 0.9], [0.4, 0.1], [0.9, 0.7]]).into_dyn());
        let mut metric = MultiLabelMetric::default();
        metric.process(&Predictions::of(&batch, &outputs)).unwrap();
        let values: Vec<f64> = metric.compute().unwrap().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [75.0, 75.0, 75.0]);
        let micro = metric.clone().average(Some(Average::Micro)).compute().unwrap();
        assert_eq!(micro[0], ("precision_micro".to_owned(), 75.0));
        let each = metric.average(None).compute().unwrap();
        assert_eq!(each[0], ("precision_classwise/0".to_owned(), 50.0));
    }
}
