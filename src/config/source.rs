//! Where text came from, and places in it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What kind of text a [`Source`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File,
    /// A text that was handed over in memory.
    Text,
    /// An argument of the command line (`a.b=1`).
    Override,
    /// The value of an environment variable.
    Environment,
}

/// A text that values were read from: a file, an override, an environment variable.
#[derive(Debug)]
pub struct Source {
    /// What messages call it: the path as it was given, `command line`, `environment variable LR`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// File, override, …
    pub origin: Origin,
    /// For an override of a path that no file has: the nearest one that there is.
    pub near: Option<String>,
    /// Where its lines begin, once somebody asked.
    lines: OnceLock<Vec<usize>>,
}

impl Source {
    /// A text under a name.
    pub fn new(name: impl Into<String>, text: impl Into<String>, origin: Origin) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into(), origin, near: None, lines: OnceLock::new() })
    }

    /// The same text with a word about what there is near to its path.
    pub(super) fn with_near(&self, near: String) -> Arc<Self> {
        let Self { name, text, origin, .. } = self;
        let (name, text, lines) = (name.clone(), text.clone(), OnceLock::new());
        Arc::new(Self { name, text, origin: *origin, near: Some(near), lines })
    }

    /// Where its lines begin: each of a thousand complaints about a long file is placed without counting them again.
    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.match_indices('\n').map(|(i, _)| i + 1);
            std::iter::once(0).chain(ends).collect()
        })
    }

    /// Line and column (from 1, in characters) of a byte offset.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = floor(&self.text, offset);
        let line = self.lines().partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|line| self.lines().get(line)).copied().unwrap_or_default();
        let column = self.text[start..offset].chars().filter(|&c| c != BOM).count();
        (line, column + 1)
    }

    /// The byte offset of a line and column (from 1, in characters); the end of the text if it is shorter.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.lines().get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let rest = &self.text[start..];
        let skip = usize::from(rest.starts_with(BOM));
        rest.char_indices().nth(column.saturating_sub(1) + skip).map_or(self.text.len(), |(i, _)| start + i)
    }
}

const BOM: char = '\u{feff}';

/// The largest character boundary that is not beyond `offset`.
fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// A range of bytes in a [`Source`].
#[derive(Clone)]
pub struct Loc {
    source: Arc<Source>,
    start: u32,
    end: u32,
}

impl Loc {
    /// A place; offsets beyond the text or inside a character are moved back.
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let start = floor(&source.text, range.start);
        let end = floor(&source.text, range.end.max(start));
        // Files are limited to far less than 4 GiB.
        Self { source: source.clone(), start: start as u32, end: end as u32 }
    }

    /// The whole of a text.
    pub fn whole(source: &Arc<Source>) -> Self {
        Self::new(source, 0..source.text.len())
    }

    /// The text this is a place of.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Bytes of the source.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// What stands there.
    pub fn text(&self) -> &str {
        &self.source.text[self.range()]
    }

    /// Line and column of its first character, from 1.
    pub fn line_column(&self) -> (usize, usize) {
        self.source.line_column(self.start as usize)
    }

    /// What tells it from all other places, to look it up by.
    pub(crate) fn id(&self) -> (usize, u32, u32) {
        (Arc::as_ptr(&self.source).addr(), self.start, self.end)
    }

    /// Whether both are places of one text.
    pub fn same_source(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }
}

impl PartialEq for Loc {
    fn eq(&self, other: &Self) -> bool {
        self.same_source(other) && self.range() == other.range()
    }
}

/// `configs/lenet.yaml:7:3`; of an override, the argument itself.
impl fmt::Display for Loc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.origin {
            Origin::File | Origin::Text => {
                let (line, column) = self.line_column();
                write!(f, "{}:{line}:{column}", self.source.name)
            }
            Origin::Override => write!(f, "{} `{}`", self.source.name, self.source.text),
            Origin::Environment => f.write_str(&self.source.name),
        }
    }
}

impl fmt::Debug for Loc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_go_both_ways() {
        let s = Source::new("t", "\u{feff}é: ü\r\n  b: 1", Origin::Text);
        let b = s.text.find('b').unwrap();
        assert_eq!(s.line_column(b), (2, 3));
        assert_eq!(s.offset(2, 3), b);
        let u = s.text.find('ü').unwrap();
        assert_eq!(s.line_column(u), (1, 4));
        assert_eq!(s.offset(1, 4), u);
        assert_eq!(s.offset(9, 9), s.text.len());
    }
}
