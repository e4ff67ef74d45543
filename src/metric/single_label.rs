//! Precision, recall, F1 and F-beta of a classifier that names one class.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::registry::BuildCx;

use super::accuracy::threshold_suffix;
use super::confusion::best;
use super::counts::{Counts, counted, no_sample};
use super::tally::{self, Average, Tallies, Tally};
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

    /// Names and values of this figure; `suffix` tells the threshold.
    pub(super) fn of(
        self,
        tallies: &Tallies,
        suffix: &str,
        average: Option<Average>,
    ) -> Result<Vec<(String, f64)>> {
        let name = format!("{}{suffix}", self.name());
        let percent =
            |figure: fn(&Tally) -> f64| tallies.figure(&name, average, |tally| 100.0 * figure(tally));
        match self {
            Self::Precision => percent(Tally::precision),
            Self::Recall => percent(Tally::recall),
            Self::F1Score => percent(|tally| tally.f(1.0)),
            Self::Support => tallies.support(&name, average),
        }
    }
}

/// Precision, recall and F1 in percent: `single-label/precision`, `single-label/recall`, `single-label/f1-score`.
#[derive(Debug, Clone, PartialEq)]
pub struct SingleLabelMetric {
    thrs: Vec<Option<f64>>,
    items: Vec<Item>,
    average: Option<Average>,
    num_classes: Option<usize>,
    counts: ByThreshold,
}

/// Counts of each class, for each threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct ByThreshold(Vec<Tallies>);

impl Counts for ByThreshold {
    fn add(&mut self, other: Self) -> Result<()> {
        if self.0.is_empty() {
            self.0.resize(other.0.len(), Tallies::default());
        }
        self.0.iter_mut().zip(other.0).try_for_each(|(own, other)| own.add(other))
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct SingleLabelConfig {
    /// A prediction needs a score above this; null asks for none.
    #[schemars(extend("x-unbounded" = true))]
    thrs: OneOrMany<Option<f64>>,
    /// Which figures: precision, recall, f1-score, support.
    items: OneOrMany<Item>,
    /// macro: the mean over the classes; weighted: the mean over the samples; micro: all samples together; null: a
    /// figure for each class.
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
        Ok(Self { thrs, items, average, num_classes, counts: ByThreshold::default() })
    }

    /// What stands behind the names of each threshold's figures.
    fn suffixes(&self) -> impl Iterator<Item = String> {
        self.thrs.iter().map(|&thr| threshold_suffix(&self.thrs, thr))
    }
}

/// Counts one batch in the tallies of a threshold; `wanted` is how many classes there have to be, where that is known.
fn count(
    tallies: &mut Tallies,
    thr: Option<f64>,
    wanted: Option<usize>,
    predictions: &Predictions<'_>,
) -> Result<()> {
    let (scores, labels) = predictions.classified()?;
    let classes = scores.ncols();
    let expected = wanted.or(Some(tallies.0.len()).filter(|n| *n > 0));
    if let Some(expected) = expected.filter(|n| *n != classes) {
        return Err(Error::invalid(format!("scores for {classes} classes instead of {expected}")));
    }
    tallies.0.resize(classes, Tally::default());
    for (scores, &label) in scores.outer_iter().zip(&labels) {
        tallies.0[label].actual += 1;
        let predicted = best(scores);
        if thr.is_none_or(|thr| scores[predicted] > thr as Elem) {
            tallies.0[predicted].predicted += 1;
            tallies.0[predicted].hits += u64::from(predicted == label);
        }
    }
    Ok(())
}

impl Metric for SingleLabelMetric {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        self.counts.0.resize(self.thrs.len(), Tallies::default());
        let mut all = self.counts.0.iter_mut().zip(&self.thrs);
        all.try_for_each(|(tallies, thr)| count(tallies, *thr, self.num_classes, predictions))
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        if self.counts.0.is_empty() {
            return Err(no_sample());
        }
        let mut all = Vec::new();
        for (tallies, suffix) in self.counts.0.iter().zip(self.suffixes()) {
            for item in &self.items {
                all.extend(item.of(tallies, &suffix, self.average)?);
            }
        }
        Ok(all)
    }

    counted!(counts);

    fn names(&self) -> Vec<String> {
        let all = self.suffixes().flat_map(|suffix| {
            let of = move |item: &Item| {
                tally::names(&format!("{}{suffix}", item.name()), self.average, self.num_classes)
            };
            self.items.iter().flat_map(of)
        });
        all.collect()
    }

    fn prefix(&self) -> Option<&str> {
        Some("single-label")
    }

    fn direction(&self, name: &str) -> Option<Direction> {
        (!name.starts_with(Item::Support.name())).then_some(Direction::Greater)
    }
}

/// F-beta in percent, `(1 + β²) P R / (β² P + R)`: `single-label/f2-score`. Recall counts β times as much as precision.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FBetaScore {
    /// How many times as much recall counts as precision.
    #[schemars(range(min = 0.0))]
    beta: f64,
    /// macro: the mean over the classes; weighted: the mean over the samples; micro: all samples together; null: a
    /// figure for each class.
    average: Option<Average>,
    #[serde(skip)]
    counts: Tallies,
}

/// F2 of each class, averaged over the classes.
impl Default for FBetaScore {
    fn default() -> Self {
        Self { beta: 2.0, average: Some(Average::Macro), counts: Tallies::default() }
    }
}

crate::register! {
    /// F-beta in percent, in which recall counts `beta` times as much as precision: `single-label/f2-score`.
    dyn Metric, "FBetaScore" => FBetaScore
}

impl FBetaScore {
    /// With this beta.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is negative or no number.
    pub fn new(beta: f64, average: Option<Average>) -> Result<Self> {
        match beta >= 0.0 && beta.is_finite() {
            true => Ok(Self { beta, average, counts: Tallies::default() }),
            false => Err(Error::invalid(format!("FBetaScore: `beta` is {beta}, and 0 or more is wanted"))),
        }
    }

    fn figure(&self) -> String {
        format!("f{}-score", self.beta)
    }
}

impl Metric for FBetaScore {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        count(&mut self.counts, None, None, predictions)
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        self.counts.figure(&self.figure(), self.average, |tally| 100.0 * tally.f(self.beta))
    }

    counted!(counts);

    fn names(&self) -> Vec<String> {
        tally::names(&self.figure(), self.average, None)
    }

    fn prefix(&self) -> Option<&str> {
        Some("single-label")
    }

    fn direction(&self, _: &str) -> Option<Direction> {
        Some(Direction::Greater)
    }
}
