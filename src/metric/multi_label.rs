//! Precision, recall and F1 of several labels at once.

use schemars::JsonSchema;
use serde::Deserialize;

use super::single_label::Tally;
use super::{Average, Direction, Item, Metric, Predictions};
use crate::base::{Error, Result};
use crate::config::OneOrMany;

/// Precision, recall and F1 in percent of labels that do not exclude each other: `multi-label/precision`,
/// `multi-label/recall`, `multi-label/f1-score` (MMPretrain's MultiLabelMetric).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MultiLabelMetric {
    /// A label is given whose probability is at least this.
    #[schemars(range(min = 0.0, max = 1.0))]
    thr: f64,
    /// Which figures: precision, recall, f1-score, support.
    items: OneOrMany<Item>,
    /// macro: the mean over the labels; micro: all of them together; null: a figure for each label.
    average: Option<Average>,
    #[serde(skip)]
    tallies: Vec<Tally>,
}

impl Default for MultiLabelMetric {
    fn default() -> Self {
        let items = OneOrMany(vec![Item::Precision, Item::Recall, Item::F1Score]);
        Self { thr: 0.5, items, average: Some(Average::Macro), tallies: Vec::new() }
    }
}

crate::register! {
    /// Precision, recall and F1 in percent of several labels at once: `multi-label/precision`, …
    dyn Metric, "MultiLabelMetric" => MultiLabelMetric
}

impl MultiLabelMetric {
    fn figures(&self, item: Item) -> Vec<(String, f64)> {
        let mut total = Tally::default();
        self.tallies.iter().for_each(|tally| total += tally);
        let (name, n) = (item.name(), self.tallies.len().max(1) as f64);
        let each = self.tallies.iter().map(|tally| tally.figure(item));
        match self.average {
            None => each.enumerate().map(|(at, value)| (format!("{name}_classwise/{at}"), value)).collect(),
            Some(Average::Micro) => vec![(format!("{name}_micro"), total.figure(item))],
            Some(Average::Macro) if item == Item::Support => vec![(name.to_owned(), total.figure(item))],
            Some(Average::Macro) => vec![(name.to_owned(), each.sum::<f64>() / n)],
        }
    }
}

impl Metric for MultiLabelMetric {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let (pairs, mut odd) = (predictions.pairs()?, None);
        self.tallies.resize(pairs.width(), Tally::default());
        pairs.each(|at, probability, label| {
            let (given, actual, tally) = (probability >= self.thr, label == 1.0, &mut self.tallies[at]);
            if label != 0.0 && label != 1.0 {
                odd.get_or_insert(label);
            }
            tally.actual += u64::from(actual);
            tally.predicted += u64::from(given);
            tally.hits += u64::from(given && actual);
        });
        match odd {
            Some(label) => Err(Error::invalid(format!("a label is 0 or 1, and one is {label}"))),
            None => Ok(()),
        }
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        if self.tallies.is_empty() {
            return Err(Error::invalid("there was no sample"));
        }
        Ok(self.items.iter().flat_map(|item| self.figures(*item)).collect())
    }

    fn reset(&mut self) {
        self.tallies.clear();
    }

    fn names(&self) -> Vec<String> {
        let suffix = match self.average {
            None => "_classwise/*",
            Some(Average::Micro) => "_micro",
            Some(Average::Macro) => "",
        };
        self.items.iter().map(|item| format!("{}{suffix}", item.name())).collect()
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
        metric.average = Some(Average::Micro);
        let micro = metric.compute().unwrap();
        assert_eq!(micro[0], ("precision_micro".to_owned(), 75.0));
        metric.average = None;
        assert_eq!(metric.compute().unwrap()[0], ("precision_classwise/0".to_owned(), 50.0));
    }
}
