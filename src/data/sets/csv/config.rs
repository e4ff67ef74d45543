//! `{type: Csv, …}` of a config.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use crate::config::{Diag, FromNode, Key, Node, OneOrMany, read, receive};
use crate::data::Transform;
use crate::registry::Spec;

/// How a CSV file becomes samples.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
pub struct CsvConfig {
    /// The file; its first line names the columns.
    pub file: PathBuf,
    /// The column to predict, or several; none in a file that is only predicted.
    #[serde(default)]
    pub target: OneOrMany<String>,
    /// The columns that go in; all others than the target, the column of `split` and those in `ignore` if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub features: Vec<String>,
    /// Columns that are left alone where `features` does not name its columns: dates, free text.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The column that names the rows: no input, and the `id` of what is predicted for them. If not given, that is the
    /// number of the row, counted from 0.
    #[serde(default)]
    pub id: Option<String>,
    /// Columns of categories that are written as numbers; those of text are so by themselves.
    #[serde(default)]
    pub categorical: Vec<String>,
    /// Names of the classes in the order of their numbers, for one target; those of the training part, sorted, if not
    /// given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub classes: Option<Vec<String>>,
    /// How categories go in: one_hot, a number of `inputs` each; integer, a number in the field `categories`, counted
    /// from 1, with 0 for none.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands for a missing value.
    #[serde(default = "gaps")]
    pub missing_values: Vec<String>,
    /// What becomes of a missing value of an input: error, mean (of the training part), or a number. A missing category
    /// is none of those that there are.
    #[serde(default)]
    pub missing: Missing,
    /// What becomes of a category that the training part has not: error, or ignore (none of those that there are).
    #[serde(default)]
    pub unknown: Unknown,
    /// Whether inputs get mean 0 and deviation 1 over the training part.
    #[serde(default = "crate::config::yes")]
    pub standardize: bool,
    /// Whether a model learns the numbers to predict with mean 0 and deviation 1 over the training part. It predicts them
    /// in their own unit all the same: metrics and predictions are in it, the loss is not.
    #[serde(default)]
    pub standardize_target: bool,
    /// Which rows are for what: shares, or a column that says it.
    #[serde(default)]
    pub split: Option<Split>,
    /// Which of the parts: train, val, test or all. Needed where there is a `split`.
    #[serde(default)]
    pub part: Option<Part>,
    /// What parts the values of a line.
    #[serde(default)]
    pub delimiter: Delimiter,
    /// What is done to each sample.
    #[serde(default)]
    pub pipeline: Vec<Spec<dyn Transform>>,
}

fn gaps() -> Vec<String> {
    ["", "NA", "N/A", "NaN", "nan", "null", "None", "?"].map(str::to_owned).to_vec()
}

impl CsvConfig {
    /// All rows of a file, with this column to predict.
    pub fn new(file: impl Into<PathBuf>, target: &str) -> Self {
        Self {
            file: file.into(),
            target: OneOrMany(vec![target.to_owned()]),
            features: Vec::new(),
            ignore: Vec::new(),
            id: None,
            categorical: Vec::new(),
            classes: None,
            encoding: Encoding::default(),
            missing_values: gaps(),
            missing: Missing::default(),
            unknown: Unknown::default(),
            standardize: true,
            standardize_target: false,
            split: None,
            part: None,
            delimiter: Delimiter::default(),
            pipeline: Vec::new(),
        }
    }

    /// The training part of it, where this share of the rows, chosen by a seed, is for validation.
    #[must_use]
    pub fn holdout(self, val: f64, seed: u64) -> Self {
        let split = Some(Split { val, seed, ..Split::default() });
        Self { split, part: Some(Part::Train), ..self }
    }

    /// Whether a column is no input unless it is named as one.
    pub(super) fn is_no_feature(&self, name: &String) -> bool {
        let splits = self.split.as_ref().and_then(|split| split.column.as_ref());
        let apart = [splits, self.id.as_ref()].contains(&Some(name));
        self.target.contains(name) || self.ignore.contains(name) || apart
    }
}

/// How categories go into a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Each category is a number of the inputs, 1 for the sample's own and 0 for the others.
    #[default]
    OneHot,
    /// Each column is a number in the field `categories`: 0 for none, else 1 and more.
    Integer,
}

/// What becomes of a category that the training part has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// It is an error.
    #[default]
    Error,
    /// The sample is of none of the categories.
    Ignore,
}

/// A part of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// To learn from; everything that is fitted is fitted on it.
    Train,
    /// To validate with.
    Val,
    /// To test with.
    Test,
    /// All rows.
    All,
}

impl Part {
    /// The part of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// Which rows are for what.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(default)]
pub struct Split {
    /// Share of the rows to validate with.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub val: f64,
    /// Share of the rows to test with.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub test: f64,
    /// Which rows these are; the run's seed has no part in it.
    pub seed: u64,
    /// Whether each part gets its share of every class of the target; by default chance decides, as scikit-learn's
    /// `train_test_split` does without `stratify`.
    pub stratify: bool,
    /// The column that says train, val or test of each row, instead of shares.
    pub column: Option<String>,
}

/// What becomes of a missing value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Missing {
    /// It is an error.
    #[default]
    Error,
    /// The mean of the training part stands in.
    Mean,
    /// This number stands in.
    Value(f64),
}

impl FromNode for Missing {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        match node.as_str() {
            Some("error") => (Self::Error, Vec::new()),
            Some("mean") => (Self::Mean, Vec::new()),
            Some(other) => (
                Self::Error,
                vec![Diag::error(format!("`missing` is error, mean or a number, not {other:?}")).on(node)],
            ),
            None => match read::<f64>(node, key, &[]) {
                Ok(value) => (Self::Value(value), Vec::new()),
                Err(diags) => (Self::Error, diags.0),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Missing {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for Missing {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Missing".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = json_schema!({ "type": "string", "enum": ["error", "mean"] });
        json_schema!({ "anyOf": [words, { "type": "number", "x-unbounded": true }] })
    }
}

/// What parts the values of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, JsonSchema, serde::Serialize)]
pub enum Delimiter {
    /// A comma.
    #[default]
    #[serde(rename = ",")]
    Comma,
    /// A semicolon.
    #[serde(rename = ";")]
    Semicolon,
    /// A tabulator.
    #[serde(rename = "\t", alias = "tab")]
    Tab,
    /// A vertical bar.
    #[serde(rename = "|")]
    Pipe,
}

impl Delimiter {
    pub(in crate::data) fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }
}
