//! Files of TensorBoard.

mod proto;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use self::proto::{
    Event, Experiment, HParam, HParamInfo, HParamValue, HParams, Histogram, Image, Metadata, MetricInfo,
    MetricName, PluginData, SessionEnd, SessionStart, Summary, SummaryValue, Tensor, record,
};
use super::event::number;
use super::{GrowingFile, VisBackend, VisCx, VisEvent, png};
use crate::base::{Error, Result, durable};
use crate::config::{Kind, Node, parse};
use crate::register;
use crate::registry::BuildCx;

/// Parameters of [`TensorboardVisBackend`].
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TensorboardVisConfig {
    /// A folder for the file, which several runs may share: the file's name tells them apart. `vis_data` of the log
    /// folder if absent.
    pub save_dir: Option<String>,
}

/// Writes scalars, the config as a text, histograms, pictures, and hyperparameters with the metrics of the validation.
/// A run has one file, however often it was stopped: when it goes on the file is made anew from the log.
#[derive(Default)]
pub struct TensorboardVisBackend {
    config: TensorboardVisConfig,
    file: Option<GrowingFile>,
    /// How the run began.
    run: Option<VisEvent>,
    /// What its validations measure.
    metrics: BTreeSet<String>,
    ended: bool,
}

impl TensorboardVisBackend {
    fn from_config(config: TensorboardVisConfig, _: &mut BuildCx) -> Result<Self> {
        if let Some(why) = config.save_dir.as_deref().and_then(|dir| durable::unusable(Path::new(dir))) {
            return Err(Error::config(format!("`save_dir`: {why}")));
        }
        Ok(Self { config, ..Self::default() })
    }

    fn path(&self, run: &VisEvent, cx: &VisCx<'_>) -> PathBuf {
        let dir = self.config.save_dir.as_deref().map_or(cx.dir, Path::new);
        let name = run.text("experiment_name");
        let plain: String =
            name.chars().take(120).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let mut file = format!("events.out.tfevents.{:010}.{plain}", run.wall_time() as u64);
        if self.config.save_dir.is_some() {
            // Runs that share a folder may begin in one second. Where a run is tells it apart from all others, a copy
            // of it among them, and is the same when it goes on; so is the log folder in which it began.
            let work = cx.fs.canonical(cx.work).unwrap_or_else(|_| cx.work.to_owned());
            let own = work.join(run.text("log_dir"));
            let _ = write!(file, ".{:016x}", xxh3_64(own.as_os_str().as_encoded_bytes()));
        }
        dir.join(file)
    }

    /// Adds records; the file begins with how the run does.
    fn write(&mut self, values: Vec<SummaryValue>, event: &VisEvent, cx: &VisCx<'_>) -> Result<()> {
        let told = Event {
            wall_time: event.wall_time(),
            step: i64::try_from(event.step()).unwrap_or(i64::MAX),
            summary: Some(Summary { value: values }),
            file_version: None,
        };
        if let Some(file) = &mut self.file {
            return file.append(&record(&told));
        }
        let run = self.run.clone().unwrap_or_else(|| event.clone());
        let path = self.path(&run, cx);
        if self.config.save_dir.is_some() {
            durable::make_dir(cx.fs, durable::parent(&path))?;
        }
        let version = Event {
            wall_time: run.wall_time(),
            file_version: Some("brain.Event:2".into()),
            ..Event::default()
        };
        let begin = Event {
            wall_time: run.wall_time(),
            summary: Some(Summary { value: vec![config_text(&run), session_start(&run)] }),
            ..Event::default()
        };
        let mut file = GrowingFile::begin(cx.fs, &path)?;
        file.append(&[record(&version), record(&begin), record(&told)].concat())?;
        self.file = Some(file);
        Ok(())
    }

    /// What stands for the run in the table of hyperparameters.
    fn session_end(&self, event: &VisEvent) -> Vec<SummaryValue> {
        let of = |(name, value): (String, HParamValue)| {
            let kind = match value {
                HParamValue::Text(_) => 1,
                HParamValue::Switch(_) => 2,
                HParamValue::Number(_) => 3,
            };
            HParamInfo { name, kind }
        };
        let named = |tag: &String| MetricInfo { name: Some(MetricName { tag: tag.clone() }) };
        let experiment = Experiment {
            hparam_infos: self.run.iter().flat_map(hparams).map(of).collect(),
            metric_infos: self.metrics.iter().map(named).collect(),
        };
        let status = if event.text("reason") == "failed" { 2 } else { 1 };
        let end = SessionEnd { status, end_time: event.wall_time() };
        vec![
            of_hparams("experiment", HParams { experiment: Some(experiment), ..HParams::default() }),
            of_hparams("session_end_info", HParams { end: Some(end), ..HParams::default() }),
        ]
    }
}

/// A text of markdown.
fn config_text(run: &VisEvent) -> SummaryValue {
    let text = format!("```yaml\n{}\n```", run.text("config").trim_end());
    let plugin = PluginData { plugin_name: "text".into(), content: Vec::new() };
    SummaryValue {
        tag: "config".into(),
        tensor: Some(Tensor { dtype: 7, string_val: vec![text.into_bytes()] }),
        metadata: Some(Metadata { plugin_data: Some(plugin) }),
        ..SummaryValue::default()
    }
}

fn session_start(run: &VisEvent) -> SummaryValue {
    let hparams: BTreeMap<_, _> =
        hparams(run).into_iter().map(|(name, value)| (name, HParam { value: Some(value) })).collect();
    let start = SessionStart { hparams, start_time: run.wall_time() };
    of_hparams("session_start_info", HParams { start: Some(start), ..HParams::default() })
}

fn of_hparams(what: &str, data: HParams) -> SummaryValue {
    let plugin = PluginData { plugin_name: "hparams".into(), content: data.encode_to_vec() };
    SummaryValue {
        tag: format!("_hparams_/{what}"),
        metadata: Some(Metadata { plugin_data: Some(plugin) }),
        ..SummaryValue::default()
    }
}

/// The numbers, texts and switches of the config, by their paths, and the seed.
fn hparams(run: &VisEvent) -> Vec<(String, HParamValue)> {
    let mut found = Vec::new();
    if let Ok(node) = parse("config.yaml", run.text("config")) {
        leaves("", &node, &mut found);
    }
    found.retain(|(name, _)| !["work_dir", "load_from", "resume"].contains(&name.as_str()));
    found.truncate(500);
    if let Some(seed) = run.get("seed").and_then(Value::as_f64) {
        found.retain(|(name, _)| name != "randomness.seed");
        found.push(("randomness.seed".into(), HParamValue::Number(seed)));
    }
    found
}

fn leaves(path: &str, node: &Node, found: &mut Vec<(String, HParamValue)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let value = match &*node.kind {
        Kind::Map(entries) => {
            return entries.iter().for_each(|(key, value)| leaves(&below(&key.text), value, found));
        }
        Kind::Seq(items) => {
            let each = items.iter().enumerate();
            return each.for_each(|(at, value)| leaves(&below(&at.to_string()), value, found));
        }
        Kind::Null => return,
        Kind::Bool(on) => HParamValue::Switch(*on),
        Kind::Int(n) => HParamValue::Number(*n as f64),
        Kind::Uint(n) => HParamValue::Number(*n as f64),
        Kind::Float(x) => HParamValue::Number(*x),
        Kind::Str(text) => HParamValue::Text(text.clone()),
    };
    found.push((path.to_owned(), value));
}

fn histogram(event: &VisEvent) -> Histogram {
    let one = |key: &str| event.get(key).and_then(number).unwrap_or_default();
    let list = |key: &str| {
        let items = event.get(key).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(number).collect()
    };
    Histogram {
        min: one("min"),
        max: one("max"),
        num: one("num"),
        sum: one("sum"),
        sum_squares: one("sum_squares"),
        bucket_limit: list("limits"),
        bucket: list("counts"),
    }
}

/// A picture of the run: what else a log may name, of somebody else or damaged, is no file to be read and passed on.
fn image(event: &VisEvent, cx: &VisCx<'_>) -> Result<Image> {
    let path = Path::new(event.text("path"));
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    let encoded = is_below.then(|| durable::read_plain(cx.fs, &cx.work.join(path), 1 << 28)).transpose()?;
    let Some(encoded) = encoded.filter(|bytes| bytes.starts_with(png::BEGIN)) else {
        return Err(Error::invalid(format!("{}: is no picture of this run", path.display())));
    };
    let of = |key: &str| event.get(key).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    let (height, width) = (of("height").unwrap_or_default(), of("width").unwrap_or_default());
    Ok(Image { height, width, colorspace: 3, encoded })
}

impl VisBackend for TensorboardVisBackend {
    fn add(&mut self, event: &VisEvent, cx: &VisCx<'_>) -> Result<()> {
        let named = || SummaryValue { tag: event.text("name").into(), ..SummaryValue::default() };
        let values = match event.kind() {
            "run" => {
                self.run = Some(event.clone());
                return Ok(());
            }
            "histogram" => vec![SummaryValue { histo: Some(histogram(event)), ..named() }],
            "image" => vec![SummaryValue { image: Some(image(event, cx)?), ..named() }],
            "end" if !std::mem::replace(&mut self.ended, true) => self.session_end(event),
            _ if event.has_scalars() => {
                // Of a validation and a test the names are the same.
                let prefix = if event.kind() == "test" { "test/" } else { "" };
                let scalar = |(name, value): (&str, f64)| SummaryValue {
                    tag: format!("{prefix}{name}"),
                    simple_value: Some(value as f32),
                    ..SummaryValue::default()
                };
                let values: Vec<_> = event.scalars().map(scalar).collect();
                if event.kind() == "val" {
                    self.metrics.extend(values.iter().map(|value| value.tag.clone()));
                }
                values
            }
            _ => return Ok(()),
        };
        self.write(values, event, cx)
    }

    fn restart(&mut self) -> Result<()> {
        let file = self.file.take();
        *self = Self { config: self.config.clone(), ..Self::default() };
        file.map_or(Ok(()), |mut file| file.truncate(0))
    }

    fn place(&self) -> Option<String> {
        let dir = match self.config.save_dir.as_deref().map(Path::new) {
            // One folder may be written in two ways.
            Some(dir) => std::fs::canonicalize(dir)
                .or_else(|_| std::path::absolute(dir))
                .unwrap_or_else(|_| dir.to_owned()),
            None => PathBuf::from("vis_data"),
        };
        Some(format!("a file of TensorBoard in `{}`", dir.display()))
    }
}

register! {
    /// Files of TensorBoard: scalars, config, histograms, pictures, hyperparameters.
    dyn VisBackend, "TensorboardVisBackend" => fn TensorboardVisBackend::from_config
}
