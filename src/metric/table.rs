//! What is no single number: a table with names for its rows and columns.

use ndarray::Array2;

use crate::base::escape::escaped;
use crate::base::number::fixed;
use crate::base::{Error, Result};

/// Numbers in rows and columns, as a metric counts them: which class is taken for which.
///
/// ```
/// use shanty::metric::Table;
/// let table = Table::of_classes(ndarray::arr2(&[[8.0, 2.0], [1.0, 9.0]])).named(&["cat".into(), "dog".into()]);
/// assert_eq!(table.to_string(), "     cat  dog\ncat    8    2\ndog    1    9");
/// let table = table.of_axes("truth", "guess");
/// assert_eq!(table.to_string(), "truth \\ guess  cat  dog\ncat              8    2\ndog              1    9");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    rows: Vec<String>,
    columns: Vec<String>,
    values: Array2<f64>,
    of_classes: bool,
    axes: Option<[String; 2]>,
}

impl Table {
    /// These values with a name for each row and column.
    ///
    /// # Errors
    /// When there are not as many names as rows or columns.
    pub fn new(rows: Vec<String>, columns: Vec<String>, values: Array2<f64>) -> Result<Self> {
        if (rows.len(), columns.len()) != values.dim() {
            return Err(Error::invalid(format!(
                "a table of {} × {} numbers has {} names for its rows and {} for its columns",
                values.nrows(),
                values.ncols(),
                rows.len(),
                columns.len()
            )));
        }
        Ok(Self { rows, columns, values, of_classes: false, axes: None })
    }

    /// A row and a column for each class. They are called by the names that the data have for the classes of the
    /// metric's target, and by their numbers where there are none.
    pub fn of_classes(values: Array2<f64>) -> Self {
        let [rows, columns] =
            [values.nrows(), values.ncols()].map(|n| (0..n).map(|i| i.to_string()).collect());
        Self { rows, columns, values, of_classes: true, axes: None }
    }

    /// The same with these names of the classes, if it is [of classes](Self::of_classes) and they are as many.
    #[must_use]
    pub fn named(mut self, classes: &[String]) -> Self {
        if self.of_classes && self.values.dim() == (classes.len(), classes.len()) {
            (self.rows, self.columns) = (classes.to_vec(), classes.to_vec());
        }
        self
    }

    /// The same where this is what the rows are, and that what the columns are.
    #[must_use]
    pub fn of_axes(self, rows: &str, columns: &str) -> Self {
        Self { axes: Some([rows.to_owned(), columns.to_owned()]), ..self }
    }

    /// What the rows are and what the columns are, where it says so.
    pub fn axes(&self) -> Option<&[String; 2]> {
        self.axes.as_ref()
    }

    /// Names of the rows.
    pub fn rows(&self) -> &[String] {
        &self.rows
    }

    /// Names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The numbers.
    pub fn values(&self) -> &Array2<f64> {
        &self.values
    }

    /// The rows and columns that are shown where there is room for `most` of each, and how many are left out. Each name
    /// stands on one line, of a long one the beginning.
    pub fn text(&self, most: usize) -> String {
        let (rows, columns) = (self.rows.len().min(most), self.columns.len().min(most));
        let cell = |value: f64| if value.fract() == 0.0 { format!("{value}") } else { fixed(value, 4) };
        let names = self.rows.iter().take(rows).map(String::as_str);
        let corner = self.axes.as_ref().map(|axes| axes.join(" \\ ")).unwrap_or_default();
        let mut lines: Vec<Vec<String>> =
            std::iter::once(&*corner).chain(names).map(|name| vec![told(name)]).collect();
        for (at, name) in self.columns.iter().enumerate().take(columns) {
            let cells =
                self.values.column(at).iter().take(rows).map(|value| cell(*value)).collect::<Vec<_>>();
            lines.iter_mut().zip(std::iter::once(told(name)).chain(cells)).for_each(|(l, c)| l.push(c));
        }
        let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=columns).map(width).collect();
        let aligned = |line: &Vec<String>| {
            let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        let mut text = lines.iter().map(aligned).collect::<Vec<_>>().join("\n");
        if (rows, columns) != self.values.dim() {
            let (all, across) = self.values.dim();
            text += &format!("\n(the first {rows} × {columns} of {all} × {across})");
        }
        text
    }
}

/// A name, fit for its column.
fn told(name: &str) -> String {
    const LONGEST: usize = 40;
    let name = escaped(name);
    match name.char_indices().nth(LONGEST) {
        Some(_) => name.chars().take(LONGEST - 1).chain(['…']).collect(),
        None => name.into_owned(),
    }
}

/// All of it, a line a row.
impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, arr2};

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_large_table_is_shortened_and_says_so() {
        let table = Table::of_classes(Array2::from_shape_fn((30, 40), |(i, j)| (10 * i + j) as f64));
        assert_eq!(table.text(2), "    0   1\n0   0   1\n1  10  11\n(the first 2 × 2 of 30 × 40)");
    }

    /// A class is called as its folder is, and a folder may be called anything.
    #[test]
    fn odd_names_stay_in_their_column() {
        let names = vec!["a\nb\u{1b}".to_owned(), "x".repeat(60)];
        let table = Table::of_classes(Array2::zeros((2, 2))).named(&names);
        let text = table.to_string();
        let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [40 + 2 + 14 + 2 + 40; 3], "{text}");
        assert!(
            text.contains("a\\u000ab\\u001b") && text.contains(&format!("{}…", "x".repeat(39))),
            "{text}"
        );
    }

    #[test]
    fn names_belong_to_rows_and_columns() {
        let values = arr2(&[[0.25, 1.0]]);
        let text = Table::new(names("a"), names("b"), values.clone()).unwrap_err().to_string();
        assert_eq!(text, "a table of 1 × 2 numbers has 1 names for its rows and 1 for its columns");
        let table = Table::new(names("a"), names("b c"), values).unwrap();
        assert_eq!(table.clone().named(&names("x y")), table, "only classes have the names of classes");
        assert_eq!(table.to_string(), "        b  c\na  0.2500  1");
    }

    #[test]
    fn classes_without_names_are_numbers() {
        let table = Table::of_classes(arr2(&[[1.0, 0.0], [0.0, 2.0]]));
        assert_eq!(table.clone().named(&names("one")).rows(), ["0", "1"]);
        assert_eq!(table.named(&names("no yes")).columns(), ["no", "yes"]);
    }
}
