//! `shanty val` and `shanty test`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::group::{self, LauncherArg};
use super::output::{self, Output};
use super::{Bare, ConfigArgs, console};
use crate::base::escape::{escaped, escaped_lines};
use crate::base::number::fixed;
use crate::base::{Error, Result};
use crate::metric::Table;
use crate::run::{Runner, quoted};
use crate::vis::to_json;

/// Rows and columns of a table that a terminal shows.
const SHOWN: usize = 30;

/// As `vis_data/tables.json` has it.
fn as_json(table: &Table) -> Value {
    let rows = table.values().rows().into_iter();
    let values: Vec<Value> = rows.map(|row| row.iter().map(|value| to_json(*value)).collect()).collect();
    json!({"axes": table.axes(), "rows": table.rows(), "columns": table.columns(), "values": values})
}

/// Arguments of `val` and `test`.
#[derive(Debug, Clone, Args)]
pub(super) struct Evaluate {
    #[command(flatten)]
    config: ConfigArgs,
    /// The checkpoint: a directory of ours, a name in the work_dir, `latest` or `best`, a work_dir, or a file of
    /// weights.
    checkpoint: PathBuf,
    /// Write the metrics to this JSON file too.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compute batch norms, sums and activations with the convolution or linear map before them: fewer walks over
    /// memory, and equal but for rounding.
    #[arg(long)]
    fused: bool,
    #[command(flatten)]
    pub launcher: LauncherArg,
    #[command(flatten)]
    bare: Bare,
}

impl Evaluate {
    pub fn run(self, test: bool) -> Result<()> {
        refuse_swapped(&self.config.config, &self.checkpoint, if test { "test" } else { "val" })?;
        let mut config = self.config.with(&self.bare);
        let path = quoted(&self.checkpoint)?;
        // What the config itself names as its weights is read by others.
        let given = config.resolve()?;
        config.set.extend([format!("load_from={path}"), "resume=false".into()]);
        let node = config.resolve()?;
        let spared = |out| output::spare_inputs(out, &given).and_then(|()| output::spare_inputs(out, &node));
        self.out.iter().try_for_each(|out| spared(out))?;
        let out = self.out.as_deref().map(Output::at).transpose()?;
        let mut runner = Runner::to_evaluate_among(&node, Some(&config.name()), group::comm())?;
        if self.fused {
            runner.fuse()?;
        }
        let metrics = if test { runner.test()? } else { runner.val()? };
        if group::speaks() { tell(&metrics.0, metrics.tables(), out) } else { Ok(()) }
    }
}

/// Says the values of an evaluation and its tables, and writes them where that is wanted.
pub(super) fn tell(values: &[(String, f64)], tables: &[(String, Table)], out: Option<Output>) -> Result<()> {
    let text: Vec<_> = values.iter().map(|(name, value)| format!("{name}: {}", fixed(*value, 4))).collect();
    console::say(&text.join("\n"));
    for (name, table) in tables {
        console::say(&format!("{name}:\n{}", escaped_lines(&table.text(SHOWN))));
    }
    if let Some(out) = out {
        let values = values.iter().map(|(name, value)| (name.clone(), to_json(*value)));
        let tables = tables.iter().map(|(name, table)| (name.clone(), as_json(table)));
        let map: serde_json::Map<_, _> = values.chain(tables).collect();
        out.write(Value::Object(map).to_string().as_bytes())?;
    }
    Ok(())
}

/// The config comes first, whatever a person remembers.
pub(super) fn refuse_swapped(first: &Path, second: &Path, command: &str) -> Result<()> {
    let ending = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_config = |path: &Path| matches!(ending(path).as_str(), "yaml" | "yml") && !path.is_dir();
    if !is_config(second) || is_config(first) {
        return Ok(());
    }
    let [first, second] = [first, second].map(|path| escaped(&path.to_string_lossy()).into_owned());
    Err(Error::config(format!(
        "config and checkpoint are swapped: the config comes first, `shanty {command} {second} {first}`"
    )))
}
