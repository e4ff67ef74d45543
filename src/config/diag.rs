//! Complaints: what is wrong, where, and what was probably meant.

use std::fmt;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level as Mark, Patch, Renderer, Snippet};
use serde_json::{Value, json};

use super::source::{Loc, Origin};
use crate::base::Error;
use crate::base::escape::{brief, escaped, escaped_coloured, escaped_lines};
use crate::base::number::count;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The run cannot mean this.
    Error,
    /// The run may not mean this.
    Warning,
}

/// One complaint.
#[derive(Debug, Clone, PartialEq)]
pub struct Diag {
    /// Error or warning.
    pub level: Level,
    /// One sentence, lower case.
    pub message: String,
    /// Where.
    pub at: Option<Loc>,
    /// A few words under the caret.
    pub label: String,
    /// Other places that belong to it.
    pub places: Vec<(Loc, String)>,
    /// More sentences.
    pub notes: Vec<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// The text that the suggestion replaces.
    pub fix: Option<Loc>,
    /// Something is not on this machine that another one may have.
    pub absent: bool,
    /// A file cannot be read: something failed, and no config is to blame.
    pub failure: bool,
}

impl Diag {
    /// An error.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            message: message.into(),
            at: None,
            label: String::new(),
            places: Vec::new(),
            notes: Vec::new(),
            suggestion: None,
            fix: None,
            absent: false,
            failure: false,
        }
    }

    /// A warning.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(message) }
    }

    /// Points at a place.
    #[must_use]
    pub fn at(mut self, at: Loc) -> Self {
        self.at = Some(at);
        self
    }

    /// Points at a value: at its text, and at where it is used if that is elsewhere.
    #[must_use]
    pub fn on(self, node: &super::Node) -> Self {
        self.on_both(&node.at, &node.def)
    }

    /// Points at a key in the same way.
    #[must_use]
    pub fn on_key(self, key: &super::Key) -> Self {
        self.on_both(&key.at, &key.def)
    }

    fn on_both(self, at: &Loc, def: &Loc) -> Self {
        if def.source().origin == Origin::Environment {
            let note = format!("the value comes from the {}", def.source().name);
            return self.at(at.clone()).note(note);
        }
        let diag = self.at(def.clone());
        if at == def { diag } else { diag.place(at.clone(), "used here") }
    }

    /// The words under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn place(mut self, at: Loc, label: impl Into<String>) -> Self {
        self.places.push((at, label.into()));
        self
    }

    /// Adds a sentence.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says what was probably meant.
    #[must_use]
    pub fn suggest(mut self, text: impl Into<String>) -> Self {
        self.suggestion = Some(text.into());
        self
    }

    /// Says what to write in place of what is pointed at.
    #[must_use]
    pub fn fix(mut self, text: impl Into<String>) -> Self {
        self.fix = self.at.clone();
        self.suggest(text)
    }

    /// For editors and scripts: `file`, `line`, `column`, `level`, `message`, `suggestion`.
    pub fn to_json(&self) -> Value {
        let (line, column) = self.at.as_ref().map_or((0, 0), Loc::line_column);
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        json!({
            "file": self.at.as_ref().map(|at| &at.source().name),
            "line": line,
            "column": column,
            "level": level,
            "message": self.message,
            "suggestion": self.suggestion.as_ref().or(self.near()),
        })
    }

    /// Whether it is the same complaint about another place, or another use of the place.
    fn says_what(&self, other: &Self) -> bool {
        let words = |d: &Self| d.level == self.level && d.message == self.message && d.label == self.label;
        let cure = |d: &Self| d.suggestion == self.suggestion && d.notes == self.notes;
        let plain = |d: &Self| d.places.iter().all(|(_, label)| label == AGAIN || label == "used here");
        let together =
            self.at.is_some() && (self.at == other.at || (other.at.is_some() && other.places.is_empty()));
        together && words(other) && cure(other) && plain(self) && plain(other)
    }

    fn near(&self) -> Option<&String> {
        self.at.as_ref()?.source().near.as_ref()
    }

    /// The same without the word that says how grave it is: a log has a word of its own.
    pub fn untitled(&self) -> String {
        let text = self.render(false);
        let title = ["warning: ", "error: "].iter().find_map(|title| text.strip_prefix(title));
        title.map(str::to_owned).unwrap_or(text)
    }

    /// For people: the source line with a caret, notes, and the corrected line.
    pub fn render(&self, color: bool) -> String {
        let mark = match self.level {
            Level::Error => Mark::ERROR,
            Level::Warning => Mark::WARNING,
        };
        let fit = |text: &str| escaped_lines(&brief(text)).into_owned();
        let title = mark.primary_title(fit(&self.message));
        let mut main = Group::with_title(title).elements(self.excerpts());
        main = main.elements(self.notes.iter().map(|note| Mark::NOTE.message(fit(note))));
        if let Some(near) = self.near() {
            let text = format!("the files have no such path; the nearest is `{}`", escaped(&brief(near)));
            main = main.element(Mark::HELP.message(text));
        }
        let mut report = vec![main];
        match (&self.suggestion, &self.fix) {
            (Some(text), Some(at)) => report.push(correction(at, text)),
            (Some(text), None) => {
                let text = format!("did you mean `{}`?", escaped(&brief(text)));
                report.push(Group::with_title(Mark::HELP.secondary_title(text)));
            }
            _ => {}
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        escaped_coloured(&renderer.render(&report)).into_owned()
    }
}

/// Lines further apart than this are shown apart.
const TOGETHER: usize = 60;

impl Diag {
    /// The source lines, those of one file in one piece if they are not far from each other.
    fn excerpts(&self) -> Vec<Snippet<'_, Annotation<'_>>> {
        let first = self.at.iter().map(|at| (at, AnnotationKind::Primary, self.label.as_str()));
        let rest = self.places.iter().map(|(at, label)| (at, AnnotationKind::Context, label.as_str()));
        let mut pieces: Vec<Vec<(&Loc, AnnotationKind, &str)>> = Vec::new();
        for mark in first.chain(rest) {
            let near = |other: &Loc| {
                let lines = other.line_column().0.abs_diff(mark.0.line_column().0);
                let apart = other.range().start.abs_diff(mark.0.range().start);
                other.same_source(mark.0) && lines <= TOGETHER && (lines > 0 || apart <= MARKED)
            };
            match pieces.iter_mut().find(|piece| near(piece[0].0)) {
                Some(piece) => piece.push(mark),
                None => pieces.push(vec![mark]),
            }
        }
        pieces.iter().map(|piece| excerpt(piece)).collect()
    }
}

/// The whole lines from the first to the last of some places in one source.
fn lines<'a>(places: &[&'a Loc]) -> (&'a str, usize, usize) {
    let text = places[0].source().text.as_str();
    let first = places.iter().map(|at| at.range().start).min().unwrap_or_default();
    let last = places.iter().map(|at| at.range().start).max().unwrap_or_default();
    let start = text[..first].rfind('\n').map_or(0, |i| i + 1);
    let end = text[last..].find('\n').map_or(text.len(), |i| last + i);
    (&text[start..end], start, places[0].source().line_column(start).0)
}

/// Bytes of a place that an excerpt marks at most: the renderer shows whatever is marked.
const MARKED: usize = 200;

/// The part of a place that lies in its first line, counted from `start`.
fn within(at: &Loc, start: usize) -> std::ops::Range<usize> {
    let range = at.range();
    let text = at.source().text.as_str();
    let line_end = text[range.start..].find(['\n', '\r']).map_or(text.len(), |i| range.start + i);
    range.start - start..range.end.min(line_end) - start
}

fn excerpt<'a>(places: &[(&'a Loc, AnnotationKind, &'a str)]) -> Snippet<'a, Annotation<'a>> {
    let (text, start, number) = lines(&places.iter().map(|(at, ..)| *at).collect::<Vec<_>>());
    let marks = places.iter().map(|(at, kind, label)| {
        let marked = within(at, start);
        let end = text.floor_char_boundary(marked.end.min(marked.start + MARKED));
        let annotation = kind.span(marked.start..end);
        if label.is_empty() { annotation } else { annotation.label(escaped(label)) }
    });
    let name = escaped(&places[0].0.source().name);
    Snippet::source(text).path(name).line_start(number).annotations(marks)
}

fn correction<'a>(at: &'a Loc, text: &'a str) -> Group<'a> {
    let (line, start, number) = lines(&[at]);
    Group::with_title(Mark::HELP.secondary_title("did you mean this?"))
        .element(Snippet::source(line).line_start(number).patch(Patch::new(within(at, start), text)))
}

/// The label of a further place.
const AGAIN: &str = "and here";

/// Further places that are shown of one mistake; the others are counted.
const PLACES: usize = 8;

/// Complaints of one reading that are kept: all work that a single one makes is done so often at most.
const MOST: usize = 1000;

/// All complaints of one reading.
#[derive(Clone, PartialEq, Default)]
pub struct Diags(pub Vec<Diag>);

impl Diags {
    /// For people. What is wrong in the same way in several places is said once.
    pub fn render(&self, color: bool) -> String {
        let mut told: Vec<(Diag, usize)> = Vec::new();
        for diag in &self.0 {
            match told.iter_mut().find(|(known, _)| known.says_what(diag)) {
                // One line that is used in several places has one more use.
                Some((known, _)) if known.at == diag.at => known.places.extend(diag.places.clone()),
                Some((known, more)) if known.places.len() >= PLACES => {
                    *more += usize::from(diag.at.is_some())
                }
                Some((known, _)) => known.places.extend(diag.at.clone().map(|at| (at, AGAIN.to_owned()))),
                None => told.push((diag.clone(), 0)),
            }
        }
        let whole = |(diag, more): (Diag, usize)| match more {
            0 => diag,
            more => diag.note(format!("and in {}", count(more as u64, "further place"))),
        };
        told.into_iter().map(|told| whole(told).render(color)).collect::<Vec<_>>().join("\n\n")
    }

    /// For editors and scripts: an array.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(Diag::to_json).collect()
    }

    /// Adds complaints that are not there yet. An alias repeats its mistakes wherever it is used: once is enough.
    /// Nobody reads more than `MOST` of them.
    pub fn extend(&mut self, more: impl IntoIterator<Item = Diag>) {
        for diag in more.into_iter().take(MOST.saturating_sub(self.0.len())) {
            if !self.0.iter().any(|known| known.at == diag.at && known.message == diag.message) {
                self.0.push(diag);
            }
        }
    }

    /// Whether there are as many as anybody would read.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.level == Level::Error)
    }
}

impl fmt::Display for Diags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// As displayed, so that an `unwrap` is readable.
impl fmt::Debug for Diags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Diags {}

impl From<Diag> for Diags {
    fn from(diag: Diag) -> Self {
        Self(vec![diag])
    }
}

impl Error {
    /// The complaints that it is made of.
    ///
    /// # Errors
    /// Itself, when it is made of none.
    pub fn diags(self) -> Result<Diags, Self> {
        match self {
            Self::Config(source) => source.downcast().map(|diags| *diags).map_err(Self::Config),
            Self::Other(source) => source.downcast().map(|diags| *diags).map_err(Self::Other),
            other => Err(other),
        }
    }

    /// The same, to look at.
    pub fn as_diags(&self) -> Option<&Diags> {
        match self {
            Self::Config(source) | Self::Other(source) => source.downcast_ref(),
            _ => None,
        }
    }
}

impl From<Diags> for Error {
    /// A mistake of the config, unless all that is wrong are failures of something else.
    fn from(diags: Diags) -> Self {
        let mut errors = diags.0.iter().filter(|diag| diag.level == Level::Error).peekable();
        let failures = errors.peek().is_some() && errors.all(|diag| diag.failure);
        if failures { Self::Other(Box::new(diags)) } else { Self::Config(Box::new(diags)) }
    }
}
