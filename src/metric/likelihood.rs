//! How good predicted probabilities are: the logarithm of the true one, its square, how sure and how often right.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::confusion::best;
use super::counts::{Counts, Mean, add_each, counted, no_sample};
use super::{Direction, Metric, Predictions, Table};
use crate::base::{Elem, Error, Result};

/// Of each sample the probability of each class and the true class; of one score a sample its probabilities of no and
/// yes.
fn each(predictions: &Predictions<'_>, mut f: impl FnMut(&[f64], usize)) -> Result<()> {
    let shape = predictions.scores()?.shape().to_vec();
    if shape.len() == 2 && shape[1] > 1 {
        let (scores, labels) = predictions.classified()?;
        let mut row = Vec::with_capacity(scores.ncols());
        for (scores, label) in scores.outer_iter().zip(labels) {
            row.clear();
            row.extend(scores.iter().map(|score| f64::from(*score)));
            f(&row, label);
        }
        return Ok(());
    }
    let pairs = predictions.pairs()?;
    pairs.rows(|scores, values| match (scores, values) {
        ([p], [value @ (0.0 | 1.0)]) => {
            f(&[1.0 - p, *p], usize::from(*value == 1.0));
            Ok(())
        }
        ([_], [other]) => {
            Err(Error::invalid(format!("one score a sample is for 0 or 1, and one target is {other}")))
        }
        _ => Err(Error::invalid(format!("probabilities of shape {shape:?}: [N, classes] or [N] are wanted"))),
    })
}

/// The mean of `-ln p` of the true class, `log_loss`: scikit-learn's, with probabilities no nearer to 0 and 1 than the
/// precision of their type.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogLoss {
    #[serde(skip)]
    counts: Mean,
}

/// The mean squared distance of the probabilities from the truth, `brier`: of two classes that of the second one, of
/// more their sum.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BrierScore {
    #[serde(skip)]
    counts: Mean,
}

/// `exp` of the mean of `-ln p` over all tokens, `perplexity`: among how many equally likely ones the model hesitates.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Perplexity {
    /// Targets that do not count.
    #[schemars(extend("x-unbounded" = true))]
    ignore_index: Option<i64>,
    #[serde(skip)]
    counts: Mean,
}

/// Targets of -100 do not count, as in the loss.
impl Default for Perplexity {
    fn default() -> Self {
        Self { ignore_index: Some(-100), counts: Mean::default() }
    }
}

crate::register! {
    /// The mean of `-ln p` of the true class: `log_loss`.
    dyn Metric, "LogLoss" => LogLoss
}
crate::register! {
    /// The mean squared distance of the probabilities from the truth: `brier`.
    dyn Metric, "BrierScore" => BrierScore
}
crate::register! {
    /// `exp` of the mean of `-ln p` over all tokens: `perplexity`.
    dyn Metric, "Perplexity" => Perplexity
}

impl Perplexity {
    /// With this target left out, or none.
    pub fn ignoring(ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..Self::default() }
    }
}

impl LogLoss {
    fn count(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let least = f64::from(Elem::EPSILON);
        each(predictions, |row, truth| self.counts.count(-row[truth].clamp(least, 1.0 - least).ln()))
    }
}

impl BrierScore {
    fn count(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        each(predictions, |row, truth| {
            let square = |(class, p): (usize, &f64)| (p - f64::from(class == truth)).powi(2);
            let sum: f64 = row.iter().enumerate().map(square).sum();
            self.counts.count(if row.len() == 2 { sum / 2.0 } else { sum });
        })
    }
}

impl Perplexity {
    /// A probability of 0 counts as the least there is, so that one token does not make the figure infinite.
    fn count(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let counts = &mut self.counts;
        predictions.at_places(self.ignore_index, |scores, truth| {
            let p = scores[truth];
            let p = if p.is_nan() { p } else { p.max(Elem::MIN_POSITIVE) };
            counts.count(-f64::from(p).ln());
        })
    }
}

macro_rules! mean_of {
    ($metric:ident, $name:literal, $value:expr) => {
        impl Metric for $metric {
            fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
                self.count(predictions)
            }
            fn compute(&self) -> Result<Vec<(String, f64)>> {
                let value: fn(f64) -> f64 = $value;
                Ok(vec![($name.to_owned(), value(self.counts.value()?))])
            }
            counted!(counts);
            fn names(&self) -> Vec<String> {
                vec![$name.to_owned()]
            }
            fn direction(&self, _: &str) -> Option<Direction> {
                Some(Direction::Less)
            }
        }
    };
}
mean_of!(LogLoss, "log_loss", |mean| mean);
mean_of!(BrierScore, "brier", |mean| mean);
mean_of!(Perplexity, "perplexity", f64::exp);

/// How far the probability of the predicted class is from how often it is right: `calibration/ece` is the mean of that
/// over bins of the probability, weighted by their samples, `calibration/mce` the largest of a bin (Guo 2017). The
/// table `calibration/bins` is the reliability diagram.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CalibrationError {
    /// Bins of equal width between 0 and 1; each has its upper end.
    #[schemars(range(min = 1, max = 100_000))]
    n_bins: usize,
    #[serde(skip)]
    counts: Bins,
}

impl CalibrationError {
    /// With so many bins.
    pub fn new(n_bins: usize) -> Self {
        Self { n_bins: n_bins.max(1), ..Self::default() }
    }
}

/// 15 bins.
impl Default for CalibrationError {
    fn default() -> Self {
        Self { n_bins: 15, counts: Bins::default() }
    }
}

crate::register! {
    /// How far the probability of the predicted class is from how often it is right: `calibration/ece`, `calibration/mce`.
    dyn Metric, "CalibrationError" => CalibrationError
}

/// Of each bin the number of samples, how many are right, and the sum of their probabilities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Bins(Vec<(u64, u64, f64)>);

impl Counts for Bins {
    fn add(&mut self, other: Self) -> Result<()> {
        add_each(&mut self.0, other.0, "bins", |own, (n, right, sum)| {
            own.0 += n;
            own.1 += right;
            own.2 += sum;
        })
    }
}

impl Bins {
    /// Of each bin that has samples their number, the share that is right, and the mean probability.
    fn filled(&self) -> impl Iterator<Item = (usize, f64, f64, f64)> {
        let filled = self.0.iter().enumerate().filter(|(_, (n, ..))| *n > 0);
        filled.map(|(at, (n, right, sum))| {
            let n = *n as f64;
            (at, n, *right as f64 / n, sum / n)
        })
    }
}

impl Metric for CalibrationError {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let (n_bins, bins) = (self.n_bins, &mut self.counts.0);
        bins.resize(n_bins, (0, 0, 0.0));
        each(predictions, |row, truth| {
            let row: Vec<Elem> = row.iter().map(|p| *p as Elem).collect();
            let predicted = best(ndarray::aview1(&row));
            let p = f64::from(row[predicted]);
            // NaN comes to the first bin, and makes the figure NaN.
            let bin = ((p * n_bins as f64).ceil() - 1.0).max(0.0) as usize;
            let bin = &mut bins[bin.min(n_bins - 1)];
            bin.0 += 1;
            bin.1 += u64::from(predicted == truth);
            bin.2 += p;
        })
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        let gaps: Vec<(f64, f64)> =
            self.counts.filled().map(|(_, n, right, p)| (n, (right - p).abs())).collect();
        let n: f64 = gaps.iter().map(|(n, _)| n).sum();
        if n == 0.0 {
            return Err(no_sample());
        }
        let ece = gaps.iter().map(|(n, gap)| n * gap).sum::<f64>() / n;
        let mce =
            gaps.iter().fold(0.0, |most: f64, (_, gap)| if gap.is_nan() { *gap } else { most.max(*gap) });
        Ok(vec![("ece".to_owned(), ece), ("mce".to_owned(), mce)])
    }

    counted!(counts);

    fn names(&self) -> Vec<String> {
        vec!["ece".to_owned(), "mce".to_owned()]
    }

    fn prefix(&self) -> Option<&str> {
        Some("calibration")
    }

    fn direction(&self, _: &str) -> Option<Direction> {
        Some(Direction::Less)
    }

    fn tables(&self) -> Vec<(String, Table)> {
        let filled: Vec<_> = self.counts.filled().collect();
        let rows = filled.iter().map(|(at, ..)| {
            let end = |at: usize| crate::base::number::short(at as f64 / self.n_bins as f64);
            format!("{} to {}", end(*at), end(at + 1))
        });
        let columns = ["samples", "right", "probability"].map(str::to_owned).to_vec();
        let values = ndarray::Array2::from_shape_fn((filled.len(), 3), |(row, column)| {
            let (_, n, right, p) = filled[row];
            [n, right, p][column]
        });
        Table::new(rows.collect(), columns, values)
            .map(|table| ("bins".to_owned(), table))
            .into_iter()
            .collect()
    }
}
