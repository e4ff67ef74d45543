//! From cells to the numbers of samples.

use ndarray::{Array2, s};

use super::config::{CsvConfig, Encoding, Missing, Unknown};
use super::fit::{ColumnFit, ColumnKind, TableFit, missing};
use super::table::Table;
use crate::base::{Error, Result, memory};
use crate::data::{FieldKind, FieldSpec, Fields, Marks, TARGET, Value};

/// The rows of a part as numbers.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) inputs: Array2<f32>,
    /// Numbers of categories, where those are integers.
    pub(super) categories: Option<Array2<i64>>,
    pub(super) targets: Fields<TargetRows>,
}

/// A field to predict.
pub(super) enum TargetRows {
    /// Of each row its class, and the names of the classes.
    Classes(Vec<i64>, Vec<String>),
    /// Numbers, and the names of their columns.
    Numbers(Array2<f32>, Vec<String>),
}

impl TargetRows {
    pub(super) fn spec(&self) -> FieldSpec {
        match self {
            Self::Classes(_, names) => FieldSpec::class().named(names.clone()),
            Self::Numbers(values, names) => {
                FieldSpec::new(FieldKind::Float, &[values.ncols()]).named(names.clone())
            }
        }
    }

    pub(super) fn value(&self, index: usize) -> Value {
        match self {
            Self::Classes(classes, _) => classes[index].into(),
            Self::Numbers(values, _) => values.slice(s![index, ..]).to_owned().into(),
        }
    }
}

impl Rows {
    pub(super) fn mark(&self, marks: &mut super::Marks) {
        let floats = |values: &Array2<f32>, marks: &mut Marks| {
            values.rows().into_iter().for_each(|row| {
                let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
                marks.contents(&bytes);
            });
        };
        let ints = |values: &mut dyn Iterator<Item = &i64>, marks: &mut Marks| {
            let bytes: Vec<u8> = values.flat_map(|v| v.to_le_bytes()).collect();
            marks.contents(&bytes);
        };
        floats(&self.inputs, marks);
        if let Some(categories) = &self.categories {
            ints(&mut categories.iter(), marks);
        }
        for (_, target) in self.targets.iter() {
            match target {
                TargetRows::Classes(classes, _) => ints(&mut classes.iter(), marks),
                TargetRows::Numbers(values, _) => floats(values, marks),
            }
        }
    }
}

/// The rows as the fit says; of rows to be `predicted` no target is looked at.
pub(super) fn encoded(
    config: &CsvConfig,
    fit: &TableFit,
    table: &Table,
    rows: &[usize],
    predicted: bool,
) -> Result<Rows> {
    let width = fit.width(config.encoding);
    memory::fits("the inputs of a table", &[rows.len(), width], size_of::<f32>())?;
    let mut inputs = Array2::zeros((rows.len(), width));
    let integer = config.encoding == Encoding::Integer && fit.categories().next().is_some();
    let mut categories = integer.then(|| Array2::zeros((rows.len(), fit.categories().count())));
    let (mut begin, mut category) = (0, 0);
    for column in &fit.features {
        let at = table.column(&column.name)?;
        match (&column.kind, &mut categories) {
            (ColumnKind::Number { mean, std, fill }, _) => {
                for (to, &row) in inputs.column_mut(begin).iter_mut().zip(rows) {
                    let value = match table.number(row, at)?.or(*fill) {
                        Some(value) => value,
                        None => return Err(missing(table, row, at)),
                    };
                    *to = ((value - mean) / std) as f32;
                }
                begin += 1;
            }
            (ColumnKind::Category { .. }, Some(categories)) => {
                let numbers = numbers(config, column, table, rows, at)?;
                let mut to = categories.column_mut(category);
                to.iter_mut().zip(numbers).for_each(|(to, number)| *to = number.map_or(0, |n| n as i64 + 1));
                category += 1;
            }
            (ColumnKind::Category { values }, None) => {
                for (to, number) in numbers(config, column, table, rows, at)?.into_iter().enumerate() {
                    if let Some(number) = number {
                        inputs[[to, begin + number]] = 1.0;
                    }
                }
                begin += values.len();
            }
        }
    }
    let targets = if predicted { Fields::default() } else { targets(config, fit, table, rows)? };
    Ok(Rows { inputs, categories, targets })
}

/// The category of each row; `None` where it is missing or unknown, and that is allowed.
fn numbers(
    config: &CsvConfig,
    column: &ColumnFit,
    table: &Table,
    rows: &[usize],
    at: usize,
) -> Result<Vec<Option<usize>>> {
    let known = column.numbers();
    let number = |row: usize| match table.cell(row, at) {
        None if config.missing == Missing::Error => Err(missing(table, row, at)),
        None => Ok(None),
        Some(text) => match known.get(text) {
            Some(number) => Ok(Some(*number)),
            None if config.unknown == Unknown::Ignore => Ok(None),
            None => {
                let (name, pass) = (&column.name, "`unknown: ignore` passes over a new category");
                let leave = format!(
                    "`ignore: [{name}]` leaves the column out, `id: {name}` makes it the name of the row"
                );
                let cure = match table.names_rows(at) || dated(text) {
                    true => {
                        format!(": dates, numbers of rows and free text are no categories: {leave}; {pass}")
                    }
                    false => format!(": {pass}; {leave}"),
                };
                Err(column.unknown(table, row, at, &cure))
            }
        },
    };
    rows.iter().map(|&row| number(row)).collect()
}

/// What is to be predicted: one class, numbers, or both, each under its own name. Nothing where the file has no such
/// column.
fn targets(config: &CsvConfig, fit: &TableFit, table: &Table, rows: &[usize]) -> Result<Fields<TargetRows>> {
    let mut fields = Fields::default();
    let absent: Vec<&str> =
        fit.targets.iter().filter(|t| table.position(&t.name).is_none()).map(|t| t.name.as_str()).collect();
    let empty = |column: &ColumnFit| {
        table.position(&column.name).is_some_and(|at| rows.iter().all(|&row| table.cell(row, at).is_none()))
    };
    if !absent.is_empty() || fit.targets.iter().any(empty) {
        // A file to predict: whoever trains on it is told that there is no such field.
        return Ok(fields);
    }
    let numbers: Vec<&ColumnFit> =
        fit.targets.iter().filter(|t| matches!(t.kind, ColumnKind::Number { .. })).collect();
    if numbers.len() == fit.targets.len() && !numbers.is_empty() {
        fields.set(TARGET, numbered(&numbers, table, rows)?);
        return Ok(fields);
    }
    for column in &fit.targets {
        let name = if fit.targets.len() == 1 { TARGET.to_owned() } else { column.name.clone() };
        let target = match &column.kind {
            ColumnKind::Number { .. } => numbered(&[column], table, rows)?,
            ColumnKind::Category { values } => {
                TargetRows::Classes(classes(config, column, table, rows)?, values.clone())
            }
        };
        fields.set(name, target);
    }
    Ok(fields)
}

fn numbered(columns: &[&ColumnFit], table: &Table, rows: &[usize]) -> Result<TargetRows> {
    let mut values = Array2::zeros((rows.len(), columns.len()));
    for (to, column) in columns.iter().enumerate() {
        let at = table.column(&column.name)?;
        for (i, &row) in rows.iter().enumerate() {
            let value = table.number(row, at)?;
            values[[i, to]] = value.ok_or_else(|| no_target(table, row, at))? as f32;
        }
    }
    Ok(TargetRows::Numbers(values, columns.iter().map(|column| column.name.clone()).collect()))
}

fn classes(config: &CsvConfig, column: &ColumnFit, table: &Table, rows: &[usize]) -> Result<Vec<i64>> {
    let (at, known) = (table.column(&column.name)?, column.numbers());
    let cure = match (&config.classes, config.split.as_ref().is_some_and(|split| split.column.is_none())) {
        (Some(_), _) => ": `classes` names them",
        (None, true) => {
            ": `stratify: true` in `split` gives each part its share of each class, and `classes` names them all"
        }
        (None, false) => "",
    };
    let class = |row: usize| match table.cell(row, at) {
        None => Err(no_target(table, row, at)),
        Some(text) => known.get(text).map(|n| *n as i64).ok_or_else(|| column.unknown(table, row, at, cure)),
    };
    rows.iter().map(|&row| class(row)).collect()
}

/// Whether a text is a day or a time: digits in groups.
fn dated(text: &str) -> bool {
    let groups = text.split(|c: char| "-/:. T".contains(c)).filter(|group| !group.is_empty());
    groups.clone().count() > 2
        && groups.into_iter().all(|group| group.trim_end_matches('Z').parse::<u32>().is_ok())
}

fn no_target(table: &Table, row: usize, at: usize) -> Error {
    table.wrong(row, at, "the value to be predicted is missing: take the row out")
}
