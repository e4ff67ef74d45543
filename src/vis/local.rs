//! `vis_data/scalars.json` and `vis_data/tables.json`: one JSON object a line, as MMEngine writes them.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::{number, to_json};
use super::{EVENTS, GrowingFile, VisBackend, VisCx, VisEvent, WORST_SAMPLES};
use crate::base::Error;
use crate::base::error::{IoContext, Result};
use crate::register;
use crate::registry::BuildCx;

/// The scalars.
pub const SCALARS: &str = "scalars.json";
/// One table a line.
pub const TABLES: &str = "tables.json";

/// Appends a line to `scalars.json` for each event with scalars, and to `tables.json` for each table. A number that is
/// not finite is written as the string `"NaN"`, `"Infinity"` or `"-Infinity"`, so that each line is strict JSON.
#[derive(Default)]
pub struct LocalVisBackend {
    config: LocalVisConfig,
    scalars: Option<GrowingFile>,
    tables: Option<GrowingFile>,
}

/// Parameters of [`LocalVisBackend`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LocalVisConfig {
    /// The name of the scalars' file in `vis_data`; it ends in `.json`.
    pub scalar_save_file: String,
}

impl Default for LocalVisConfig {
    fn default() -> Self {
        Self { scalar_save_file: SCALARS.to_owned() }
    }
}

impl LocalVisBackend {
    fn from_config(config: LocalVisConfig, _: &mut BuildCx) -> Result<Self> {
        let name = &config.scalar_save_file;
        let is_plain =
            Path::new(name).file_name() == Some(name.as_ref()) && !name.contains(['/', '\\', '\0']);
        let others =
            [TABLES, EVENTS, WORST_SAMPLES, "config.yaml", "places.json", "train.csv", "val.csv", "test.csv"];
        let free = !others.contains(&name.as_str()) && name.len() <= 200;
        if !is_plain || !free || !name.ends_with(".json") || name.starts_with('.') {
            return Err(Error::config(format!(
                "`scalar_save_file` is the name of a file in `vis_data` that ends in `.json` and is no other one's: \
                 `{name}` is not"
            )));
        }
        Ok(Self { config, scalars: None, tables: None })
    }

    fn scalars<'a>(&'a mut self, cx: &VisCx<'_>) -> Result<&'a mut GrowingFile> {
        opened(&mut self.scalars, cx, &self.config.scalar_save_file)
    }
}

/// The file, which is begun if it is not open yet.
pub(super) fn opened<'a>(
    file: &'a mut Option<GrowingFile>,
    cx: &VisCx<'_>,
    name: &str,
) -> Result<&'a mut GrowingFile> {
    Ok(match file {
        Some(file) => file,
        None => file.insert(GrowingFile::begin(cx.fs, &cx.dir.join(name))?),
    })
}

/// The line of an event with scalars: they, then where the run stands.
fn line(event: &VisEvent) -> String {
    let mut line: Map<String, Value> =
        event.scalars().map(|(name, value)| (name.to_owned(), to_json(value))).collect();
    let stands: &[&str] = if event.kind() == "train" { &["epoch", "iter"] } else { &[] };
    for key in stands.iter().filter_map(|key| Some((*key, event.get(key)?))) {
        line.insert(key.0.to_owned(), key.1.clone());
    }
    line.entry("step").or_insert_with(|| event.step().into());
    Value::Object(line).to_string() + "\n"
}

impl VisBackend for LocalVisBackend {
    fn add(&mut self, event: &VisEvent, cx: &VisCx<'_>) -> Result<()> {
        match event.kind() {
            // A run that has logged nothing yet has a file that says so.
            "run" => self.scalars(cx).map(drop),
            "table" => {
                let line: Map<String, Value> =
                    event.fields().map(|(key, value)| (key.clone(), value.clone())).collect();
                let line = Value::Object(line).to_string() + "\n";
                opened(&mut self.tables, cx, TABLES)?.append(line.as_bytes())
            }
            "train" | "val" | "scalars" => self.scalars(cx)?.append(line(event).as_bytes()),
            _ => Ok(()),
        }
    }

    fn restart(&mut self) -> Result<()> {
        self.scalars.iter_mut().chain(&mut self.tables).try_for_each(|file| file.truncate(0))
    }

    fn files(&self) -> Vec<String> {
        vec![self.config.scalar_save_file.clone(), TABLES.to_owned()]
    }
}

register! {
    /// `scalars.json` and `tables.json` in `vis_data` of the log folder, one JSON object a line.
    dyn VisBackend, "LocalVisBackend" => fn LocalVisBackend::from_config
}

/// Reads the lines of a scalar file back; a torn last line is left out.
///
/// # Errors
/// When the file cannot be read.
pub fn read_scalars(path: &Path) -> Result<Vec<Vec<(String, f64)>>> {
    let text = String::from_utf8_lossy(&std::fs::read(path).at(path)?).into_owned();
    let line = |line: &str| {
        let map: Map<String, Value> = serde_json::from_str(line).ok()?;
        Some(map.iter().filter_map(|(k, v)| Some((k.clone(), number(v)?))).collect())
    };
    Ok(text.lines().filter_map(line).collect())
}
