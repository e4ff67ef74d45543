//! What a model is worth, counted over samples.
//!
//! A [`Metric`] keeps counts and never a mean of batch means, so that its value depends neither on the batch size nor
//! on how the samples are dealt out. An [`Evaluator`] runs several of them and gives their values names.

mod accuracy;
mod confusion;
mod direction;
mod evaluator;
mod iou;
mod list;
mod multi_label;
mod options;
mod predictions;
mod regression;
mod single_label;
mod table;

pub use accuracy::Accuracy;
pub use confusion::ConfusionMatrix;
pub use direction::{Direction, Directions};
pub use evaluator::{Evaluator, MetricFailed, Undefined};
pub use iou::IoUMetric;
pub use multi_label::MultiLabelMetric;
pub use options::MetricConfig;
pub use predictions::{Pairs, Predictions};
pub use regression::{MAE, MSE, R2};
pub use single_label::{Average, Item, SingleLabelMetric};
pub use table::Table;

use crate::base::Result;

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

    /// The names that [`Metric::compute`] will give, as far as they are known before there are data: configs are
    /// checked against them. A name may end in `*`, for all that begin so; none at all says that nothing is known.
    fn names(&self) -> Vec<String>;

    /// What stands before the names, with a slash between; a config may say another.
    fn prefix(&self) -> Option<&str> {
        None
    }

    /// What is no single number: tables by name, without prefix. They are printed and written after each validation and
    /// test.
    fn tables(&self) -> Vec<(String, Table)> {
        Vec::new()
    }
}
