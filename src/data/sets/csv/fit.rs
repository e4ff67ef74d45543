//! What is learnt from the training part of a table: which columns are numbers, their mean and deviation, the
//! categories.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::config::{CsvConfig, Encoding, Missing};
use super::table::Table;
use crate::base::{Error, Result};
use crate::data::classes::{agree, shown};
use crate::data::{TARGET, TargetScales};

/// What the training part says of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ColumnFit {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum ColumnKind {
    /// `(x - mean) / std`; `fill` stands in for a missing value.
    Number { mean: f64, std: f64, fill: Option<f64> },
    /// The categories in order.
    Category { values: Vec<String> },
}

/// What the training part says of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TableFit {
    pub(super) features: Vec<ColumnFit>,
    pub(super) targets: Vec<ColumnFit>,
    #[serde(default)]
    standardize_target: bool,
    /// Keys of its config that act through what is fitted.
    #[serde(default)]
    said: BTreeMap<String, String>,
}

/// What a config says under the keys that only the training part, or the checkpoint, decides.
fn said(config: &CsvConfig) -> BTreeMap<String, String> {
    let missing = match config.missing {
        Missing::Error => "error".to_owned(),
        Missing::Mean => "mean".to_owned(),
        Missing::Value(value) => value.to_string(),
    };
    let all = [
        ("standardize", config.standardize.to_string()),
        ("standardize_target", config.standardize_target.to_string()),
        ("missing", missing),
    ];
    all.map(|(key, value)| (key.to_owned(), value)).into()
}

impl TableFit {
    /// What these rows say.
    pub(super) fn of(config: &CsvConfig, table: &Table, rows: &[usize]) -> Result<Self> {
        if config.classes.is_some() && config.target.len() != 1 {
            return Err(no_one_target(config.target.len()));
        }
        let targets =
            config.target.iter().map(|name| target(config, table, name, rows, config.classes.as_deref()));
        let targets: Vec<ColumnFit> = targets.collect::<Result<_>>()?;
        let is_class = |column: &ColumnFit| matches!(column.kind, ColumnKind::Category { .. });
        if config.standardize_target && targets.iter().all(is_class) {
            return Err(Error::config(
                "`standardize_target` is for numbers to predict, and there is none: leave it out",
            ));
        }
        let features = match config.features.is_empty() {
            true => table.header.iter().filter(|name| !config.is_no_feature(name)).cloned().collect(),
            false => config.features.clone(),
        };
        if features.is_empty() {
            return Err(Error::config("`features`: no column is left to be an input"));
        }
        for name in config.categorical.iter().chain(&config.ignore) {
            table.column(name)?;
        }
        if let Some(name) = features.iter().find(|name| config.target.contains(name)) {
            return Err(Error::config(format!(
                "`features` has the column `{name}`, which is what is to be predicted: leave it out"
            )));
        }
        let features = features.iter().map(|name| feature(config, table, name, rows));
        let features = features.collect::<Result<_>>()?;
        let standardize_target = config.standardize_target;
        Ok(Self { features, targets, standardize_target, said: said(config) })
    }

    /// Whether it is that of these columns.
    pub(super) fn check(&self, config: &CsvConfig) -> Result<()> {
        let columns =
            [("target", &self.targets, &config.target.0), ("features", &self.features, &config.features)];
        for (key, fitted, named) in columns {
            let fitted: Vec<&str> = fitted.iter().map(|column| column.name.as_str()).collect();
            if !named.is_empty() && fitted != *named {
                return Err(Error::config(format!(
                    "`{key}` names {}, but the training data, or the checkpoint, {}: all data of a run have the same columns",
                    named.join(", "),
                    fitted.join(", ")
                )));
            }
        }
        for (key, value) in said(config) {
            if let Some(fitted) = self.said.get(&key).filter(|fitted| **fitted != value) {
                return Err(Error::config(format!(
                    "`{key}` is {value}, but {fitted} for the training data, or the checkpoint: all data of a run say the same"
                )));
            }
        }
        let left_out = config.ignore.iter().map(|name| ("ignore", name));
        let left_out = left_out.chain(config.id.iter().map(|name| ("id", name)));
        let goes_in = |name: &String| self.features.iter().any(|column| column.name == *name);
        if let Some((key, name)) =
            left_out.filter(|_| config.features.is_empty()).find(|(_, name)| goes_in(name))
        {
            return Err(Error::config(format!(
                "`{key}` names the column `{name}`, which goes in for the training data, or the checkpoint: all data of a run \
                 have the same columns"
            )));
        }
        match (&self.targets[..], &config.classes) {
            (_, None) => {}
            ([ColumnFit { kind: ColumnKind::Category { values }, .. }], given) => {
                agree(given.as_deref(), values)?
            }
            ([ColumnFit { name, .. }], Some(_)) => {
                return Err(Error::config(format!(
                    "`classes` names the classes of `{name}`, whose values are numbers in the training data, or the \
                     checkpoint: leave it out, or give `classes` to the training data too"
                )));
            }
            (several, Some(_)) => return Err(no_one_target(several.len())),
        }
        let as_number = |name: &&String| {
            let mut all = self.features.iter().chain(&self.targets);
            all.any(|column| column.name == **name && matches!(column.kind, ColumnKind::Number { .. }))
        };
        match config.categorical.iter().find(as_number) {
            Some(name) => Err(Error::config(format!(
                "`categorical` names the column `{name}`, whose values are numbers in the training data, or the checkpoint"
            ))),
            None => Ok(()),
        }
    }

    /// The numbers to predict that are learnt with mean 0 and deviation 1, by their fields.
    pub(super) fn scales(&self) -> TargetScales {
        let scale = |column: &ColumnFit| match column.kind {
            ColumnKind::Number { mean, std, .. } => Some([mean, std]),
            ColumnKind::Category { .. } => None,
        };
        let own = |column: &ColumnFit| Some((column.name.clone(), vec![scale(column)?]));
        let all: Option<Vec<[f64; 2]>> = self.targets.iter().map(scale).collect();
        TargetScales(match all {
            _ if !self.standardize_target => BTreeMap::new(),
            Some(all) => BTreeMap::from([(TARGET.to_owned(), all)]),
            None => self.targets.iter().filter_map(own).collect(),
        })
    }

    /// The columns that go in and those that are predicted, by what they are.
    pub(super) fn summary(&self) -> String {
        let of = |columns: &[ColumnFit]| {
            let numbers = columns.iter().filter(|column| matches!(column.kind, ColumnKind::Number { .. }));
            let numbers: Vec<String> = numbers.map(|column| column.shown()).collect();
            let categories = columns.iter().filter_map(|column| match &column.kind {
                ColumnKind::Category { values } => Some(format!("{} ({})", column.shown(), values.len())),
                ColumnKind::Number { .. } => None,
            });
            let kinds = [("numbers", numbers), ("categories", categories.collect())];
            let kinds = kinds.iter().filter(|(_, names)| !names.is_empty());
            kinds.map(|(kind, names)| format!("{kind} {}", few(names))).collect::<Vec<_>>().join(" and ")
        };
        match self.targets.is_empty() {
            true => format!("from {}", of(&self.features)),
            false => format!("{} from {}", of(&self.targets), of(&self.features)),
        }
    }

    /// Length of the inputs.
    pub(super) fn width(&self, encoding: Encoding) -> usize {
        self.features.iter().map(|column| column.width(encoding)).sum()
    }

    /// Categories that stand in a field of their own.
    pub(super) fn categories(&self) -> impl Iterator<Item = &ColumnFit> {
        self.features.iter().filter(|column| matches!(column.kind, ColumnKind::Category { .. }))
    }
}

impl ColumnFit {
    /// Its name, or what stands for none.
    fn shown(&self) -> String {
        if self.name.is_empty() { "\"\"".to_owned() } else { self.name.clone() }
    }

    fn width(&self, encoding: Encoding) -> usize {
        match (&self.kind, encoding) {
            (ColumnKind::Number { .. }, _) => 1,
            (ColumnKind::Category { values }, Encoding::OneHot) => values.len(),
            (ColumnKind::Category { .. }, Encoding::Integer) => 0,
        }
    }

    /// The number of each category.
    pub(super) fn numbers(&self) -> HashMap<&str, usize> {
        match &self.kind {
            ColumnKind::Category { values } => values.iter().map(String::as_str).zip(0..).collect(),
            ColumnKind::Number { .. } => HashMap::new(),
        }
    }

    /// What is said of a category that the training part has not.
    pub(super) fn unknown(&self, table: &Table, row: usize, at: usize, cure: &str) -> Error {
        let known = match &self.kind {
            ColumnKind::Category { values } => shown(values),
            ColumnKind::Number { .. } => String::new(),
        };
        let text = table.cell(row, at).unwrap_or_default();
        table.wrong(row, at, &format!("the training part has no {text:?} here, but {known}{cure}"))
    }
}

fn no_one_target(targets: usize) -> Error {
    Error::config(format!(
        "`classes` are those of one `target`, and there are {targets}: leave it out, the classes of each are those of the \
         training part"
    ))
}

/// The order of categories and classes: numbers by their value, before text.
pub(super) fn order(a: &str, b: &str) -> std::cmp::Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (Ok(_), Err(_)) => std::cmp::Ordering::Less,
        (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

pub(super) fn missing(table: &Table, row: usize, at: usize) -> Error {
    table.wrong(row, at, "the value is missing: `missing: mean` fills gaps in numbers, and takes a category that is missing for none of those that \
         there are")
}

/// `age, area, rooms`, long lists shortened.
fn few(names: &[String]) -> String {
    const MOST: usize = 12;
    match names.len() {
        n if n > MOST => format!("{}, … ({n} in all)", names[..MOST].join(", ")),
        _ => names.join(", "),
    }
}

/// The class of each row, where it is one that is to be predicted.
pub(super) fn strata(config: &CsvConfig, table: &Table) -> Result<Vec<String>> {
    let [name] = &config.target[..] else {
        return Err(Error::config(
            "`split.stratify` needs one `target`, a class, whose shares all parts are to have",
        ));
    };
    let (at, rows) = (table.column(name)?, Vec::from_iter(0..table.len()));
    let named = config.classes.is_some() || config.categorical.contains(name);
    if !named && is_number(table, &rows, at)? {
        return Err(Error::config(format!(
            "`split.stratify` needs a class, and `{name}` is a number: leave it out, or name the column in `categorical`"
        )));
    }
    Ok(rows.iter().map(|row| table.text(*row, at).to_owned()).collect())
}

fn categories(table: &Table, rows: &[usize], at: usize) -> Vec<String> {
    let mut values: Vec<String> =
        rows.iter().filter_map(|&row| table.cell(row, at)).map(str::to_owned).collect();
    values.sort_unstable_by(|a, b| order(a, b));
    values.dedup();
    values
}

/// Whether a column holds numbers: all of its values are, or none is. One that is neither is most likely a slip.
fn is_number(table: &Table, rows: &[usize], at: usize) -> Result<bool> {
    let cells = || rows.iter().filter_map(|&row| Some((row, table.cell(row, at)?)));
    let wrong: Vec<usize> =
        cells().filter(|(_, text)| text.parse::<f64>().is_err()).map(|(row, _)| row).collect();
    let all = cells().count();
    match wrong.first() {
        None => Ok(all > 0),
        Some(&row) if wrong.len() * 2 < all => {
            let text = table.cell(row, at).unwrap_or_default();
            let what = format!(
                "{text:?} is no number, as most values of the column are: mend it, name the column in `categorical`, or the text \
                 in `missing_values`"
            );
            Err(table.wrong(row, at, &what))
        }
        Some(&row) if cells().all(|(_, text)| text.parse::<f64>().is_ok() || signed(text)) => {
            let text = table.cell(row, at).unwrap_or_default();
            let what = format!(
                "{text:?} is a number for people: write it with a point, and without other signs, or name the column in \
                 `categorical` or `ignore`"
            );
            Err(table.wrong(row, at, &what))
        }
        Some(_) => Ok(false),
    }
}

/// Whether a text is a number but for the signs that people write with it: a decimal comma, what stands between
/// thousands, a currency, a percent sign.
fn signed(text: &str) -> bool {
    const SIGNS: &str = ",'’ \u{a0}\u{202f}%$€£";
    let rest = text.trim_start_matches(|c| "+-$€£ ".contains(c));
    rest.starts_with(|c: char| c.is_ascii_digit())
        && text.contains(|c| SIGNS.contains(c))
        && rest.chars().all(|c| c.is_ascii_digit() || c == '.' || SIGNS.contains(c))
}

fn feature(config: &CsvConfig, table: &Table, name: &str, rows: &[usize]) -> Result<ColumnFit> {
    let at = table.column(name)?;
    let named = config.categorical.iter().any(|own| own == name);
    let kind = match named || !is_number(table, rows, at)? {
        true => ColumnKind::Category { values: categories(table, rows, at) },
        false => number(config.standardize, config.missing, table, rows, at)?,
    };
    if matches!(&kind, ColumnKind::Category { values } if values.is_empty()) {
        return Err(Error::invalid(format!(
            "the column `{name}` has no value in the training part: `ignore: [{}]` leaves it out",
            serde_json::json!(name)
        )));
    }
    Ok(ColumnFit { name: name.to_owned(), kind })
}

fn number(
    standardize: bool,
    missing: Missing,
    table: &Table,
    rows: &[usize],
    at: usize,
) -> Result<ColumnKind> {
    let values = rows.iter().map(|&row| table.number(row, at));
    let values: Vec<f64> = values.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    let fill = match missing {
        Missing::Error => None,
        Missing::Mean => Some(mean),
        Missing::Value(value) => Some(value),
    };
    // A column of one value says nothing: it becomes 0.
    let std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    let (mean, std) = if standardize { (mean, std) } else { (0.0, 1.0) };
    Ok(ColumnKind::Number { mean, std, fill })
}

fn target(
    config: &CsvConfig,
    table: &Table,
    name: &str,
    rows: &[usize],
    given: Option<&[String]>,
) -> Result<ColumnFit> {
    let at = table.column(name)?;
    let named = given.is_some() || config.categorical.iter().any(|own| own == name);
    let kind = match named || !is_number(table, rows, at)? {
        true => {
            let values = given.map_or_else(|| categories(table, rows, at), <[String]>::to_vec);
            if values.is_empty() {
                return Err(Error::invalid(format!(
                    "the column `{name}` has no value in the training part: there is nothing to predict"
                )));
            }
            ColumnKind::Category { values }
        }
        false => number(config.standardize_target, Missing::Error, table, rows, at)?,
    };
    Ok(ColumnFit { name: name.to_owned(), kind })
}
