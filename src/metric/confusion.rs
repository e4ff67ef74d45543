//! Which class is taken for which.

use ndarray::{Array2, ArrayView1};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Elem, Error, Result, memory};

use super::counts::{Counts, counted};
use super::tally::Tally;
use super::{Metric, Predictions, Table};

/// How often each class was taken for each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Confusion {
    classes: usize,
    /// A row of counts for each true class.
    counts: Vec<u64>,
}

impl Counts for Confusion {
    fn add(&mut self, other: Self) -> Result<()> {
        if other.classes > 0 {
            self.expect(other.classes)?;
            self.counts.iter_mut().zip(other.counts).for_each(|(own, other)| *own += other);
        }
        Ok(())
    }
}

impl Confusion {
    /// Makes room for so many classes; the first scores say how many there are.
    pub(super) fn expect(&mut self, classes: usize) -> Result<()> {
        if self.classes == 0 {
            // The counts, and the table of them that is handed out.
            memory::fits("the table of the classes", &[2, classes, classes], size_of::<u64>())?;
            *self = Self { classes, counts: vec![0; classes * classes] };
        }
        match self.classes == classes {
            true => Ok(()),
            false => Err(Error::invalid(format!("scores for {classes} classes after {}", self.classes))),
        }
    }

    /// Counts one sample or place.
    pub(super) fn count(&mut self, truth: usize, predicted: usize) {
        self.counts[truth * self.classes + predicted] += 1;
    }

    /// Counts the classes with the best scores of a batch.
    pub(super) fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let (scores, labels) = predictions.classified()?;
        self.expect(scores.ncols())?;
        scores.outer_iter().zip(&labels).for_each(|(scores, label)| self.count(*label, best(scores)));
        Ok(())
    }

    /// How many samples were counted.
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Rows for the truth.
    pub(super) fn matrix(&self) -> Array2<u64> {
        Array2::from_shape_fn((self.classes, self.classes), |(i, j)| self.counts[i * self.classes + j])
    }

    /// What was counted of each class.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let mut all = vec![Tally::default(); self.classes];
        for ((truth, predicted), n) in self.matrix().indexed_iter() {
            all[truth].actual += n;
            all[predicted].predicted += n;
            all[truth].hits += if truth == predicted { *n } else { 0 };
        }
        all
    }
}

/// Counts of (true class, class with the best score): the table `confusion_matrix/result`, a row for each true class and
/// a column for each predicted one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfusionMatrix {
    /// Whether each row is divided by its sum.
    normalize: bool,
    /// How many classes there have to be; as many as the scores have if not given.
    #[schemars(range(min = 1, max = 10_000_000))]
    num_classes: Option<usize>,
    #[serde(skip)]
    counts: Confusion,
}

crate::register! {
    /// Which class is taken for which: the table `confusion_matrix/result`, a row for each true class.
    dyn Metric, "ConfusionMatrix" => ConfusionMatrix
}

impl ConfusionMatrix {
    /// Counts, or shares of each row when `normalize`.
    pub fn new(normalize: bool) -> Self {
        Self { normalize, ..Self::default() }
    }

    /// The counts so far: true class, then predicted class.
    pub fn counts(&self) -> Array2<u64> {
        self.counts.matrix()
    }
}

/// The class with the best score, the lower one among equals; NaN never wins.
pub(super) fn best(scores: ArrayView1<'_, Elem>) -> usize {
    let mut best = (0, Elem::NEG_INFINITY);
    for (class, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (class, score);
        }
    }
    best.0
}

impl Metric for ConfusionMatrix {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        if let Some(wanted) = self.num_classes {
            let classes = predictions.classified()?.0.ncols();
            if classes != wanted {
                return Err(Error::invalid(format!("scores for {classes} classes instead of {wanted}")));
            }
        }
        self.counts.process(predictions)
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        Ok(Vec::new())
    }

    counted!(counts);

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn prefix(&self) -> Option<&str> {
        Some("confusion_matrix")
    }

    fn tables(&self) -> Vec<(String, Table)> {
        let mut table = self.counts().mapv(|n| n as f64);
        if self.normalize {
            for mut row in table.rows_mut() {
                // A class without samples has a row of zeros.
                let total = row.sum().max(1.0);
                row /= total;
            }
        }
        vec![("result".to_owned(), Table::of_classes(table).of_axes("truth", "prediction"))]
    }
}
