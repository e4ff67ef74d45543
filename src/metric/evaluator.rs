//! Several metrics over the same samples.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::base::{Error, Result, caught_from};
use crate::config::{Diag, Diags, Node};
use crate::registry::{BuildCx, Spec, blamed};

use crate::data::{TARGET, field_name};

use super::{Direction, Directions, Metric, MetricConfig, Predictions, Table};

/// Runs metrics and gives their values full names: prefix, slash, name.
///
/// ```
/// use ndarray::arr2;
/// use shanty::data::{Batch, Fields};
/// use shanty::metric::{Accuracy, Evaluator, Predictions};
///
/// let mut evaluator = Evaluator::new(vec![Box::new(Accuracy::new(vec![1], vec![Some(0.0)])?)])?;
/// let batch = Batch::new(arr2(&[[0.0], [0.0]]).into_dyn(), vec![1, 1]);
/// let outputs = Fields::one("scores", arr2(&[[0.2, 0.8], [0.7, 0.3]]).into_dyn());
/// evaluator.process(&Predictions::of(&batch, &outputs))?;
/// assert_eq!(evaluator.evaluate()?, [("accuracy/top1".to_owned(), 50.0)]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Evaluator {
    metrics: Vec<Counted>,
}

/// A metric, and what a config says of it.
struct Counted {
    prefix: Option<String>,
    output: Option<String>,
    target: Option<String>,
    metric: Box<dyn Metric>,
}

impl Evaluator {
    /// These metrics with their own prefixes.
    ///
    /// # Errors
    /// [`Error::Config`] when two of them give values of one name.
    pub fn new(metrics: Vec<Box<dyn Metric>>) -> Result<Self> {
        Self::with_options(metrics.into_iter().map(|metric| (MetricConfig::default(), metric)).collect())
    }

    /// These metrics, each with its prefix, output and target where they are not the usual ones.
    ///
    /// # Errors
    /// [`Error::Config`] when two of them give values of one name.
    pub fn with_options(metrics: Vec<(MetricConfig, Box<dyn Metric>)>) -> Result<Self> {
        let evaluator = Self::of(metrics);
        evaluator.check().map(|()| evaluator)
    }

    /// Whether every value has a name of its own.
    ///
    /// # Errors
    /// [`Error::Config`] with the name that two metrics give.
    pub fn check(&self) -> Result<()> {
        unique(self.names().iter())
    }

    pub(super) fn of(metrics: Vec<(MetricConfig, Box<dyn Metric>)>) -> Self {
        let counted = |(options, metric): (MetricConfig, Box<dyn Metric>)| Counted {
            prefix: options.prefix.or_else(|| metric.prefix().map(str::to_owned)),
            output: options.output,
            target: options.target.map(|name| field_name(&name).to_owned()),
            metric,
        };
        Self { metrics: metrics.into_iter().map(counted).collect() }
    }

    /// The metrics of a config, which writes one or a list of them.
    ///
    /// # Errors
    /// Those of the builders and of [`Evaluator::new`].
    pub fn build(specs: &[Spec<dyn Metric>], cx: &mut BuildCx) -> Result<Self> {
        let options = specs.iter().map(|spec| spec.extra.clone());
        let evaluator = Self::of(options.zip(Spec::build_all(specs, cx)?).collect());
        let mut seen: HashMap<String, &Node> = HashMap::new();
        for (counted, spec) in evaluator.metrics.iter().zip(specs) {
            for name in counted.metric.names().into_iter().map(|name| join(&counted.prefix, name)) {
                if let Some(first) = seen.get(&name) {
                    return Err(Diags::from(twice(&name, first, spec.node())).into());
                }
                seen.insert(name, spec.node());
            }
        }
        Ok(evaluator)
    }

    /// The fields that its metrics compare with.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.metrics.iter().map(|counted| counted.target.as_deref().unwrap_or(TARGET))
    }

    /// Counts one batch in every metric.
    ///
    /// # Errors
    /// That of the first metric that refuses it or panics, as [`MetricFailed`].
    pub fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let mut all = self.metrics.iter_mut().enumerate();
        all.try_for_each(|(index, Counted { output, target, metric, .. })| {
            let name = metric.name().to_owned();
            let output = output.as_deref().or(predictions.output);
            let target = target.as_deref().unwrap_or(predictions.target);
            let own = Predictions { output, target, ..predictions.clone() };
            attempt(index, name, || metric.process(&own))
        })
    }

    /// The values of all samples since the last reset.
    ///
    /// # Errors
    /// When there was no sample, or two metrics give values of one name.
    pub fn compute(&self) -> Result<Vec<(String, f64)>> {
        let mut values = Vec::new();
        for (index, Counted { prefix, metric, .. }) in self.metrics.iter().enumerate() {
            let own = attempt(index, metric.name().to_owned(), || metric.compute())?;
            values.extend(own.into_iter().map(|(name, value)| (join(prefix, name), value)));
        }
        unique(values.iter().map(|(name, _)| name))?;
        Ok(values)
    }

    /// Which way the values are better whose names are known before there are data.
    pub fn directions(&self) -> Directions {
        let known = self.metrics.iter().flat_map(|Counted { prefix, metric, .. }| {
            let names = metric.names().into_iter();
            names.filter_map(|name| metric.direction(&name).map(|way| (join(prefix, name), way)))
        });
        Directions { known: known.collect(), names: self.names() }
    }

    /// Which way a value is better, as far as its metric says it.
    pub fn direction(&self, name: &str) -> Option<Direction> {
        self.metrics.iter().find_map(|Counted { prefix, metric, .. }| {
            let own = match prefix {
                Some(prefix) => name.strip_prefix(prefix.as_str())?.strip_prefix('/')?,
                None => name,
            };
            metric.direction(own)
        })
    }

    /// The tables of all samples since the last reset. `classes` gives the names of the classes in a field, where there
    /// are any.
    ///
    /// # Errors
    /// A metric that panics.
    pub fn tables(&self, classes: impl Fn(&str) -> Option<Vec<String>>) -> Result<Vec<(String, Table)>> {
        let mut tables = Vec::new();
        for (index, Counted { prefix, metric, target, .. }) in self.metrics.iter().enumerate() {
            let own = attempt(index, metric.name().to_owned(), || Ok(metric.tables()))?;
            let names = classes(target.as_deref().unwrap_or(TARGET)).unwrap_or_default();
            tables.extend(own.into_iter().map(|(name, table)| (join(prefix, name), table.named(&names))));
        }
        Ok(tables)
    }

    /// The files that its metrics are going to write.
    pub(crate) fn out_files(&self) -> impl Iterator<Item = &Path> {
        self.metrics.iter().filter_map(|counted| counted.metric.out_file())
    }

    /// The files that its metrics want written.
    ///
    /// # Errors
    /// A file that is not to be written over, as [`MetricFailed`].
    pub fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let all = self.metrics.iter().enumerate();
        let files = all.map(|(index, Counted { metric, .. })| {
            attempt(index, metric.name().to_owned(), || metric.files())
        });
        Ok(files.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Forgets all samples.
    pub fn reset(&mut self) {
        self.metrics.iter_mut().for_each(|counted| counted.metric.reset());
    }

    /// What each metric has counted since the last reset, in order: what [`merge`](Self::merge) adds to an evaluator of
    /// the same metrics, in this process or another one.
    ///
    /// # Errors
    /// A metric that cannot be counted in parts, as [`MetricFailed`].
    pub fn counted(&self) -> Result<Vec<Vec<u8>>> {
        let all = self.metrics.iter().enumerate();
        all.map(|(index, Counted { metric, .. })| {
            attempt(index, metric.name().to_owned(), || metric.counted())
        })
        .collect()
    }

    /// Adds what another one has [`counted`](Self::counted), of other samples.
    ///
    /// # Errors
    /// Counts of other metrics or classes.
    pub fn merge(&mut self, counted: &[Vec<u8>]) -> Result<()> {
        if counted.len() != self.metrics.len() {
            let (own, other) = (self.metrics.len(), counted.len());
            return Err(Error::invalid(format!(
                "the counts of {other} metrics are merged with those of {own}"
            )));
        }
        let mut all = self.metrics.iter_mut().zip(counted).enumerate();
        all.try_for_each(|(index, (Counted { metric, .. }, other))| {
            attempt(index, metric.name().to_owned(), || metric.merge(other))
        })
    }

    /// The values of all samples, which it then forgets.
    ///
    /// # Errors
    /// Those of [`Evaluator::compute`].
    pub fn evaluate(&mut self) -> Result<Vec<(String, f64)>> {
        let values = self.compute();
        self.reset();
        values
    }

    /// The names of the values, as far as they are known before there are data.
    pub fn names(&self) -> Vec<String> {
        self.metrics
            .iter()
            .flat_map(|c| c.metric.names().into_iter().map(move |name| join(&c.prefix, name)))
            .collect()
    }
}

/// A metric that refused a batch, has no value, or panicked.
#[derive(Debug, thiserror::Error)]
#[error("metric `{name}`: {source}")]
pub struct MetricFailed {
    /// Its place among the metrics of the evaluator.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What it says.
    pub source: Error,
}

impl MetricFailed {
    /// Whether other samples may have the figure that those of `error` lack.
    pub(crate) fn lacks_samples(error: &Error) -> bool {
        let Error::Other(source) = error else { return false };
        source.downcast_ref().is_some_and(|failed: &Self| match &failed.source {
            Error::Other(source) => source.is::<Undefined>(),
            _ => false,
        })
    }
}

/// A figure that the samples so far do not have: the variance of equal targets, say. Two batches that lack it are no
/// reason to refuse a run; a whole validation is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Undefined(pub String);

impl From<Undefined> for Error {
    fn from(undefined: Undefined) -> Self {
        Self::Other(Box::new(undefined))
    }
}

fn attempt<T>(index: usize, name: String, call: impl FnOnce() -> Result<T>) -> Result<T> {
    caught_from("it", call).map_err(|source| Error::Other(Box::new(MetricFailed { index, name, source })))
}

/// Two specs, or one of them by itself, give a value of one name.
fn twice(name: &str, first: &Node, second: &Node) -> Diag {
    let message = clash(name);
    let diag = Diag::error(message.as_str()).on(blamed(second, &message));
    if first.at == second.at {
        diag
    } else {
        diag.place(first.get("type").unwrap_or(first).at.clone(), "the first")
    }
}

fn join(prefix: &Option<String>, name: String) -> String {
    match prefix {
        Some(prefix) => format!("{prefix}/{name}"),
        None => name,
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut names: Vec<&String> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::config(clash(pair[0]))),
        None => Ok(()),
    }
}

fn clash(name: &str) -> String {
    format!("two metrics give a value named {name}: give one of them another `prefix`")
}
