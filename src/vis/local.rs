//! `vis_data/scalars.json` and `vis_data/tables.json`: one JSON object a line.

use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::base::error::{IoContext, Result};
use crate::base::fs::{Append, FileSystem};
use crate::base::{Error, durable};

/// Names and values of one line, in order.
pub type Scalars<'a> = &'a [(&'a str, f64)];

/// Appends lines to the scalar files of a run, and to that of its tables. A number that is not finite is written as the
/// string `"NaN"`, `"Infinity"` or `"-Infinity"`, so that each line is strict JSON.
#[derive(Default)]
pub struct LocalVisBackend {
    /// `scalars.json`, and a copy of this process's lines.
    scalars: Lines,
    tables: Lines,
    /// Where the tables go; their file is made with the first of them.
    tables_file: PathBuf,
}

/// How much a run has written: checkpoints keep the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of `scalars.json`.
    pub scalars: u64,
    /// Bytes of `tables.json`.
    pub tables: u64,
}

/// What `vis_data` is made of.
pub const SCALARS: &str = "scalars.json";
/// One table a line.
pub const TABLES: &str = "tables.json";

impl LocalVisBackend {
    /// A backend that writes to `scalars.json` and `tables.json` in this folder, and its scalars to another file there
    /// too.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn in_dir(fs: &dyn FileSystem, dir: &Path, also: &str) -> Result<Self> {
        let scalars = Lines::open(fs, SCALARS, &[&dir.join(SCALARS), &dir.join(also)])?;
        Ok(Self { scalars, tables: Lines::default(), tables_file: dir.join(TABLES) })
    }

    /// Bytes so far.
    pub fn written(&self) -> Written {
        Written { scalars: self.scalars.written(), tables: self.tables.written() }
    }

    /// Begins with the lines that an older run had written to `dir` when it counted so much.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn continue_from(&mut self, fs: &dyn FileSystem, dir: &Path, written: Written) -> Result<()> {
        self.scalars.continue_from(fs, &dir.join(SCALARS), written.scalars)?;
        if written.tables == 0 {
            return Ok(());
        }
        self.open_tables(fs)?;
        self.tables.continue_from(fs, &dir.join(TABLES), written.tables)
    }

    /// Forgets the lines behind so much: they will be written again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn rewind(&mut self, written: Written) -> Result<()> {
        self.scalars.rewind(written.scalars)?;
        self.tables.rewind(written.tables)
    }

    /// Appends one line: the scalars, then `step`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add_scalars(&mut self, scalars: Scalars<'_>, step: u64) -> Result<()> {
        if self.scalars.files.is_empty() {
            return Ok(());
        }
        let mut line: Map<String, Value> =
            scalars.iter().map(|(k, v)| ((*k).to_owned(), to_json(*v))).collect();
        line.entry("step").or_insert_with(|| step.into());
        self.scalars.append(&Value::Object(line).to_string())
    }

    /// Appends one line with a table.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add_table(&mut self, fs: &dyn FileSystem, table: &TableLine<'_>) -> Result<()> {
        if self.scalars.files.is_empty() {
            return Ok(());
        }
        self.open_tables(fs)?;
        self.tables.append(&serde_json::to_string(table).map_err(|e| Error::Other(e.into()))?)
    }

    fn open_tables(&mut self, fs: &dyn FileSystem) -> Result<()> {
        if self.tables.files.is_empty() {
            self.tables = Lines::open(fs, TABLES, &[&self.tables_file])?;
        }
        Ok(())
    }
}

/// A line of `tables.json`.
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

/// Files that get the same lines.
#[derive(Default)]
struct Lines {
    name: &'static str,
    /// Each with its bytes in whole lines.
    files: Vec<(Box<dyn Append>, u64)>,
    /// The disk took a part of a line.
    torn: bool,
}

impl Lines {
    fn open(fs: &dyn FileSystem, name: &'static str, paths: &[&Path]) -> Result<Self> {
        let open = |path: &&Path| {
            let file = fs.append(path).at(path)?;
            Ok((file, fs.entry(path).at(path)?.map_or(0, |entry| entry.len)))
        };
        Ok(Self { name, files: paths.iter().map(open).collect::<Result<_>>()?, torn: false })
    }

    fn written(&self) -> u64 {
        self.files.first().map_or(0, |(_, written)| *written)
    }

    /// Begins the first file with the first `bytes` bytes of an older run's, whole lines only.
    fn continue_from(&mut self, fs: &dyn FileSystem, old: &Path, bytes: u64) -> Result<()> {
        let mut text = durable::read_plain(fs, old, u64::MAX)?;
        text.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        // A disk that lost a part of the file has zeros there, or half a line.
        let is_line = |line: &&[u8]| {
            line.ends_with(b"\n") && serde_json::from_slice::<Map<String, Value>>(line).is_ok()
        };
        let lines: Vec<u8> =
            text.split_inclusive(|b| *b == b'\n').filter(is_line).flatten().copied().collect();
        if let Some((file, written)) = self.files.first_mut() {
            file.append(&lines).at(self.name)?;
            *written += lines.len() as u64;
        }
        Ok(())
    }

    /// Cuts the first file down to so many bytes.
    fn rewind(&mut self, bytes: u64) -> Result<()> {
        if let Some((file, written)) = self.files.first_mut() {
            let bytes = bytes.min(*written);
            file.truncate(bytes).at(self.name)?;
            *written = bytes;
        }
        Ok(())
    }

    fn append(&mut self, line: &str) -> Result<()> {
        let text = format!("{line}\n");
        // Until all files have it the line counts as torn, and what there is of it goes before the next one.
        let torn = std::mem::replace(&mut self.torn, true);
        for (file, written) in &mut self.files {
            if torn {
                file.truncate(*written).at(self.name)?;
            }
            file.append(text.as_bytes()).at(self.name)?;
            *written += text.len() as u64;
        }
        self.torn = false;
        Ok(())
    }
}

impl fmt::Debug for LocalVisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalVisBackend({:?})", self.written())
    }
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

/// Reads the lines of a scalar file back; a torn last line is left out.
///
/// # Errors
/// When the file cannot be read.
pub fn read_scalars(path: &Path) -> Result<Vec<Vec<(String, f64)>>> {
    let text = String::from_utf8_lossy(&std::fs::read(path).at(path)?).into_owned();
    let number = |v: &Value| match v {
        Value::String(s) => s.replace("Infinity", "inf").parse().ok(),
        other => other.as_f64(),
    };
    let line = |line: &str| {
        let map: Map<String, Value> = serde_json::from_str(line).ok()?;
        Some(map.iter().filter_map(|(k, v)| Some((k.clone(), number(v)?))).collect())
    };
    Ok(text.lines().filter_map(line).collect())
}
