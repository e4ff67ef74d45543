//! What a model predicted and what is true, sample by sample, in a file that `shanty eval-offline` reads.

use std::path::{Path, PathBuf};

use ndarray::{ArrayViewD, Axis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::counts::{Counts, counted, no_sample};
use super::{Metric, Predictions};
use crate::base::{Error, Result};
use crate::checkpoint;
use crate::config::OneOrMany;
use crate::data::{Column, field_name};
use crate::registry::BuildCx;

/// What the line of a sample begins with.
const BEGIN: &[u8] = br#"{"id":"#;

/// Writes what is predicted for each sample, and what is true, to a file of JSON lines: `shanty predict` writes such
/// ones too, and `shanty eval-offline` computes metrics from them. Each validation or test replaces the file.
#[derive(Debug, Clone, PartialEq)]
pub struct DumpResults {
    path: PathBuf,
    fields: Vec<String>,
    lines: Lines,
}

/// The lines by the positions of their samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Lines(Vec<(u64, String)>);

impl Counts for Lines {
    fn add(&mut self, other: Self) -> Result<()> {
        self.0.extend(other.0);
        Ok(())
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct DumpResultsConfig {
    /// The file; its name ends in `.jsonl`.
    out_file_path: PathBuf,
    /// Which fields of the data are written beside the predictions: what they are to be compared with.
    #[serde(default)]
    fields: Option<OneOrMany<String>>,
}

crate::register! {
    /// Writes predictions and targets to `out_file_path`, for `shanty eval-offline`.
    ///
    /// ```yaml
    /// {type: DumpResults, out_file_path: work_dirs/results.jsonl}
    /// ```
    dyn Metric, "DumpResults" => fn DumpResults::from_config
}

impl DumpResults {
    fn from_config(p: DumpResultsConfig, _: &mut BuildCx) -> Result<Self> {
        let fields = p.fields.map(|fields| fields.iter().map(|name| field_name(name).to_owned()).collect());
        Self::new(p.out_file_path, fields.unwrap_or_default())
    }

    /// To this file, with these fields of the data; without any with the target that predictions are compared with.
    ///
    /// # Errors
    /// [`Error::Config`] for a file that does not end in `.jsonl`, or that is not to be written over.
    pub fn new(path: impl Into<PathBuf>, fields: Vec<String>) -> Result<Self> {
        let path = path.into();
        if path.extension().is_none_or(|ending| ending != "jsonl") {
            return Err(Error::config(format!(
                "`out_file_path: {}`: predictions are written as JSON lines, and never pickled: name a file that ends in \
                 .jsonl",
                path.display()
            )));
        }
        writable(&path)?;
        Ok(Self { path, fields, lines: Lines::default() })
    }
}

/// The file comes at the end of a validation: that it cannot be written there is to be known before.
fn writable(path: &Path) -> Result<()> {
    match checkpoint::not_ours(path, BEGIN, "file of predictions") {
        Some(why) => Err(Error::config(format!("`out_file_path: {}` {why}", path.display()))),
        None => Ok(()),
    }
}

impl Metric for DumpResults {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let wanted = |name: &str| predictions.output.is_none_or(|only| only == name);
        let target = [predictions.target.to_owned()];
        let fields = if self.fields.is_empty() { &target[..] } else { &self.fields };
        let fields: Vec<(&String, &Column)> = fields
            .iter()
            .map(|name| Ok((name, predictions.batch.fields.find(name)?)))
            .collect::<Result<_>>()?;
        for (row, id) in predictions.ids().iter().enumerate() {
            let mut line = Map::from_iter([("id".to_owned(), json!(id))]);
            let outputs = predictions.outputs.iter().filter(|(name, _)| wanted(name));
            line.extend(outputs.map(|(name, values)| {
                (
                    name.to_owned(),
                    if row < values.len_of(Axis(0)) {
                        nested(values.index_axis(Axis(0), row))
                    } else {
                        Value::Null
                    },
                )
            }));
            let targets =
                fields.iter().filter_map(|(name, column)| Some(((*name).clone(), of_row(column, row)?)));
            line.insert(TARGETS.to_owned(), Value::Object(targets.collect()));
            self.lines.0.push((*id, Value::Object(line).to_string()));
        }
        Ok(())
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        if self.lines.0.is_empty() { Err(no_sample()) } else { Ok(Vec::new()) }
    }

    counted!(lines);

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn out_file(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        // Something may have taken the name since the run began.
        writable(&self.path)?;
        let mut lines: Vec<&(u64, String)> = self.lines.0.iter().collect();
        lines.sort_by_key(|(id, _)| *id);
        let text: String = lines.iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect();
        Ok(vec![(self.path.clone(), text.into_bytes())])
    }
}

/// The key of a line under which the fields of the data stand.
pub(crate) const TARGETS: &str = "targets";

/// The value of one sample in a column of numbers; of others there is none.
pub(crate) fn of_row(column: &Column, row: usize) -> Option<Value> {
    match column {
        Column::Float(values) if row < values.len_of(Axis(0)) => {
            Some(nested(values.index_axis(Axis(0), row)))
        }
        Column::Int(values) if row < values.len_of(Axis(0)) => Some(nested(values.index_axis(Axis(0), row))),
        _ => None,
    }
}

/// Lists within lists; a lone number stands by itself.
pub(crate) fn nested<T: Copy + Into<Value>>(values: ArrayViewD<'_, T>) -> Value {
    match values.ndim() {
        0 => values.first().map_or(Value::Null, |value| (*value).into()),
        1 if values.len() == 1 => values[0].into(),
        _ => values.outer_iter().map(nested).collect(),
    }
}
