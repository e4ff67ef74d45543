//! `vis_data/scalars.json`: one JSON object a line.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

use crate::base::durable;
use crate::base::error::{IoContext, Result};
use crate::base::fs::{Append, FileSystem};

/// Names and values of one line, in order.
pub type Scalars<'a> = &'a [(&'a str, f64)];

/// Appends lines to the scalar files of a run. A number that is not finite is written as the string `"NaN"`,
/// `"Infinity"` or `"-Infinity"`, so that each line is strict JSON.
#[derive(Default)]
pub struct LocalVisBackend {
    /// Each with its bytes in whole lines; `scalars.json` first.
    files: Vec<(Box<dyn Append>, u64)>,
    /// The disk took a part of a line.
    torn: bool,
}

impl LocalVisBackend {
    /// A backend that writes the same lines to all of these files.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn to_files(fs: &dyn FileSystem, paths: &[&Path]) -> Result<Self> {
        let open = |path: &&Path| {
            let file = fs.append(path).at(path)?;
            Ok((file, fs.entry(path).at(path)?.map_or(0, |entry| entry.len)))
        };
        Ok(Self { files: paths.iter().map(open).collect::<Result<_>>()?, torn: false })
    }

    /// Bytes of `scalars.json` so far: a checkpoint keeps the number.
    pub fn written(&self) -> u64 {
        self.files.first().map_or(0, |(_, written)| *written)
    }

    /// Begins `scalars.json` with the first `bytes` bytes of an older run's, whole lines only.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn continue_from(&mut self, fs: &dyn FileSystem, old: &Path, bytes: u64) -> Result<()> {
        let mut text = durable::read_plain(fs, old, u64::MAX)?;
        text.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        // A disk that lost a part of the file has zeros there, or half a line.
        let is_line = |line: &&[u8]| {
            line.ends_with(b"\n") && serde_json::from_slice::<Map<String, Value>>(line).is_ok()
        };
        let lines: Vec<u8> =
            text.split_inclusive(|b| *b == b'\n').filter(is_line).flatten().copied().collect();
        if let Some((file, written)) = self.files.first_mut() {
            file.append(&lines).at("scalars.json")?;
            *written += lines.len() as u64;
        }
        Ok(())
    }

    /// Forgets the lines after the first `bytes` bytes: they will be written again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn rewind(&mut self, bytes: u64) -> Result<()> {
        if let Some((file, written)) = self.files.first_mut() {
            let bytes = bytes.min(*written);
            file.truncate(bytes).at("scalars.json")?;
            *written = bytes;
        }
        Ok(())
    }

    /// Appends one line: the scalars, then `step`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add_scalars(&mut self, scalars: Scalars<'_>, step: u64) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let mut line: Map<String, Value> =
            scalars.iter().map(|(k, v)| ((*k).to_owned(), to_json(*v))).collect();
        line.entry("step").or_insert_with(|| step.into());
        let text = format!("{}\n", Value::Object(line));
        // Until all files have it the line counts as torn, and what there is of it goes before the next one.
        let torn = std::mem::replace(&mut self.torn, true);
        for (file, written) in &mut self.files {
            if torn {
                file.truncate(*written).at("scalars.json")?;
            }
            file.append(text.as_bytes()).at("scalars.json")?;
            *written += text.len() as u64;
        }
        self.torn = false;
        Ok(())
    }
}

impl fmt::Debug for LocalVisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalVisBackend({} bytes)", self.written())
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
