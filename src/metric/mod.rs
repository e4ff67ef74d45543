//! What a model is worth, counted over samples.
//!
//! A [`Metric`] keeps counts and never a mean of batch means, so that its value depends neither on the batch size nor
//! on how the samples are dealt out. An [`Evaluator`] runs several of them and gives their values names.

mod accuracy;
mod agreement;
mod confusion;
mod correlation;
mod counts;
mod direction;
mod dump;
mod evaluator;
mod iou;
mod likelihood;
mod list;
mod meant;
mod multi_label;
mod options;
mod predictions;
mod regression;
mod scored;
mod single_label;
mod table;
mod tally;

pub use accuracy::Accuracy;
pub use agreement::{BalancedAccuracy, CohenKappa, KappaWeights, MatthewsCorrCoef};
pub use confusion::ConfusionMatrix;
pub use correlation::{PearsonCorrCoef, SpearmanCorrCoef};
pub use direction::{Direction, Directions};
pub use dump::DumpResults;
#[cfg(feature = "cli")]
pub(crate) use dump::{TARGETS, nested, of_row};
pub use evaluator::{Evaluator, MetricFailed, Undefined};
pub use iou::{IoUMetric, MaskFigure};
pub use likelihood::{BrierScore, CalibrationError, LogLoss, Perplexity};
pub use meant::meant;
pub use multi_label::MultiLabelMetric;
pub use options::MetricConfig;
pub use predictions::{Pairs, Predictions};
pub use regression::{MAE, MAPE, MSE, R2, RMSE};
pub use scored::{AveragePrecision, ROCAUC};
pub use single_label::{FBetaScore, Item, SingleLabelMetric};
pub use table::Table;
pub use tally::Average;

use std::path::PathBuf;

use crate::base::{Error, Result};

crate::registry!(dyn Metric, "metric", MetricConfig);

/// Something that is counted over the samples of a validation or test run.
pub trait Metric: Send {
    /// What errors call it: the name of its type unless overridden.
    fn name(&self) -> &str {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path)
    }

    /// Which way this value is better, by its name without prefix; `None` where that is for the config to say, or for
    /// the words in its name.
    fn direction(&self, _name: &str) -> Option<Direction> {
        None
    }

    /// Counts one batch.
    ///
    /// # Errors
    /// When the model's output is not what the metric needs, or a label is no class.
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()>;

    /// The values of all samples since the last reset, by name, without prefix. Computing twice gives the same twice.
    ///
    /// # Errors
    /// When there was no sample; [`Undefined`] for a figure that these samples do not have, and more of them may.
    fn compute(&self) -> Result<Vec<(String, f64)>>;

    /// Forgets all samples.
    fn reset(&mut self);

    /// What it has counted since the last reset, for [`merge`](Self::merge): ranks and shards count their own samples.
    ///
    /// # Errors
    /// Of a metric that cannot be counted in parts.
    fn counted(&self) -> Result<Vec<u8>> {
        Err(Error::invalid(format!("{} cannot be counted in parts: it has no `counted`", self.name())))
    }

    /// Adds what another one of its kind and options has [`counted`](Self::counted): the values are then those of all
    /// samples.
    ///
    /// # Errors
    /// Counts of another metric, or of other classes.
    fn merge(&mut self, _counted: &[u8]) -> Result<()> {
        Err(Error::invalid(format!("{} cannot be counted in parts: it has no `merge`", self.name())))
    }

    /// The names that [`Metric::compute`] will give, as far as they are known before there are data: configs are
    /// checked against them. A name may end in `*`, for all that begin so; none at all says that nothing is known.
    fn names(&self) -> Vec<String>;

    /// What stands before the names, with a slash between; a config may say another.
    fn prefix(&self) -> Option<&str> {
        None
    }

    /// The file that it is going to write, which is to be nobody else's of the run.
    fn out_file(&self) -> Option<&std::path::Path> {
        None
    }

    /// Files that it wants written after a validation or test: never by a check, a plan or a rehearsal.
    ///
    /// # Errors
    /// A file that is not to be written over.
    fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// What is no single number: tables by name, without prefix. They are printed and written after each validation and
    /// test.
    fn tables(&self) -> Vec<(String, Table)> {
        Vec::new()
    }
}
