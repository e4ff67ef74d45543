//! What is odd about the columns of a table.

use super::config::CsvConfig;
use super::fit::{ColumnKind, TableFit};
use super::table::Table;
use crate::base::Result;

/// What is odd about the columns that go in where nobody named them: they number or name the rows.
pub(super) fn of(config: &CsvConfig, fit: &TableFit, table: &Table) -> Result<Vec<String>> {
    let mut odd = Vec::new();
    for column in fit.features.iter().chain(&fit.targets).filter(|_| config.features.is_empty()) {
        let (name, at) = (&column.name, table.column(&column.name)?);
        let category = matches!(column.kind, ColumnKind::Category { .. });
        let why = match () {
            () if name.is_empty() || name.starts_with("Unnamed: ") => {
                "has no name, as the index that pandas writes"
            }
            () if !category && table.numbers_rows(at) => "numbers the rows",
            () if category && table.names_rows(at) => "has another text in nearly each row",
            () => continue,
        };
        let (place, shown) =
            (format!("{}:1, column {}", config.file.display(), at + 1), serde_json::json!(name));
        odd.push(match (config.target.contains(name), category) {
            (true, false) => continue,
            (true, true) => format!("{place} ({shown}) is predicted as a class, and {why}: no class can be learnt from one row"),
            (false, _) => format!(
                "{place} ({shown}) goes in, and {why}: `ignore: [{shown}]` leaves it out, `id: {shown}` makes it the name of \
                 the row, and `features` names what goes in all the same"
            ),
        });
    }
    Ok(odd)
}
