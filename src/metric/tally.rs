//! Counts of each class or label, and how their figures become one.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Counts, add_each, no_sample};
use crate::base::Result;

/// How the figures of the classes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The mean over the classes.
    Macro,
    /// The figure of all samples together.
    Micro,
    /// The mean over the samples, each with the figure of its class.
    Weighted,
}

impl Average {
    /// What stands behind the name of a figure; MMPretrain's macro average has the plain name.
    fn suffix(self) -> &'static str {
        match self {
            Self::Macro => "",
            Self::Micro => "_micro",
            Self::Weighted => "_weighted",
        }
    }
}

/// Classes whose figures are listed one by one before there are data; of more than these, only how their names begin.
const LISTED: usize = 10_000;

/// The names that [`named`] will give, with the number of classes where it is known.
pub(super) fn names(name: &str, average: Option<Average>, classes: Option<usize>) -> Vec<String> {
    match (average, classes.filter(|n| *n <= LISTED)) {
        (Some(average), _) => vec![format!("{name}{}", average.suffix())],
        (None, Some(n)) => (0..n).map(|class| format!("{name}_classwise/{class}")).collect(),
        // How many classes there are, the first scores will tell; or they are too many to be listed.
        (None, None) => vec![format!("{name}_classwise/*")],
    }
}

/// The figures of the classes as one, or each under the number of its class. `weights` are those of the weighted mean,
/// `all` the figure of all samples together.
pub(super) fn named(
    name: &str,
    average: Option<Average>,
    figures: &[f64],
    weights: &[f64],
    all: impl FnOnce() -> f64,
) -> Vec<(String, f64)> {
    let mean = |weights: &mut dyn Iterator<Item = f64>| {
        let (mut sum, mut total) = (0.0, 0.0);
        figures.iter().zip(weights).filter(|(_, weight)| *weight != 0.0).for_each(|(figure, weight)| {
            sum += weight * figure;
            total += weight;
        });
        if total == 0.0 { 0.0 } else { sum / total }
    };
    let value = match average {
        None => {
            let each = figures.iter().enumerate();
            return each.map(|(class, value)| (format!("{name}_classwise/{class}"), *value)).collect();
        }
        Some(Average::Macro) => mean(&mut std::iter::repeat(1.0)),
        Some(Average::Weighted) => mean(&mut weights.iter().copied()),
        Some(Average::Micro) => all(),
    };
    vec![(format!("{name}{}", average.map_or("", Average::suffix)), value)]
}

/// What is counted for a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Of those that were called so, how many are it; 0 where none was.
    pub(super) fn precision(&self) -> f64 {
        self.hits as f64 / self.predicted.max(1) as f64
    }

    /// Of those that are it, how many were called so; 0 where none is.
    pub(super) fn recall(&self) -> f64 {
        self.hits as f64 / self.actual.max(1) as f64
    }

    /// `(1 + β²) P R / (β² P + R)` with both written out, so that no hit at all gives 0.
    pub(super) fn f(&self, beta: f64) -> f64 {
        let square = beta * beta;
        match square * self.actual as f64 + self.predicted as f64 {
            0.0 => 0.0,
            below => (1.0 + square) * self.hits as f64 / below,
        }
    }
}

/// The tallies of all classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tallies(pub Vec<Tally>);

impl Counts for Tallies {
    fn add(&mut self, other: Self) -> Result<()> {
        add_each(&mut self.0, other.0, "classes", |own, other| *own += &other)
    }
}

impl Tallies {
    /// A figure of each class, as one or under their names.
    ///
    /// # Errors
    /// When nothing was counted.
    pub(super) fn figure(
        &self,
        name: &str,
        average: Option<Average>,
        figure: impl Fn(&Tally) -> f64,
    ) -> Result<Vec<(String, f64)>> {
        if self.0.is_empty() {
            return Err(no_sample());
        }
        let figures: Vec<f64> = self.0.iter().map(&figure).collect();
        let weights: Vec<f64> = self.0.iter().map(|tally| tally.actual as f64).collect();
        Ok(named(name, average, &figures, &weights, || figure(&self.total())))
    }

    /// All classes together.
    fn total(&self) -> Tally {
        self.0.iter().fold(Tally::default(), |mut total, tally| {
            total += tally;
            total
        })
    }

    /// The number of samples, which are added up and not averaged.
    ///
    /// # Errors
    /// When nothing was counted.
    pub(super) fn support(&self, name: &str, average: Option<Average>) -> Result<Vec<(String, f64)>> {
        match average {
            None => self.figure(name, average, |tally| tally.actual as f64),
            Some(average) if self.0.is_empty() => self.figure(name, Some(average), |_| 0.0),
            Some(average) => Ok(vec![(format!("{name}{}", average.suffix()), self.total().actual as f64)]),
        }
    }
}
