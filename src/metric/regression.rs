//! How far predicted numbers are from what they should be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};

use super::counts::{Counts, add_each, counted, no_sample};
use super::{Direction, Metric, Predictions, Undefined};

/// What is counted of numbers and their predictions: nothing depends on how samples are dealt out in batches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Moments {
    /// Of each value of a sample.
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Column {
    n: u64,
    absolute: f64,
    square: f64,
    /// Of the errors, each by the size of its target.
    relative: f64,
    /// Mean of the targets, and the sum of their squared distances from it (Welford).
    mean: f64,
    spread: f64,
}

impl Counts for Moments {
    fn add(&mut self, other: Self) -> Result<()> {
        add_each(&mut self.columns, other.columns, "values a sample", |own, other| {
            let (n, gap) = (own.n + other.n, other.mean - own.mean);
            let share = other.n as f64 / n.max(1) as f64;
            own.spread += other.spread + gap * gap * own.n as f64 * share;
            own.mean += gap * share;
            own.n = n;
            own.absolute += other.absolute;
            own.square += other.square;
            own.relative += other.relative;
        })
    }
}

impl Moments {
    fn count(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let pairs = predictions.pairs()?;
        let width = pairs.width();
        if !self.columns.is_empty() && self.columns.len() != width {
            let before = self.columns.len();
            return Err(Error::invalid(format!("{width} values a sample after {before}")));
        }
        self.columns.resize(width, Column::default());
        pairs.each(|at, predicted, target| {
            let column = &mut self.columns[at];
            let (error, gap) = (predicted - target, target - column.mean);
            column.n += 1;
            column.absolute += error.abs();
            column.square += error * error;
            column.relative += error.abs() / target.abs().max(f64::EPSILON);
            column.mean += gap / column.n as f64;
            column.spread += gap * (target - column.mean);
        });
        Ok(())
    }

    /// The mean over the columns of a figure of each.
    fn mean(&self, figure: impl Fn(&Column) -> Result<f64>) -> Result<f64> {
        if self.columns.iter().all(|column| column.n == 0) {
            return Err(no_sample());
        }
        let sum = self.columns.iter().map(figure).sum::<Result<f64>>()?;
        Ok(sum / self.columns.len() as f64)
    }
}

macro_rules! distance {
    ($(#[doc = $doc:expr])+ $name:ident, $registered:literal, $value:literal, $direction:ident, $figure:expr) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct $name {
            #[serde(skip)]
            moments: Moments,
        }

        crate::register! {
            $(#[doc = $doc])+
            dyn Metric, $registered => $name
        }

        impl Metric for $name {
            fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
                self.moments.count(predictions)
            }
            fn compute(&self) -> Result<Vec<(String, f64)>> {
                Ok(vec![($value.to_owned(), self.moments.mean($figure)?)])
            }
            counted!(moments);
            fn names(&self) -> Vec<String> {
                vec![$value.to_owned()]
            }
            fn direction(&self, _: &str) -> Option<Direction> {
                Some(Direction::$direction)
            }
        }
    };
}

distance! {
    /// The mean absolute error, `mae`, over all values.
    MAE, "MAE", "mae", Less, |column: &Column| Ok(column.absolute / column.n as f64)
}
distance! {
    /// The mean squared error, `mse`, over all values.
    MSE, "MSE", "mse", Less, |column: &Column| Ok(column.square / column.n as f64)
}
distance! {
    /// The root of the mean squared error, `rmse`: scikit-learn's mean over the values of a sample.
    RMSE, "RMSE", "rmse", Less, |column: &Column| Ok((column.square / column.n as f64).sqrt())
}
distance! {
    /// The mean of the errors, each by the size of its target, as a share: `mape`. A target of 0 makes it very large.
    MAPE, "MAPE", "mape", Less, |column: &Column| Ok(column.relative / column.n as f64)
}
distance! {
    /// The share of the targets' variance that is explained, `r2`: scikit-learn's mean over the values of a sample.
    R2, "R2", "r2", Greater, |column: &Column| match column.spread {
        spread if spread != 0.0 => Ok(1.0 - column.square / spread),
        _ => Err(Undefined("all targets are equal: there is no variance that could be explained".into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Batch, Fields};
    use ndarray::{Array2, arr2};

    fn value(metric: &mut dyn Metric, batches: &[(Array2<f32>, Array2<f32>)]) -> f64 {
        for (predicted, target) in batches {
            let batch = Batch::unlabelled(Array2::zeros((target.nrows(), 1)).into_dyn());
            let batch = batch.with("target", target.mapv(crate::base::Elem::from));
            let outputs = Fields::one("prediction", predicted.mapv(crate::base::Elem::from).into_dyn());
            metric.process(&Predictions::of(&batch, &outputs)).unwrap();
        }
        metric.compute().unwrap()[0].1
    }

    /// scikit-learn's documentation: `y_true = [[0.5, 1], [-1, 1], [7, -6]]`, `y_pred = [[0, 2], [-1, 2], [8, -5]]`
    /// give 0.75, 0.708… and 0.938… (uniform average 0.9368).
    #[test]
    fn figures_of_scikit_learns_documentation_in_any_batches() {
        let target = arr2(&[[0.5, 1.0], [-1.0, 1.0], [7.0, -6.0]]);
        let predicted = arr2(&[[0.0, 2.0], [-1.0, 2.0], [8.0, -5.0]]);
        let rows = |a: &Array2<f32>, r: std::ops::Range<usize>| a.slice(ndarray::s![r, ..]).to_owned();
        let halves = [0..2, 2..3].map(|r| (rows(&predicted, r.clone()), rows(&target, r)));
        for batches in [&[(predicted.clone(), target.clone())][..], &halves] {
            assert!((value(&mut MAE::default(), batches) - 0.75).abs() < 1e-12);
            assert!((value(&mut MSE::default(), batches) - 0.708_333_333).abs() < 1e-8);
            assert!((value(&mut R2::default(), batches) - 0.936_800_526).abs() < 1e-8);
        }
    }

    #[test]
    fn a_vector_is_compared_with_a_column_and_equal_targets_have_no_r2() {
        let batch = Batch::new(Array2::zeros((2, 1)).into_dyn(), vec![3, 3]);
        let outputs = Fields::one("prediction", arr2(&[[1.0], [2.0]]).into_dyn());
        let (mut mae, mut r2) = (MAE::default(), R2::default());
        mae.process(&Predictions::of(&batch, &outputs)).unwrap();
        r2.process(&Predictions::of(&batch, &outputs)).unwrap();
        assert_eq!(mae.compute().unwrap()[0].1, 1.5);
        assert!(r2.compute().unwrap_err().to_string().starts_with("all targets are equal"));
        let wide = Fields::one("prediction", Array2::zeros((2, 3)).into_dyn());
        let text = mae.process(&Predictions::of(&batch, &wide)).unwrap_err().to_string();
        assert!(
            text.starts_with("predictions of shape [2, 3] are compared with `target` of shape [2]"),
            "{text}"
        );
    }
}
