//! The lines of a text file, each with its place.

use std::path::{Path, PathBuf};

use super::Level;
use super::config::TextConfig;
use crate::base::{Error, Result, text};

/// A text file whose lines may have columns.
pub(super) struct Lines {
    file: PathBuf,
    text: String,
    /// Where each line that is not empty begins and ends, and its number in the file; of windows all lines.
    places: Vec<(usize, usize, usize)>,
    columns: Option<Columns>,
}

struct Columns {
    text: usize,
    label: usize,
    delimiter: char,
    /// Whether the file is to be predicted: classes may be missing in it.
    predicted: bool,
}

/// A line.
pub(super) struct Line<'t> {
    file: &'t Path,
    number: usize,
    pub(super) text: &'t str,
    pub(super) label: Option<&'t str>,
    /// Whether a line end stands behind it: the last line of a file need not have one.
    ended: bool,
}

impl Lines {
    pub(super) fn read(config: &TextConfig, predicted: bool) -> Result<Self> {
        let text = text::read(&config.file)?;
        let columns = config.label_column.map(|label| Columns {
            text: config.text_column,
            label,
            delimiter: char::from(config.delimiter.byte()),
            predicted,
        });
        let mut begin = 0;
        let mut places = Vec::new();
        for (number, line) in text.split_terminator('\n').enumerate() {
            let end = begin + line.len();
            if columns.is_none() || !line.trim().is_empty() {
                places.push((begin, end, number + 1));
            }
            begin = end + 1;
        }
        if places.is_empty() {
            return Err(Error::invalid(format!("{}: there is no line in it", config.file.display())));
        }
        Ok(Self { file: config.file.clone(), text, places, columns })
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// These lines, which are there.
    pub(super) fn at<'t>(&'t self, chosen: &'t [usize]) -> impl Iterator<Item = Result<Line<'t>>> {
        chosen.iter().map(|&at| {
            let (begin, end, number) = self.places[at];
            self.line((begin, end), number)
        })
    }

    /// The class of each line.
    pub(super) fn strata(&self) -> Result<Vec<&str>> {
        let line = |&(begin, end, number): &(usize, usize, usize)| {
            Ok(self.line((begin, end), number)?.label.unwrap_or_default())
        };
        self.places.iter().map(line).collect()
    }

    fn line(&self, (begin, end): (usize, usize), number: usize) -> Result<Line<'_>> {
        let (text, ended) = (&self.text[begin..end], end < self.text.len());
        let whole = Line { file: &self.file, number, text, label: None, ended };
        let Some(columns) = &self.columns else { return Ok(whole) };
        let all: Vec<&str> = text.split(columns.delimiter).collect();
        if columns.predicted && all.len() == 1 {
            return Ok(whole);
        }
        let column = |at: usize, what: &str| {
            all.get(at).map(|cell| cell.trim()).ok_or_else(|| {
                whole.wrong(&format!(
                    "the {what} should stand in column {at}, counted from 0, but there are {}",
                    all.len()
                ))
            })
        };
        Ok(Line {
            text: column(columns.text, "text")?,
            label: Some(column(columns.label, "class")?),
            ..whole
        })
    }
}

impl Line<'_> {
    /// Its number in the file, from 0.
    pub(super) fn row(&self) -> usize {
        self.number.saturating_sub(1)
    }

    /// Its tokens. The end of a line of a running text is one of its own where tokens are characters.
    pub(super) fn tokens(&self, config: &TextConfig) -> Box<dyn Iterator<Item = String> + '_> {
        let lower = config.lowercase;
        let cased = move |token: &str| if lower { token.to_lowercase() } else { token.to_owned() };
        match config.level {
            Level::Word => Box::new(self.text.split_whitespace().map(cased)),
            Level::Char => {
                let end = (config.label_column.is_none() && self.ended).then_some('\n');
                Box::new(self.text.chars().chain(end).map(move |c| cased(c.encode_utf8(&mut [0; 4]))))
            }
        }
    }

    /// What is wrong with it, with its place.
    pub(super) fn wrong(&self, what: &str) -> Error {
        Error::invalid(format!("{}:{}: {what}", self.file.display(), self.number))
    }
}
