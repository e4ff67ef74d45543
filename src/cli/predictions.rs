//! What is predicted for each sample, as CSV, JSON lines or a NumPy array.

use std::path::PathBuf;

use ndarray::{ArrayD, ArrayViewD, Axis};
use serde_json::{Map, Value, json};

use crate::base::{Elem, Error, Result};
use crate::data::{Batch, Origin, SampleId};
use crate::metric::{TARGETS, nested, of_row};
use crate::run::Names;

/// The predictions of all samples.
#[derive(Default)]
pub(super) struct Predictions {
    /// Of each what it is called, and its file if there is one.
    samples: Vec<(SampleId, Option<PathBuf>)>,
    /// Whether the files are told: the samples are files, or rows of several.
    files: bool,
    outputs: Vec<Output>,
    /// Of each what it is compared with, where that is known.
    targets: Vec<Map<String, Value>>,
}

/// What a model says under one name.
struct Output {
    name: String,
    /// The shape of one sample.
    shape: Vec<usize>,
    /// Those of all samples.
    values: Vec<Elem>,
    meaning: Meaning,
}

/// What the values of a sample are.
enum Meaning {
    /// A probability for each of these classes.
    Scores(Vec<String>),
    /// The probability of the second of two classes.
    Binary(Vec<String>),
    /// A probability for each class at each place: the first axis is that of the classes.
    Mask(usize),
    /// Values that have names.
    Named(Vec<String>),
    /// Values.
    Plain,
}

impl Meaning {
    fn of(names: Names, shape: &[usize]) -> Self {
        let width: usize = shape.iter().product();
        match (names, shape) {
            (Names::Classes(names), [k]) if *k > 1 && *k == names.len() => Self::Scores(names),
            (Names::Classes(names), _) if width == 1 && names.len() == 2 => Self::Binary(names),
            (Names::Numbered, [k]) if *k > 1 => {
                Self::Scores((0..*k).map(|class| class.to_string()).collect())
            }
            (Names::Classes(names), [k, _, ..]) if *k > 1 && *k == names.len() => Self::Mask(*k),
            (Names::Values(names), [k]) if *k > 1 && *k == names.len() => Self::Named(names),
            _ => Self::Plain,
        }
    }
}

impl Output {
    fn row(&self, sample: usize) -> &[Elem] {
        let width: usize = self.shape.iter().product();
        self.values.get(sample * width..(sample + 1) * width).unwrap_or_default()
    }

    /// Whether samples have a class, if their numbers are any.
    fn has_classes(&self) -> bool {
        matches!(self.meaning, Meaning::Scores(_) | Meaning::Binary(_))
    }

    /// The class of a sample, its number and its probability, where it has one: of NaN there is none.
    fn class<'a>(&'a self, row: &[Elem]) -> Option<(&'a str, usize, f64)> {
        if row.iter().any(|p| p.is_nan()) {
            return None;
        }
        let (names, best, p) = match (&self.meaning, row) {
            (Meaning::Scores(names), row) => {
                let best = best(row.iter());
                (names, best, f64::from(*row.get(best)?))
            }
            (Meaning::Binary(names), [p]) => {
                let p = f64::from(*p);
                (names, usize::from(p >= 0.5), p.max(1.0 - p))
            }
            _ => return None,
        };
        Some((names.get(best)?, best, p))
    }

    /// The names of its columns.
    fn columns(&self, prefix: &str) -> Vec<String> {
        let with_class = |names: &[String]| -> Vec<String> {
            ["class", "class_id"]
                .into_iter()
                .chain(names.iter().map(String::as_str))
                .map(str::to_owned)
                .collect()
        };
        let width: usize = self.shape.iter().product();
        let columns = match &self.meaning {
            Meaning::Scores(names) => with_class(names),
            Meaning::Binary(names) => with_class(&names[1..]),
            Meaning::Named(names) => names.clone(),
            Meaning::Mask(_) | Meaning::Plain if width == 1 => return vec![self.name.clone()],
            Meaning::Mask(_) | Meaning::Plain => {
                return (0..width).map(|at| format!("{}_{at}", self.name)).collect();
            }
        };
        columns.into_iter().map(|column| format!("{prefix}{column}")).collect()
    }

    /// What it adds to the line of a sample.
    fn json(&self, prefix: &str, row: &[Elem], line: &mut Map<String, Value>) {
        if let Some((class, id, p)) = self.class(row) {
            line.insert(format!("{prefix}class"), json!(class));
            line.insert(format!("{prefix}class_id"), json!(id));
            line.insert(format!("{prefix}probability"), json!(p));
        }
        let values = match &self.meaning {
            Meaning::Named(names) => {
                Value::Object(names.iter().cloned().zip(row.iter().map(|v| json!(v))).collect())
            }
            _ => lists(&self.shape, row),
        };
        if let Meaning::Mask(classes) = self.meaning {
            let places = row.len() / classes;
            let ids = (0..places).map(|at| best(row.iter().skip(at).step_by(places)) as Elem);
            let ids: Vec<Elem> = ids.collect();
            line.insert(format!("{prefix}class_ids"), whole(lists(&self.shape[1..], &ids)));
        }
        line.insert(self.name.clone(), values);
    }
}

impl Predictions {
    /// Adds a sample by its position among all and where it comes from.
    pub(super) fn sample(&mut self, position: u64, origin: Origin) {
        let sample = match origin {
            Origin::Position => (SampleId::Row(position), None),
            Origin::File(file) => {
                self.files = true;
                (SampleId::Row(position), Some(file))
            }
            Origin::Row { file, id } => (id, file),
        };
        self.files |= self.samples.first().is_some_and(|(_, first)| *first != sample.1);
        self.samples.push(sample);
    }

    /// Adds these fields of the samples of a batch, those that hold numbers.
    pub(super) fn targets(&mut self, batch: &Batch, fields: &[String]) {
        let known = fields.iter().filter_map(|name| Some((name, batch.get(name)?)));
        let known: Vec<_> = known.collect();
        self.targets.extend((0..batch.valid).map(|row| {
            known.iter().filter_map(|(name, column)| Some(((*name).clone(), of_row(column, row)?))).collect()
        }));
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// How many samples have a prediction that is no finite number.
    pub(super) fn not_finite(&self) -> usize {
        let odd = |sample: &usize| {
            self.outputs.iter().any(|output| output.row(*sample).iter().any(|value| !value.is_finite()))
        };
        (0..self.len()).filter(odd).count()
    }

    /// Adds what is predicted under this name for the first `n` samples of a batch.
    pub(super) fn add(
        &mut self,
        name: &str,
        values: &ArrayD<Elem>,
        n: usize,
        names: impl FnOnce() -> Names,
    ) -> Result<()> {
        let shape = values.shape().get(1..).unwrap_or_default();
        let at = self.outputs.iter().position(|output| output.name == name).unwrap_or(self.outputs.len());
        if at == self.outputs.len() {
            let (meaning, shape) = (Meaning::of(names(), shape), shape.to_vec());
            self.outputs.push(Output { name: name.to_owned(), shape, values: Vec::new(), meaning });
        }
        let output = &mut self.outputs[at];
        if output.shape != shape {
            let before = &output.shape;
            return Err(Error::invalid(format!(
                "`{name}` has the shapes {before:?} and {shape:?}: give inputs of one size"
            )));
        }
        values.axis_iter(Axis(0)).take(n).for_each(|row| output.values.extend(row.iter()));
        Ok(())
    }

    /// What stands before the names of an output's columns, where there are several outputs.
    fn prefix(&self, output: &Output) -> String {
        if self.outputs.len() == 1 { String::new() } else { format!("{}_", output.name) }
    }

    pub(super) fn csv(&self) -> Result<Vec<u8>> {
        let failed =
            |e: &dyn std::fmt::Display| Error::invalid(format!("the predictions cannot be written: {e}"));
        let mut out = csv::Writer::from_writer(Vec::new());
        let columns = self.outputs.iter().flat_map(|output| output.columns(&self.prefix(output)));
        let first = ["id", "file"].into_iter().take(1 + usize::from(self.files)).map(str::to_owned);
        out.write_record(first.chain(columns)).map_err(|e| failed(&e))?;
        for (sample, (id, file)) in self.samples.iter().enumerate() {
            let mut record = vec![id.to_string()];
            if self.files {
                record.push(file.as_ref().map_or(String::new(), |file| file.to_string_lossy().into_owned()));
            }
            for output in &self.outputs {
                let row = output.row(sample);
                if output.has_classes() {
                    let class = output.class(row).map(|(class, id, _)| [class.to_owned(), id.to_string()]);
                    record.extend(class.unwrap_or_default());
                }
                record.extend(row.iter().map(ToString::to_string));
            }
            out.write_record(&record).map_err(|e| failed(&e))?;
        }
        out.into_inner().map_err(|e| failed(&e))
    }

    pub(super) fn jsonl(&self) -> Vec<u8> {
        let mut out = String::new();
        for (sample, (id, file)) in self.samples.iter().enumerate() {
            let mut line = Map::new();
            let id = match id {
                SampleId::Row(row) => json!(row),
                SampleId::Name { name, .. } => json!(name),
            };
            line.insert("id".into(), id);
            if let Some(file) = file.as_ref().filter(|_| self.files) {
                line.insert("file".into(), json!(file.to_string_lossy()));
            }
            for output in &self.outputs {
                output.json(&self.prefix(output), output.row(sample), &mut line);
            }
            if let Some(targets) = self.targets.get(sample).filter(|targets| !targets.is_empty()) {
                line.insert(TARGETS.to_owned(), Value::Object(targets.clone()));
            }
            out.push_str(&Value::Object(line).to_string());
            out.push('\n');
        }
        out.into_bytes()
    }

    /// NumPy's format, version 1.0.
    pub(super) fn npy(&self) -> Result<Vec<u8>> {
        let [Output { shape, values: all, .. }] = &self.outputs[..] else {
            let names: Vec<&str> = self.outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(Error::config(format!(
                "a .npy file holds one array, and the model predicts {}: write .jsonl or .csv",
                names.join(", ")
            )));
        };
        let lengths: Vec<String> =
            [self.samples.len()].iter().chain(shape).map(|n| format!("{n},")).collect();
        let kind = if size_of::<Elem>() == 4 { "<f4" } else { "<f8" };
        let mut header =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", lengths.join(" "));
        // Magic, version and length take ten bytes; values begin at a multiple of 64.
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.into_bytes());
        all.iter().for_each(|value| out.extend(value.to_le_bytes()));
        Ok(out)
    }
}

/// The place of the largest value, the first one among equals; NaN never wins.
fn best<'a>(values: impl Iterator<Item = &'a Elem>) -> usize {
    let start = (0, Elem::NEG_INFINITY);
    let better = |best: (usize, Elem), (at, p): (usize, &Elem)| if *p > best.1 { (at, *p) } else { best };
    values.enumerate().fold(start, better).0
}

/// The same without fractions.
fn whole(value: Value) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(whole).collect()),
        other => other.as_f64().map_or(Value::Null, |number| json!(number as u64)),
    }
}

/// Lists within lists; of values that do not have this shape nothing.
fn lists(shape: &[usize], values: &[Elem]) -> Value {
    ArrayViewD::from_shape(shape, values).map_or(Value::Null, nested)
}
