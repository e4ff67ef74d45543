//! `shanty eval-offline`: metrics of predictions that stand in a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use ndarray::ArrayD;
use serde_json::{Map, Value};

use super::evaluate::tell;
use super::output::{self, Output};
use super::{Bare, ConfigArgs};
use crate::base::error::IoContext;
use crate::base::{Elem, Error, Result};
use crate::config::{Node, OneOrMany};
use crate::data::{Batch, Column, Fields};
use crate::metric::{Evaluator, Metric, Predictions, TARGETS};
use crate::model::SCORES;
use crate::registry::{BuildCx, Spec};

/// Lines that are counted at once.
const CHUNK: usize = 256;

/// Arguments of `eval-offline`.
#[derive(Debug, Clone, Args)]
pub(super) struct EvalOffline {
    #[command(flatten)]
    config: ConfigArgs,
    /// What was predicted: a file of JSON lines, from `shanty predict --out FILE.jsonl` or from DumpResults.
    predictions: PathBuf,
    /// Write the metrics to this JSON file too.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    bare: Bare,
}

impl EvalOffline {
    pub fn run(self) -> Result<()> {
        let node = self.config.with(&self.bare).resolve()?;
        let (mut evaluator, named) = evaluator(&node)?;
        if let Some(out) = &self.out {
            output::spare_inputs(out, &node)?;
            output::spare(out, std::slice::from_ref(&self.predictions))?;
        }
        let out = self.out.as_deref().map(Output::at).transpose()?;
        count(&self.predictions, &mut evaluator, Known::of(&node, named))?;
        let tables = evaluator.tables(|_| None)?;
        tell(&evaluator.compute()?, &tables, out)
    }
}

/// The metrics of a config, those to test with, else to validate with, and the predictions that they name.
fn evaluator(node: &Node) -> Result<(Evaluator, Vec<String>)> {
    let given = |key| node.get(key).filter(|metrics| !metrics.is_null());
    let metrics = given("test_evaluator").or_else(|| given("val_evaluator")).ok_or_else(|| {
        Error::config("the config has no `test_evaluator` and no `val_evaluator`: they say what is computed")
    })?;
    let specs: OneOrMany<Spec<dyn Metric>> = metrics.read_checked()?;
    let named = specs.0.iter().filter_map(|spec| spec.extra.output.clone()).collect();
    Ok((Evaluator::build(&specs.0, &mut BuildCx::new(0))?, named))
}

/// What the config says of the predictions of its model, which is not built.
#[derive(Default)]
struct Known {
    /// Their names; empty where the config does not tell.
    outputs: Vec<String>,
    /// How many classes have a score.
    classes: Option<usize>,
}

impl Known {
    /// That of the models of this crate, with the predictions that metrics name.
    fn of(node: &Node, named: Vec<String>) -> Self {
        let Some(model) = node.get("model") else { return Self { outputs: named, classes: None } };
        let given = |key| model.get(key).filter(|value| !value.is_null());
        let number = |node: Option<&Node>| node.and_then(|node| node.read::<usize>().ok());
        let (mut outputs, classes) = match model.get("type").and_then(Node::as_str) {
            Some("ImageClassifier") => {
                (vec![SCORES.to_owned()], number(given("head").and_then(|head| head.get("num_classes"))))
            }
            Some("Supervised") => match given("heads").map(Node::entries).unwrap_or_default() {
                // The loss decides between the two, and is not built either.
                [] => {
                    let last = given("network").and_then(|network| network.items().last());
                    let classes = number(last.and_then(|layer| layer.get("out_features")));
                    (vec![SCORES.to_owned(), "prediction".to_owned()], classes)
                }
                heads => (heads.iter().map(|(name, _)| name.text.clone()).collect(), None),
            },
            _ => return Self { outputs: named, classes: None },
        };
        outputs.extend(named);
        Self { outputs, classes }
    }

    /// Whether one of a line's names is that of a prediction. Features of a module look like scores, and are none:
    /// where the config does not tell the names, a path is taken for that of a module.
    fn check(&self, names: &[&String]) -> std::result::Result<(), String> {
        let fits = |name: &String| match self.outputs.is_empty() {
            true => !name.contains('.'),
            false => self.outputs.contains(name),
        };
        if names.iter().any(|name| fits(name)) {
            return Ok(());
        }
        let wanted = self.outputs.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        let wanted = if wanted.is_empty() { "a prediction".to_owned() } else { wanted };
        Err(match names.first() {
            Some(name) => format!(
                "`{name}` is no prediction, and {wanted} is wanted: features of a module are not compared with \
                 targets, write the file by `shanty predict` without `--features`"
            ),
            None => format!("there is no prediction: {wanted} is wanted"),
        })
    }

    /// Whether there is a score for each class.
    fn check_width(&self, name: &str, shape: &[usize]) -> std::result::Result<(), String> {
        match (self.classes, shape) {
            (Some(classes), [scores]) if name == SCORES && *scores != classes => Err(format!(
                "`{name}` has {scores} numbers, and the config's model has {classes} classes: take the config \
                 that they were predicted with"
            )),
            _ => Ok(()),
        }
    }
}

/// Counts every line of a file.
fn count(path: &Path, evaluator: &mut Evaluator, known: Known) -> Result<()> {
    if path.extension().is_none_or(|ending| ending != "jsonl") {
        return Err(Error::config(format!(
            "{}: predictions with their targets are JSON lines: write them by `shanty predict --out FILE.jsonl`, or by \
             the metric DumpResults",
            path.display()
        )));
    }
    let mut lines = BufReader::new(File::open(path).at(path)?).lines().enumerate();
    let mut chunk = Chunk { known, ..Chunk::default() };
    loop {
        let next = lines.next();
        if next.is_none() || chunk.numbers.len() == CHUNK {
            chunk.count(evaluator).map_err(|why| chunk.placed(path, why))?;
            chunk.clear();
        }
        let Some((number, line)) = next else { return chunk.end(path) };
        let line = line.at(path)?;
        if !line.trim().is_empty() {
            let read = chunk.read(number as u64 + 1, &line);
            read.map_err(|why| Error::config(format!("{}:{}: {why}", path.display(), number + 1)))?;
        }
    }
}

/// Lines that are counted together, and what is known of all lines so far.
#[derive(Default)]
struct Chunk {
    known: Known,
    numbers: Vec<u64>,
    outputs: Fields<Numbers>,
    targets: Fields<Numbers>,
    /// The line of each sample, by its file and its `id`.
    ids: HashMap<(Option<String>, String), u64>,
    /// The first two lines of a name that stands twice.
    again: Option<(u64, u64)>,
    /// How many samples have a prediction that is null.
    odd: u64,
}

impl Chunk {
    /// Adds a line.
    fn read(&mut self, number: u64, line: &str) -> std::result::Result<(), String> {
        let line: Map<String, Value> =
            serde_json::from_str(line).map_err(|e| format!("this is no JSON object: {e}"))?;
        let Some(targets) = line.get(TARGETS).and_then(Value::as_object) else {
            return Err(format!(
                "there are no `{TARGETS}` to compare with: predict the data of the config, without `--input`"
            ));
        };
        let first = self.ids.is_empty();
        self.name(number, &line)?;
        let is_told = |name: &String| is_derived(name, &line);
        let outputs: Vec<(&String, &Value)> = line.iter().filter(|(name, _)| !is_told(name)).collect();
        let names: Vec<&String> = outputs.iter().map(|(name, _)| *name).collect();
        self.known.check(&names)?;
        self.odd += u64::from(read_all(&mut self.outputs, &outputs, first)?.is_some());
        let shapes = self.outputs.iter().filter_map(|(name, numbers)| Some((name, numbers.shape.as_ref()?)));
        for (name, shape) in shapes {
            self.known.check_width(name, shape)?;
        }
        let targets: Vec<(&String, &Value)> = targets.iter().collect();
        if let Some(name) = read_all(&mut self.targets, &targets, first)? {
            return Err(format!(
                "`{name}` of `{TARGETS}` is null or has a null in it, and nothing can be compared with that: \
                 write what is true, or leave out the line"
            ));
        }
        self.numbers.push(number);
        Ok(())
    }

    /// Takes note of the sample of a line. Rows are counted, so that none stands twice; names may, as those of
    /// customers who came several times.
    fn name(&mut self, number: u64, line: &Map<String, Value>) -> std::result::Result<(), String> {
        let Some(id) = line.get("id").filter(|id| id.is_number() || id.is_string()) else {
            return Err("there is no `id`: each line says by a number or a name which sample it is".into());
        };
        let file = line.get("file").and_then(Value::as_str).map(str::to_owned);
        let Some(before) = self.ids.insert((file, id.to_string()), number) else { return Ok(()) };
        if !id.is_string() {
            return Err(format!(
                "`id: {id}` stands in line {before} too, and a sample counts once: leave out one of the two"
            ));
        }
        self.again.get_or_insert((before, number));
        Ok(())
    }

    /// Forgets the lines that are counted, and keeps what the next ones have to agree with.
    fn clear(&mut self) {
        self.numbers.clear();
        self.outputs.iter_mut().chain(self.targets.iter_mut()).for_each(|(_, numbers)| numbers.clear());
    }

    /// What is to be said of the whole file.
    fn end(&self, path: &Path) -> Result<()> {
        let path = path.display();
        if self.ids.is_empty() {
            return Err(Error::invalid(format!(
                "{path}: there was no sample: the file has no lines, write it by `shanty predict --out \
                 FILE.jsonl`"
            )));
        }
        if self.odd > 0 {
            log::warn!(
                "{path}: the predictions of {} samples have a null, which stands for NaN or infinity: it counts \
                 as NaN",
                self.odd
            );
        }
        if let Some((before, number)) = self.again {
            log::warn!(
                "{path}: lines {before} and {number} have one `id`: both count, leave one out if they are one \
                 sample"
            );
        }
        Ok(())
    }

    fn count(&self, evaluator: &mut Evaluator) -> Result<()> {
        let n = self.numbers.len();
        if n == 0 {
            return Ok(());
        }
        let mut batch = Batch { ids: self.numbers.clone(), valid: n, ..Batch::default() };
        for (name, numbers) in self.targets.iter() {
            batch = batch.with(name.to_owned(), numbers.column(n)?);
        }
        let mut outputs = Fields::default();
        for (name, numbers) in self.outputs.iter() {
            outputs.set(name.to_owned(), numbers.array(n, |value| value as Elem)?);
        }
        evaluator.process(&Predictions::of(&batch, &outputs))
    }

    fn placed(&self, path: &Path, why: Error) -> Error {
        let (first, last) = (self.numbers.first().unwrap_or(&0), self.numbers.last().unwrap_or(&0));
        Error::invalid(format!("{}, lines {first} to {last}: {why}", path.display()))
    }
}

/// Whether a key says of a prediction what its numbers say too, or is none: `id`, `class`, `digit_probability`.
fn is_derived(name: &str, line: &Map<String, Value>) -> bool {
    let told =
        ["class", "class_id", "probability", "class_ids"].iter().filter_map(|end| name.strip_suffix(end));
    let mut prefixes = told.filter_map(|prefix| match prefix {
        "" => Some(None),
        prefix => prefix.strip_suffix('_').map(Some),
    });
    ["id", "file", TARGETS].contains(&name)
        || prefixes.any(|of| of.is_none_or(|output| line.contains_key(output)))
}

/// Adds the numbers of a line under each name. Gives the first name with a null.
fn read_all(
    all: &mut Fields<Numbers>,
    entries: &[(&String, &Value)],
    first: bool,
) -> std::result::Result<Option<String>, String> {
    if !first && all.len() != entries.len() {
        return Err("there are other predictions or targets than in the lines above".into());
    }
    let mut null = None;
    for &(name, value) in entries {
        if first {
            all.set(name.clone(), Numbers::default());
        }
        let numbers = all.get_mut(name).ok_or_else(|| format!("`{name}` is not in the lines above"))?;
        let before = numbers.nulls;
        numbers.read(value).map_err(|why| format!("`{name}` {why}"))?;
        if numbers.nulls > before {
            null.get_or_insert_with(|| name.clone());
        }
    }
    Ok(null)
}

/// The numbers of all lines under one name.
#[derive(Default)]
struct Numbers {
    /// The shape of one line's.
    shape: Option<Vec<usize>>,
    values: Vec<f64>,
    /// Whether one of them is no whole number.
    real: bool,
    /// How many of them are null.
    nulls: usize,
}

impl Numbers {
    /// Forgets the numbers, and keeps the shape.
    fn clear(&mut self) {
        self.values.clear();
        (self.real, self.nulls) = (false, 0);
    }

    fn read(&mut self, value: &Value) -> std::result::Result<(), String> {
        let shape = self.add(value)?;
        match &self.shape {
            Some(known) if *known != shape => {
                Err(format!("has the shape {shape:?}, and {known:?} in the lines above"))
            }
            _ => {
                self.shape = Some(shape);
                Ok(())
            }
        }
    }

    /// Adds numbers, lists of them or lists of lists; gives their shape. JSON has no NaN: it is null.
    fn add(&mut self, value: &Value) -> std::result::Result<Vec<usize>, String> {
        let list: Vec<&Value> = match value {
            Value::Null => {
                self.real = true;
                self.nulls += 1;
                self.values.push(f64::NAN);
                return Ok(Vec::new());
            }
            Value::Number(number) => {
                self.real |= number.as_i64().is_none();
                self.values.push(number.as_f64().unwrap_or(f64::NAN));
                return Ok(Vec::new());
            }
            Value::Array(items) => items.iter().collect(),
            Value::Object(entries) => entries.values().collect(),
            Value::Bool(_) | Value::String(_) => return Err(format!("is {value}, and a number is wanted")),
        };
        let mut shape = None;
        for item in &list {
            let own = self.add(item)?;
            if shape.get_or_insert_with(|| own.clone()) != &own {
                return Err("has lists of unequal lengths".into());
            }
        }
        Ok(std::iter::once(list.len()).chain(shape.unwrap_or_default()).collect())
    }

    fn array<T>(&self, n: usize, of: impl Fn(f64) -> T) -> Result<ArrayD<T>> {
        let shape: Vec<usize> = std::iter::once(n).chain(self.shape.iter().flatten().copied()).collect();
        let values = self.values.iter().map(|value| of(*value)).collect();
        ArrayD::from_shape_vec(shape, values).map_err(|e| Error::invalid(e.to_string()))
    }

    fn column(&self, n: usize) -> Result<Column> {
        Ok(match self.real {
            true => Column::Float(self.array(n, |value| value as Elem)?),
            false => Column::Int(self.array(n, |value| value as i64)?),
        })
    }
}
