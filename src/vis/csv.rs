//! `train.csv`, `val.csv` and `test.csv`: a row for each event with scalars.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{GrowingFile, VisBackend, VisCx, VisEvent};
use crate::base::error::Result;
use crate::base::{Error, durable};
use crate::register;

/// The columns before those of the scalars.
const FIRST: [&str; 4] = ["step", "epoch", "iter", "wall_time"];

/// Appends a row for each event with scalars, to a file for each mode. A scalar that appears later is a column at the
/// end, which earlier rows leave empty.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CsvVisBackend {
    #[serde(skip)]
    tables: BTreeMap<String, Table>,
}

struct Table {
    file: GrowingFile,
    columns: Vec<String>,
    /// Bytes of the first line.
    header: u64,
}

impl Table {
    fn begin(mode: &str, cx: &VisCx<'_>) -> Result<Self> {
        let file = GrowingFile::begin(cx.fs, &cx.dir.join(format!("{mode}.csv")))?;
        Ok(Self { file, columns: Vec::new(), header: 0 })
    }

    /// Writes the header anew, with these columns at its end; rows that are there get empty fields, and stay as they are
    /// where the disk has no room for that.
    fn widen(&mut self, new: Vec<String>, cx: &VisCx<'_>) -> Result<()> {
        let mut columns = self.columns.clone();
        columns.extend(new.iter().cloned());
        let mut text = record(FIRST.iter().copied().chain(columns.iter().map(String::as_str)))?;
        let header = text.len() as u64;
        if self.file.written() > 0 {
            let mut rows = durable::read_plain(cx.fs, self.file.path(), u64::MAX)?;
            rows.truncate(usize::try_from(self.file.written()).unwrap_or(usize::MAX));
            let rows = rows.split_off(usize::try_from(self.header).unwrap_or(usize::MAX).min(rows.len()));
            for row in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
                text.extend_from_slice(row);
                text.extend(new.iter().map(|_| b','));
                text.push(b'\n');
            }
            self.file = GrowingFile::replace(cx.fs, self.file.path(), &text)?;
        } else {
            self.file.append(&text)?;
        }
        (self.columns, self.header) = (columns, header);
        Ok(())
    }

    fn add(&mut self, event: &VisEvent, cx: &VisCx<'_>) -> Result<()> {
        let scalars: Vec<_> = event.scalars().collect();
        let is_new = |name: &&str| !self.columns.iter().any(|column| column == name);
        let new: Vec<_> = scalars.iter().map(|(name, _)| *name).filter(is_new).map(str::to_owned).collect();
        if !new.is_empty() || self.header == 0 {
            self.widen(new, cx)?;
        }
        let plain = |key: &&str| match event.get(key) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let of = |column: &String| {
            scalars
                .iter()
                .find(|(name, _)| name == column)
                .map_or(String::new(), |(_, value)| value.to_string())
        };
        let row: Vec<String> = FIRST.iter().map(plain).chain(self.columns.iter().map(of)).collect();
        self.file.append(&record(row.iter().map(String::as_str))?)
    }
}

/// A line of CSV, with quotes where they are needed.
fn record<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(fields).map_err(|why| Error::Other(why.into()))?;
    writer.into_inner().map_err(|why| Error::Other(why.to_string().into()))
}

impl VisBackend for CsvVisBackend {
    fn add(&mut self, event: &VisEvent, cx: &VisCx<'_>) -> Result<()> {
        if !event.has_scalars() {
            return Ok(());
        }
        let mode = event.kind();
        if !self.tables.contains_key(mode) {
            self.tables.insert(mode.to_owned(), Table::begin(mode, cx)?);
        }
        self.tables.get_mut(mode).map_or(Ok(()), |table| table.add(event, cx))
    }

    fn restart(&mut self) -> Result<()> {
        for (_, mut table) in std::mem::take(&mut self.tables) {
            table.file.truncate(0)?;
        }
        Ok(())
    }

    fn files(&self) -> Vec<String> {
        ["train", "val", "test", "scalars"].map(|mode| format!("{mode}.csv")).to_vec()
    }
}

register! {
    /// `train.csv`, `val.csv` and `test.csv` in `vis_data` of the log folder: a row a line of the log.
    dyn VisBackend, "CsvVisBackend" => CsvVisBackend
}
