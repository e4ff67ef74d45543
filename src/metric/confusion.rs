//! Which class is taken for which.

use ndarray::{Array2, ArrayView1};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, memory};
use crate::registry::BuildCx;

use super::{Metric, Predictions, Table};

/// Counts of (true class, class with the best score): the table `confusion_matrix/result`, a row for each true class and
/// a column for each predicted one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfusionMatrix {
    normalize: bool,
    counts: Array2<u64>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ConfusionMatrixConfig {
    /// Whether each row is divided by its sum.
    normalize: bool,
}

crate::register! {
    /// Which class is taken for which: the table `confusion_matrix/result`, a row for each true class.
    dyn Metric, "ConfusionMatrix" => fn ConfusionMatrix::from_config
}

impl ConfusionMatrix {
    fn from_config(p: ConfusionMatrixConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::new(p.normalize))
    }
}

impl ConfusionMatrix {
    /// Counts, or shares of each row when `normalize`.
    pub fn new(normalize: bool) -> Self {
        Self { normalize, ..Self::default() }
    }

    /// The counts so far: true class, then predicted class.
    pub fn counts(&self) -> &Array2<u64> {
        &self.counts
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
        let (scores, labels) = predictions.classified()?;
        let classes = scores.ncols();
        if self.counts.is_empty() {
            // The counts, and the table of them that is handed out.
            memory::fits("the table of the classes", &[2, classes, classes], size_of::<u64>())?;
            self.counts = Array2::zeros((classes, classes));
        } else if self.counts.nrows() != classes {
            return Err(Error::invalid(format!(
                "scores for {classes} classes after {}",
                self.counts.nrows()
            )));
        }
        for (scores, &label) in scores.outer_iter().zip(&labels) {
            self.counts[[label, best(scores)]] += 1;
        }
        Ok(())
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        Ok(Vec::new())
    }

    fn reset(&mut self) {
        self.counts = Array2::default((0, 0));
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn prefix(&self) -> Option<&str> {
        Some("confusion_matrix")
    }

    fn tables(&self) -> Vec<(String, Table)> {
        let mut table = self.counts.mapv(|n| n as f64);
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
