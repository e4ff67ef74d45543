//! Precision, recall and F1 of a classifier that names one class.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::registry::BuildCx;

use super::accuracy::threshold_suffix;
use super::confusion::best;
use super::{Direction, Metric, Predictions};

/// A figure of [`SingleLabelMetric`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Item {
    /// Of those that were called a class, how many are (percent).
    #[serde(rename = "precision")]
    Precision,
    /// Of those that are of a class, how many were called so (percent).
    #[serde(rename = "recall")]
    Recall,
    /// The harmonic mean of both (percent).
    #[serde(rename = "f1-score")]
    F1Score,
    /// Number of samples.
    #[serde(rename = "support")]
    Support,
}

impl Item {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1Score => "f1-score",
            Self::Support => "support",
        }
    }
}

/// How the figures of the classes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The mean over the classes.
    Macro,
    /// The figure of all samples together.
    Micro,
}

/// Classes whose figures are listed one by one before there are data; of more than these, only how their names begin.
const LISTED: usize = 10_000;

/// Precision, recall and F1 in percent: `single-label/precision`, `single-label/recall`, `single-label/f1-score`.
#[derive(Debug, Clone, PartialEq)]
pub struct SingleLabelMetric {
    thrs: Vec<Option<f64>>,
    items: Vec<Item>,
    average: Option<Average>,
    num_classes: Option<usize>,
    /// Counts of each class, for each threshold.
    tallies: Vec<Vec<Tally>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct SingleLabelConfig {
    /// A prediction needs a score above this; null asks for none.
    #[schemars(extend("x-unbounded" = true))]
    thrs: OneOrMany<Option<f64>>,
    /// Which figures: precision, recall, f1-score, support.
    items: OneOrMany<Item>,
    /// macro: the mean over the classes; micro: all samples together; null: a figure for each class.
    average: Option<Average>,
    /// Number of classes, where the names of the figures are wanted before there are data.
    #[schemars(range(min = 1, max = 10_000_000))]
    num_classes: Option<usize>,
}

impl Default for SingleLabelConfig {
    fn default() -> Self {
        Self {
            thrs: OneOrMany(vec![Some(0.0)]),
            items: OneOrMany(vec![Item::Precision, Item::Recall, Item::F1Score]),
            average: Some(Average::Macro),
            num_classes: None,
        }
    }
}

crate::register! {
    /// Precision, recall and F1 in percent: `single-label/precision`, …
    dyn Metric, "SingleLabelMetric" => fn SingleLabelMetric::from_config
}

impl SingleLabelMetric {
    fn from_config(p: SingleLabelConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(p.thrs.0, p.items.0, p.average, p.num_classes)
    }
}

/// What is counted for a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) hits: u64,
    pub(super) predicted: u64,
    pub(super) actual: u64,
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.hits += other.hits;
        self.predicted += other.predicted;
        self.actual += other.actual;
    }
}

impl Tally {
    pub(super) fn figure(&self, item: Item) -> f64 {
        let percent = |of: u64| 100.0 * self.hits as f64 / of.max(1) as f64;
        match item {
            Item::Precision => percent(self.predicted),
            Item::Recall => percent(self.actual),
            // 2PR / (P + R) with both written out; no hit at all gives 0.
            Item::F1Score => 200.0 * self.hits as f64 / (self.predicted + self.actual).max(1) as f64,
            Item::Support => self.actual as f64,
        }
    }
}

impl SingleLabelMetric {
    /// A prediction is the class with the best score, and none when that is not above the threshold. Without `average`
    /// there is a figure for each class: `precision_classwise/0`, …
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no threshold or no item.
    pub fn new(
        thrs: Vec<Option<f64>>,
        items: Vec<Item>,
        average: Option<Average>,
        num_classes: Option<usize>,
    ) -> Result<Self> {
        if thrs.is_empty() || items.is_empty() {
            return Err(Error::invalid("SingleLabelMetric needs at least one threshold and one item"));
        }
        Ok(Self { tallies: vec![Vec::new(); thrs.len()], thrs, items, average, num_classes })
    }

    /// Name and value of one item of one threshold.
    fn figures(&self, item: Item, tallies: &[Tally], suffix: &str) -> Vec<(String, f64)> {
        let name = format!("{}{suffix}", item.name());
        let mut total = Tally::default();
        tallies.iter().for_each(|tally| total += tally);
        let each = tallies.iter().map(|tally| tally.figure(item));
        match self.average {
            None => {
                each.enumerate().map(|(class, value)| (format!("{name}_classwise/{class}"), value)).collect()
            }
            Some(Average::Micro) => vec![(format!("{name}_micro"), total.figure(item))],
            Some(Average::Macro) if item == Item::Support => vec![(name, total.figure(item))],
            Some(Average::Macro) => vec![(name, each.sum::<f64>() / tallies.len().max(1) as f64)],
        }
    }

    fn all_figures(&self, tallies: &[Vec<Tally>]) -> Vec<(String, f64)> {
        let by_threshold = self.thrs.iter().zip(tallies);
        let all = by_threshold.flat_map(|(&thr, tallies)| {
            let suffix = threshold_suffix(&self.thrs, thr);
            self.items.iter().flat_map(move |&item| self.figures(item, tallies, &suffix))
        });
        all.collect()
    }
}

impl Metric for SingleLabelMetric {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let (scores, labels) = predictions.classified()?;
        let classes = scores.ncols();
        let expected = self.num_classes.or(self.tallies.first().map(Vec::len).filter(|&n| n > 0));
        if let Some(expected) = expected.filter(|&n| n != classes) {
            return Err(Error::invalid(format!("scores for {classes} classes instead of {expected}")));
        }
        for (&thr, tallies) in self.thrs.iter().zip(&mut self.tallies) {
            tallies.resize(classes, Tally::default());
            for (scores, &label) in scores.outer_iter().zip(&labels) {
                tallies[label].actual += 1;
                let predicted = best(scores);
                if thr.is_none_or(|thr| scores[predicted] > thr as Elem) {
                    tallies[predicted].predicted += 1;
                    tallies[predicted].hits += u64::from(predicted == label);
                }
            }
        }
        Ok(())
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        if self.tallies[0].iter().all(|tally| tally.actual == 0) {
            return Err(Error::invalid("there was no sample"));
        }
        Ok(self.all_figures(&self.tallies))
    }

    fn reset(&mut self) {
        self.tallies.iter_mut().for_each(Vec::clear);
    }

    fn names(&self) -> Vec<String> {
        // An average has one name however many classes there are.
        let listed = self.num_classes.filter(|n| self.average.is_none() && *n <= LISTED);
        let blank = vec![vec![Tally::default(); listed.unwrap_or(1)]; self.thrs.len()];
        let names = self.all_figures(&blank).into_iter().map(|(name, _)| name);
        if self.average.is_some() || listed.is_some() {
            return names.collect();
        }
        // How many classes there are, the first scores will tell; or they are too many to be listed.
        names.map(|name| format!("{}*", name.trim_end_matches('0'))).collect()
    }

    fn prefix(&self) -> Option<&str> {
        Some("single-label")
    }

    fn direction(&self, name: &str) -> Option<Direction> {
        (!name.starts_with(Item::Support.name())).then_some(Direction::Greater)
    }
}
