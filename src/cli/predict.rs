//! `shanty predict`: what a checkpoint says of data, as a table.

use std::path::{Path, PathBuf};

use clap::Args;
use ndarray::{ArrayD, Axis};
use serde_json::{Map, Value, json};

use super::{Bare, ConfigArgs, console, output};
use crate::base::{Elem, Error, Result};
use crate::run::{Predictor, quoted};

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub(super) struct Predict {
    #[command(flatten)]
    config: ConfigArgs,
    /// The checkpoint: a directory of ours, a name in the work_dir, or a file of weights.
    checkpoint: PathBuf,
    /// Files to predict instead of the config's test data, read in the same way.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Where the predictions go: a file that ends in .csv, .jsonl or .npy.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    bare: Bare,
}

/// How predictions are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Csv,
    Jsonl,
    Npy,
}

impl Form {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::Jsonl),
            Some("npy") => Ok(Self::Npy),
            _ => Err(Error::config(format!(
                "`--out {}`: the file's ending says how predictions are written: .csv, .jsonl or .npy",
                path.display()
            ))),
        }
    }
}

impl Predict {
    pub fn run(self) -> Result<()> {
        let form = Form::of(&self.out)?;
        let mut config = self.config.with(&self.bare);
        config.set.extend([format!("load_from={}", quoted(&self.checkpoint)?), "resume=false".into()]);
        let mut model = Predictor::from_config(&config.resolve()?, Some(&config.name()))?;
        let data = model.data(&self.input)?;
        let mut all = Predictions { classes: model.classes().to_vec(), ..Predictions::default() };
        for batch in data.batches(0, Some(data.len())) {
            let batch = batch?;
            let outputs = model.predict(&batch)?;
            all.add(&batch.ids[..batch.valid], outputs.predictions.iter())?;
            data.recycle(batch);
        }
        let bytes = match form {
            Form::Csv => all.csv()?,
            Form::Jsonl => all.jsonl(),
            Form::Npy => all.npy()?,
        };
        if output::write(&self.out, &bytes)? {
            console::say(&format!("{} predictions in {}", all.ids.len(), self.out.display()));
        }
        Ok(())
    }
}

/// The predictions of all samples.
#[derive(Default)]
struct Predictions {
    classes: Vec<String>,
    ids: Vec<u64>,
    /// Of each output its name, the shape of one sample, and the values of all.
    outputs: Vec<(String, Vec<usize>, Vec<Elem>)>,
}

impl Predictions {
    fn add<'a>(
        &mut self,
        ids: &[u64],
        outputs: impl Iterator<Item = (&'a str, &'a ArrayD<Elem>)>,
    ) -> Result<()> {
        self.ids.extend(ids);
        for (name, values) in outputs {
            let shape = values.shape().get(1..).unwrap_or_default().to_vec();
            let at = self.outputs.iter().position(|(own, _, _)| own == name).unwrap_or(self.outputs.len());
            if at == self.outputs.len() {
                self.outputs.push((name.to_owned(), shape.clone(), Vec::new()));
            }
            let (_, before, all) = &mut self.outputs[at];
            if *before != shape {
                return Err(Error::invalid(format!(
                    "`{name}` has the shapes {before:?} and {shape:?}: write .jsonl"
                )));
            }
            values.axis_iter(Axis(0)).take(ids.len()).for_each(|row| all.extend(row.iter()));
        }
        Ok(())
    }

    /// The classes, where an output gives a score for each.
    fn classes_of(&self, shape: &[usize]) -> Option<&[String]> {
        matches!(shape, [k] if *k > 1 && *k == self.classes.len()).then_some(&self.classes[..])
    }

    /// The best class and its probability.
    fn best(&self, row: &[Elem]) -> (usize, f64) {
        let start = (0, f64::NEG_INFINITY);
        let better = |best: (usize, f64), (at, p): (usize, &Elem)| {
            if f64::from(*p) > best.1 { (at, f64::from(*p)) } else { best }
        };
        row.iter().enumerate().fold(start, better)
    }

    fn csv(&self) -> Result<Vec<u8>> {
        let failed =
            |e: &dyn std::fmt::Display| Error::invalid(format!("the predictions cannot be written: {e}"));
        let mut out = csv::Writer::from_writer(Vec::new());
        let mut header = vec!["id".to_owned()];
        let alone = self.outputs.len() == 1;
        for (name, shape, _) in &self.outputs {
            let prefix = if alone { String::new() } else { format!("{name}_") };
            let width: usize = shape.iter().product();
            match self.classes_of(shape) {
                Some(classes) => {
                    header.extend(["class", "class_id"].map(|key| format!("{prefix}{key}")));
                    header.extend(classes.iter().map(|class| format!("{prefix}{class}")));
                }
                None if width == 1 => header.push(name.clone()),
                None => header.extend((0..width).map(|at| format!("{name}_{at}"))),
            }
        }
        out.write_record(&header).map_err(|e| failed(&e))?;
        for (sample, id) in self.ids.iter().enumerate() {
            let mut record = vec![id.to_string()];
            for (_, shape, all) in &self.outputs {
                let row = self.row(shape, all, sample);
                if let Some(classes) = self.classes_of(shape) {
                    let (best, _) = self.best(row);
                    record.extend([classes[best].clone(), best.to_string()]);
                }
                record.extend(row.iter().map(ToString::to_string));
            }
            out.write_record(&record).map_err(|e| failed(&e))?;
        }
        out.into_inner().map_err(|e| failed(&e))
    }

    fn row<'a>(&self, shape: &[usize], all: &'a [Elem], sample: usize) -> &'a [Elem] {
        let width: usize = shape.iter().product();
        all.get(sample * width..(sample + 1) * width).unwrap_or_default()
    }

    fn jsonl(&self) -> Vec<u8> {
        let mut out = String::new();
        for (sample, id) in self.ids.iter().enumerate() {
            let mut line = Map::new();
            line.insert("id".into(), json!(id));
            for (name, shape, all) in &self.outputs {
                let row = self.row(shape, all, sample);
                if let Some(classes) = self.classes_of(shape) {
                    let (best, p) = self.best(row);
                    let prefix = if self.outputs.len() == 1 { String::new() } else { format!("{name}_") };
                    line.insert(format!("{prefix}class"), json!(classes[best]));
                    line.insert(format!("{prefix}class_id"), json!(best));
                    line.insert(format!("{prefix}probability"), json!(p));
                }
                line.insert(name.clone(), nested(shape, row));
            }
            out.push_str(&Value::Object(line).to_string());
            out.push('\n');
        }
        out.into_bytes()
    }

    /// NumPy's format, version 1.0.
    fn npy(&self) -> Result<Vec<u8>> {
        let [(_, shape, all)] = &self.outputs[..] else {
            let names: Vec<&str> = self.outputs.iter().map(|(name, _, _)| name.as_str()).collect();
            return Err(Error::config(format!(
                "a .npy file holds one array, and the model predicts {}: write .jsonl or .csv",
                names.join(", ")
            )));
        };
        let lengths: Vec<String> = [self.ids.len()].iter().chain(shape).map(|n| format!("{n},")).collect();
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

/// Lists within lists.
fn nested(shape: &[usize], values: &[Elem]) -> Value {
    match shape {
        [] => values.first().map_or(Value::Null, |value| json!(value)),
        [1] if values.len() == 1 => json!(values[0]),
        [_] => json!(values),
        [_, behind @ ..] => {
            let size = behind.iter().product::<usize>().max(1);
            Value::Array(values.chunks(size).map(|part| nested(behind, part)).collect())
        }
    }
}
