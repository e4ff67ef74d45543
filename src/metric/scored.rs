//! Figures of a ranking by scores, of which every sample's has to be kept: average precision, area under the ROC curve.

use ndarray::Axis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Counts, counted, no_sample};
use super::multi_label::label;
use super::tally::{self, Average};
use super::{Direction, Metric, Predictions, Undefined};
use crate::base::{Elem, Error, Result};
use crate::registry::BuildCx;

/// The scores of all samples with what is true of them, a column for each class or label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Scored {
    columns: usize,
    /// A row of scores for each sample.
    scores: Vec<Elem>,
    /// Whether each is what the score is for: 1, 0, or -1 where it does not count.
    truth: Vec<i8>,
    /// Whether each sample is of exactly one of the columns.
    classes: bool,
}

impl Counts for Scored {
    fn add(&mut self, other: Self) -> Result<()> {
        if !other.scores.is_empty() {
            self.expect(other.columns, other.classes)?;
            self.scores.extend(other.scores);
            self.truth.extend(other.truth);
        }
        Ok(())
    }
}

/// Score and truth of the samples that count, best first.
type Ranking = Vec<(Elem, bool)>;

impl Scored {
    fn expect(&mut self, columns: usize, classes: bool) -> Result<()> {
        if self.scores.is_empty() {
            *self = Self { columns, classes, ..Self::default() };
        }
        match self.columns == columns && self.classes == classes {
            true => Ok(()),
            false => Err(Error::invalid(format!("scores for {columns} classes after {}", self.columns))),
        }
    }

    /// One class a sample, or a yes or no for each label; -1 is what is `doubtful`.
    fn process(&mut self, predictions: &Predictions<'_>, doubtful: Option<bool>) -> Result<()> {
        let shape = predictions.scores()?.shape().to_vec();
        let wide = shape.len() == 2 && shape[1] > 1;
        if wide && predictions.classes().is_ok_and(|target| target.len() == target.len_of(Axis(0))) {
            let (scores, labels) = predictions.classified()?;
            self.expect(scores.ncols(), true)?;
            for (scores, label) in scores.outer_iter().zip(labels) {
                self.scores.extend(scores);
                self.truth.extend((0..scores.len()).map(|class| i8::from(class == label)));
            }
            return Ok(());
        }
        let pairs = predictions.pairs()?;
        self.expect(pairs.width(), false)?;
        pairs.rows(|scores, values| {
            for (score, value) in scores.iter().zip(values) {
                self.truth.push(label(*value, doubtful)?.map_or(-1, i8::from));
                self.scores.push(*score as Elem);
            }
            Ok(())
        })
    }

    fn ranking(&self, columns: std::ops::Range<usize>) -> Ranking {
        let rows = self.scores.chunks(self.columns).zip(self.truth.chunks(self.columns));
        let own = rows.flat_map(|(scores, truth)| columns.clone().map(|at| (scores[at], truth[at])));
        let mut all: Ranking = own.filter(|(_, truth)| *truth >= 0).map(|(s, t)| (s, t == 1)).collect();
        all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        all
    }

    /// A figure of the ranking by each column, as one or under their names. It is NaN where a column has none: such
    /// columns are left out of a mean.
    fn figures(
        &self,
        name: impl Fn(Option<Average>) -> String,
        average: Option<Average>,
        figure: impl Fn(&Ranking) -> f64,
    ) -> Result<Vec<(String, f64)>> {
        if self.scores.is_empty() {
            return Err(no_sample());
        }
        // Of two classes the second one is asked about: the scores of the first say the same.
        let asked = if self.classes && self.columns == 2 { 1..2 } else { 0..self.columns };
        let rankings = asked.clone().map(|at| self.ranking(at..at + 1));
        let (mut figures, mut weights) = (Vec::new(), Vec::new());
        for ranking in rankings {
            let value = figure(&ranking);
            if average.is_none() || !value.is_nan() {
                figures.push(value);
                weights.push(ranking.iter().filter(|(_, truth)| *truth).count() as f64);
            }
        }
        if average.is_some() && figures.is_empty() {
            let text =
                "all samples are of one class, or of none: there is no ranking of one before the other";
            return Err(Undefined(text.into()).into());
        }
        Ok(tally::named(&name(average), average, &figures, &weights, || figure(&self.ranking(asked))))
    }
}

/// Calls `f` for each score, the best first, with how many have it that are true and how many that are not.
fn each_score(ranking: &Ranking, mut f: impl FnMut(u64, u64)) {
    for tied in ranking.chunk_by(|a, b| a.0 == b.0) {
        let yes = tied.iter().filter(|(_, truth)| *truth).count() as u64;
        f(yes, tied.len() as u64 - yes);
    }
}

fn has_nan(ranking: &Ranking) -> bool {
    ranking.iter().any(|(score, _)| score.is_nan())
}

/// `Σ (R_n - R_{n-1}) P_n` over the thresholds that the scores are; 0 where nothing is true.
fn average_precision(ranking: &Ranking) -> f64 {
    if has_nan(ranking) {
        return f64::NAN;
    }
    let (mut yes, mut all, mut sum) = (0, 0, 0.0);
    each_score(ranking, |tied_yes, tied_no| {
        yes += tied_yes;
        all += tied_yes + tied_no;
        sum += tied_yes as f64 * (yes as f64 / all as f64);
    });
    sum / (yes.max(1)) as f64
}

/// The share of pairs of a true and an untrue sample in which the true one has the better score; half of those with
/// equal scores. NaN where there is no pair.
fn area(ranking: &Ranking) -> f64 {
    if has_nan(ranking) {
        return f64::NAN;
    }
    // Twice the pairs are whole numbers, so that their order does not matter.
    let (mut yes, mut no, mut twice) = (0u64, 0u64, 0u128);
    each_score(ranking, |tied_yes, tied_no| {
        twice += u128::from(tied_no) * (2 * u128::from(yes) + u128::from(tied_yes));
        yes += tied_yes;
        no += tied_no;
    });
    twice as f64 / (2.0 * yes as f64 * no as f64)
}

/// The mean over the labels of their average precision, in percent: `multi-label/mAP` (MMPretrain's AveragePrecision).
/// Samples of equal scores count at once, as scikit-learn has it; labels that no sample has count as 0, as both have it.
#[derive(Debug, Clone, PartialEq)]
pub struct AveragePrecision {
    average: Option<Average>,
    doubtful: Option<bool>,
    counts: Scored,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct AveragePrecisionConfig {
    /// macro: the mean over the labels; weighted: the mean over those that there are; micro: all of them in one
    /// ranking; null: a figure for each label.
    average: Option<Average>,
    /// Whether a label of -1, which is in doubt, counts as one that is there; null: it does not count.
    difficult_as_positive: Option<bool>,
}

impl Default for AveragePrecisionConfig {
    fn default() -> Self {
        Self { average: Some(Average::Macro), difficult_as_positive: None }
    }
}

crate::register! {
    /// The mean over the labels, or classes, of their average precision in percent: `multi-label/mAP`.
    dyn Metric, "AveragePrecision" => fn AveragePrecision::from_config
}
crate::register! {
    /// AveragePrecision by its name for VOC, whose labels of -1 are in doubt.
    dyn Metric, "VOCAveragePrecision" => fn AveragePrecision::from_config
}

/// The mean over the labels.
impl Default for AveragePrecision {
    fn default() -> Self {
        Self { average: Some(Average::Macro), doubtful: None, counts: Scored::default() }
    }
}

impl AveragePrecision {
    fn from_config(p: AveragePrecisionConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self { average: p.average, doubtful: p.difficult_as_positive, counts: Scored::default() })
    }

    /// The same with another average, or without one a figure for each label.
    #[must_use]
    pub fn average(self, average: Option<Average>) -> Self {
        Self { average, ..self }
    }

    /// MMPretrain's names.
    fn figure(average: Option<Average>) -> String {
        average.map_or("AP", |_| "mAP").to_owned()
    }
}

/// The area under the ROC curve, 0 to 1: `roc_auc`. Of two classes, or of one score, that of the second class; of
/// several classes, or labels, the mean of each against the rest.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ROCAUC {
    /// macro: the mean over the classes that have samples; weighted: the same by their numbers of samples; micro: all
    /// scores in one ranking; null: a figure for each class.
    average: Option<Average>,
    #[serde(skip)]
    counts: Scored,
}

/// The mean over the classes.
impl Default for ROCAUC {
    fn default() -> Self {
        Self { average: Some(Average::Macro), counts: Scored::default() }
    }
}

crate::register! {
    /// The area under the ROC curve: `roc_auc`; of several classes or labels the mean of each against the rest.
    dyn Metric, "ROCAUC" => ROCAUC
}

impl ROCAUC {
    /// The same with another average, or without one a figure for each class.
    #[must_use]
    pub fn average(self, average: Option<Average>) -> Self {
        Self { average, ..self }
    }
}

macro_rules! of_the_ranking {
    ($metric:ident, $prefix:expr, $name:expr, $doubtful:expr, $figure:expr) => {
        impl Metric for $metric {
            fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
                let doubtful: fn(&Self) -> Option<bool> = $doubtful;
                let doubtful = doubtful(self);
                self.counts.process(predictions, doubtful)
            }
            fn compute(&self) -> Result<Vec<(String, f64)>> {
                self.counts.figures($name, self.average, $figure)
            }
            counted!(counts);
            fn names(&self) -> Vec<String> {
                tally::names(&$name(self.average), self.average, None)
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
of_the_ranking!(
    AveragePrecision,
    Some("multi-label"),
    AveragePrecision::figure,
    |own| own.doubtful,
    |ranking| 100.0 * average_precision(ranking)
);
of_the_ranking!(ROCAUC, None, |_| "roc_auc".to_owned(), |_| None, area);
