//! The cells of a CSV file, each with its place.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::base::suggest::nearest;
use crate::base::{Error, Result, text};

/// From how many rows on a column is said to number them.
const ROWS: usize = 10;

/// A file of comma-separated values whose first line names the columns.
pub(super) struct Table {
    file: PathBuf,
    pub(super) header: Vec<String>,
    /// The number of each column, by its name.
    positions: HashMap<String, usize>,
    rows: Vec<csv::StringRecord>,
    /// What stands for a missing value.
    missing: Vec<String>,
}

impl Table {
    /// Reads the file. Every line has as many values as the first.
    pub(super) fn read(file: &Path, delimiter: u8, missing: &[String]) -> Result<Self> {
        let text = text::read(file)?;
        let mut reader = csv::ReaderBuilder::new();
        let reader =
            reader.delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut rows = Vec::new();
        let mut header: Option<Vec<String>> = None;
        for record in reader.into_records() {
            let record = record.map_err(|e| Error::invalid(format!("{}: {e}", file.display())))?;
            match &header {
                None => {
                    let names: Vec<String> = record.iter().map(|name| name.trim().to_owned()).collect();
                    parted(file, &names, char::from(delimiter))?;
                    header = Some(names);
                }
                // A line of nothing is no row.
                Some(_) if record.len() == 1 && record[0].trim().is_empty() => {}
                Some(header) if record.len() != header.len() => {
                    let (line, n, wanted) = (line_of(&record), record.len(), header.len());
                    let hint = match () {
                        () if record.iter().any(|cell| cell.contains('\n')) => {
                            ": a quotation mark is opened there, and not closed on its line"
                        }
                        () if n > wanted && rows.is_empty() => {
                            ": what stands above the names of the columns is in their way"
                        }
                        () => "",
                    };
                    return Err(Error::invalid(format!(
                        "{}:{line}: {n} values where the first line names {wanted} columns{hint}",
                        file.display()
                    )));
                }
                Some(_) => rows.push(record),
            }
        }
        let header = header.unwrap_or_default();
        let mut seen = HashSet::new();
        if let Some(twice) = header.iter().position(|name| !seen.insert(name)) {
            return Err(Error::invalid(format!(
                "{}:1: two columns are called {:?}",
                file.display(),
                header[twice]
            )));
        }
        if rows.is_empty() {
            return Err(Error::invalid(format!("{}: no row below the names of the columns", file.display())));
        }
        let positions = header.iter().cloned().zip(0..).collect();
        Ok(Self { file: file.to_owned(), header, positions, rows, missing: missing.to_vec() })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of the column of this name, if there is one.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// The number of the column of this name.
    pub(super) fn column(&self, name: &str) -> Result<usize> {
        self.position(name).ok_or_else(|| {
            let hint = nearest(name, self.header.iter().map(String::as_str));
            let hint = hint.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let known = self.header.join(", ");
            let hint = match self.header.iter().any(|name| name.parse::<f64>().is_ok()) && hint.is_empty() {
                true => ": the first line should name the columns, and looks like a row".to_owned(),
                false => hint,
            };
            Error::invalid(format!(
                "{}:1: there is no column `{name}`: there are {known}{hint}",
                self.file.display()
            ))
        })
    }

    /// What stands in a cell.
    pub(super) fn text(&self, row: usize, column: usize) -> &str {
        self.rows.get(row).and_then(|row| row.get(column)).map_or("", str::trim)
    }

    /// A cell, `None` where its value is missing.
    pub(super) fn cell(&self, row: usize, column: usize) -> Option<&str> {
        let text = self.text(row, column);
        (!self.missing.iter().any(|missing| missing == text)).then_some(text)
    }

    /// Whether a column of text has another value in nearly each of its rows, as names, dates and free text have.
    pub(super) fn names_rows(&self, column: usize) -> bool {
        let values: HashSet<&str> = (0..self.len()).filter_map(|row| self.cell(row, column)).collect();
        self.len() >= ROWS && values.len() * 10 > self.len() * 9
    }

    /// Whether a column numbers the rows: whole numbers without a gap, each once, in whatever order.
    pub(super) fn numbers_rows(&self, column: usize) -> bool {
        let number = |row: usize| self.text(row, column).parse::<i64>().ok();
        let Some(mut numbers) = (0..self.len()).map(number).collect::<Option<Vec<i64>>>() else {
            return false;
        };
        numbers.sort_unstable();
        self.len() >= ROWS && numbers.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]))
    }

    /// A cell as a number, `None` where its value is missing.
    pub(super) fn number(&self, row: usize, column: usize) -> Result<Option<f64>> {
        let Some(text) = self.cell(row, column) else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && (value as f32).is_finite() => Ok(Some(value)),
            Ok(_) => Err(self.wrong(row, column, &format!("{text:?} is no finite number of 32 bits"))),
            Err(_) => Err(self.wrong(row, column, &format!("{text:?} is no number"))),
        }
    }

    /// What is wrong with a cell, with its place.
    pub(super) fn wrong(&self, row: usize, column: usize, what: &str) -> Error {
        let line = self.rows.get(row).map_or(0, line_of);
        let name = self.header.get(column).map_or("", String::as_str);
        Error::invalid(format!("{}:{line}, column {} (`{name}`): {what}", self.file.display(), column + 1))
    }
}

/// Whether the sign parts the first line, if there is one that would.
fn parted(file: &Path, names: &[String], delimiter: char) -> Result<()> {
    let [whole] = names else { return Ok(()) };
    let Some(sign) = [';', '\t', '|', ','].into_iter().find(|sign| whole.contains(*sign)) else {
        return Ok(());
    };
    let (given, looks, file) = (shown_sign(delimiter), shown_sign(sign), file.display());
    let cure =
        if sign == ',' { "leave it out".to_owned() } else { format!("give `delimiter: {}`", quoted(sign)) };
    Err(Error::invalid(match delimiter {
        ',' => format!("{file}:1: the first line is one name, and looks parted by {looks:?}: {cure}"),
        _ => format!(
            "`delimiter: {given}` parts nothing in the first line of {file}, which looks parted by {looks:?}: {cure}"
        ),
    }))
}

/// A sign as a config gives it.
fn quoted(sign: char) -> String {
    if sign == '\t' { "tab".to_owned() } else { format!("'{sign}'") }
}

/// A sign as a config writes it.
fn shown_sign(sign: char) -> String {
    if sign == '\t' { "tab".to_owned() } else { sign.to_string() }
}

fn line_of(record: &csv::StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}
