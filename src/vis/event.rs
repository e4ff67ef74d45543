//! One line of the event log.

use std::path::Path;

use jiff::Timestamp;
use ndarray::Array2;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::base::Result;
use crate::base::durable;
use crate::base::fs::FileSystem;

/// Fields of an event with scalars that are none.
const RESERVED: [&str; 5] = ["event", "wall_time", "epoch", "iter", "step"];

/// One thing that happened in a run: its kind (`train`, `val`, `checkpoint`, …) and its fields, in order.
///
/// Events of scalars (`train`, `val`, `test`, and `scalars` of a hook's own) have them as fields beside `epoch`, `iter`
/// and `step`; a scalar of such a name stands behind a slash.
#[derive(Debug, Clone, PartialEq)]
pub struct VisEvent(Map<String, Value>);

impl VisEvent {
    /// An event without fields.
    pub fn new(kind: &str) -> Self {
        Self(Map::from_iter([("event".to_owned(), kind.into())]))
    }

    /// The same with a further field.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// The same with scalars, of an event that has them.
    #[must_use]
    pub fn with_scalars(mut self, scalars: &[(&str, f64)]) -> Self {
        for (name, value) in scalars {
            let escaped = RESERVED.contains(name) || name.starts_with('/');
            let key = if escaped { format!("/{name}") } else { (*name).to_owned() };
            self.0.insert(key, to_json(*value));
        }
        self
    }

    /// The event of a table.
    pub fn table(table: &TableLine<'_>) -> Self {
        let fields = serde_json::to_value(table).ok();
        let fields = fields.iter().filter_map(Value::as_object).flatten();
        fields.fold(Self::new("table"), |event, (key, value)| event.with(key, value.clone()))
    }

    /// The same with the time of day, unless it has one.
    #[must_use]
    pub(super) fn at(mut self, now: &str) -> Self {
        // `time` is a scalar, the seconds of an iteration.
        let key = if matches!(self.kind(), "run" | "resume" | "checkpoint" | "warning" | "end") {
            "time"
        } else {
            "wall_time"
        };
        if !self.0.contains_key(key) {
            self.0.shift_insert(1, key.to_owned(), now.into());
        }
        self
    }

    /// What happened: `train`, `val`, `checkpoint`, …
    pub fn kind(&self) -> &str {
        self.text("event")
    }

    /// A field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A field that is a text; empty if it is none.
    pub fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Where on its axis it belongs: the iteration, or the epoch of a validation.
    pub fn step(&self) -> u64 {
        self.get("step").and_then(Value::as_u64).unwrap_or_default()
    }

    /// The time of day, in seconds since 1970.
    pub fn wall_time(&self) -> f64 {
        let told = self.get("wall_time").or_else(|| self.get("time")).and_then(Value::as_str);
        let time = told.and_then(|time| time.parse::<Timestamp>().ok());
        time.map_or(0.0, |time| time.as_microsecond() as f64 / 1e6)
    }

    /// Whether it has scalars.
    pub fn has_scalars(&self) -> bool {
        matches!(self.kind(), "train" | "val" | "test" | "scalars")
    }

    /// The scalars by name, in order.
    pub fn scalars(&self) -> impl Iterator<Item = (&str, f64)> {
        let fields = self.0.iter().filter(|_| self.has_scalars());
        let scalars = fields.filter(|(key, _)| !RESERVED.contains(&key.as_str()));
        scalars.filter_map(|(key, value)| Some((key.strip_prefix('/').unwrap_or(key), number(value)?)))
    }

    /// All fields but the kind and the time of day.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().filter(|(key, _)| !matches!(key.as_str(), "event" | "wall_time"))
    }

    /// Its line, with the end of it.
    pub fn line(&self) -> String {
        let mut line = Value::Object(self.0.clone()).to_string();
        line.push('\n');
        line
    }

    /// The event of a line; none of half a line, and of one that is no event.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let event = Self(serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?);
        (!event.kind().is_empty()).then_some(event)
    }
}

/// A table of a validation or test: a line of `tables.json`.
#[derive(Debug, Clone, Serialize)]
pub struct TableLine<'a> {
    /// `confusion_matrix/result`.
    pub name: &'a str,
    /// `val` or `test`.
    pub mode: &'a str,
    /// What the rows are and what the columns are: `["truth", "prediction"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axes: Option<&'a [String; 2]>,
    /// Names of the rows.
    pub rows: &'a [String],
    /// Names of the columns.
    pub columns: &'a [String],
    /// The rows, each a list of numbers.
    #[serde(serialize_with = "of_rows")]
    pub values: &'a Array2<f64>,
    /// Where the run stands, as in the scalars of this validation.
    pub step: u64,
}

/// Rows of numbers as strict JSON.
fn of_rows<S: Serializer>(values: &Array2<f64>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.rows().into_iter().map(|row| row.iter().map(|v| to_json(*v)).collect::<Vec<_>>()))
}

/// The events of a log; half a line, which a disk may have left, is passed over.
///
/// # Errors
/// When the file cannot be read.
pub fn read_events(fs: &dyn FileSystem, path: &Path) -> Result<Vec<VisEvent>> {
    Ok(read_whole(fs, path)?.0)
}

/// The same, with the number of the lines that are passed over.
pub(crate) fn read_whole(fs: &dyn FileSystem, path: &Path) -> Result<(Vec<VisEvent>, u64)> {
    let text = durable::read_plain(fs, path, u64::MAX)?;
    let (mut events, mut unread) = (Vec::new(), 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match VisEvent::parse(line) {
            Some(event) => events.push(event),
            None => unread += 1,
        }
    }
    Ok((events, unread))
}

/// A number as strict JSON: whole ones without a fraction, NaN and infinities as texts.
pub fn to_json(v: f64) -> Value {
    if v.is_nan() {
        "NaN".into()
    } else if v.is_infinite() {
        if v > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else if v.fract() == 0.0 && v.abs() < 1e15 && !(v == 0.0 && v.is_sign_negative()) {
        Value::from(v as i64)
    } else {
        Value::from(v)
    }
}

/// The number that [`to_json`] wrote.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        other => other.as_f64(),
    }
}
