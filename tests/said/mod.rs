//! What `check` says of a config, for tests to look at.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // each test takes what it needs

use std::fs;
use std::path::Path;

use shanty::base::Error;
use shanty::config::{Diags, Level, load_all};
use shanty::run::check;

pub const WIDE: &str = include_str!("../fixtures/wide.yaml");

/// What `check` says of a config in `dir`: whether it refuses it, and of each complaint the level, the text with its
/// notes and its cure, and what it points at.
pub struct Said {
    pub refused: bool,
    pub all: Vec<(Level, String, String)>,
}

impl Said {
    /// Of the text `text`, in the folder `dir`.
    pub fn of(text: &str, dir: &Path) -> Self {
        let path = dir.join("c.yaml");
        fs::write(&path, text).unwrap();
        let work = format!("work_dir={}", dir.join("work").display());
        let checked =
            load_all(&[&path], &[work]).map_err(Error::from).and_then(|loaded| check(&loaded.node, None));
        let (refused, diags) = match checked {
            Ok(diags) => (false, diags),
            Err(error) => (true, error.diags().unwrap_or_else(|error| panic!("no place: {error}"))),
        };
        Self { refused, all: texts(&diags) }
    }

    /// Whether one complaint of this level has these words and points at this text.
    pub fn has(&self, level: Level, words: &str, at: &str) {
        let found =
            self.all.iter().any(|(own, text, place)| *own == level && text.contains(words) && place == at);
        assert!(found && self.refused == (level == Level::Error), "{words:?} at {at:?}: {:#?}", self.all);
    }
}

pub fn texts(diags: &Diags) -> Vec<(Level, String, String)> {
    let fix =
        |d: &shanty::config::Diag| d.suggestion.iter().map(|fix| format!("\nfix: {fix}")).collect::<String>();
    let text = |d: &shanty::config::Diag| format!("{}\n{}{}", d.message, d.notes.join("\n"), fix(d));
    let place = |d: &shanty::config::Diag| d.at.as_ref().map_or("", |at| at.text()).to_owned();
    diags.0.iter().map(|d| (d.level, text(d), place(d))).collect()
}

/// The fixture with a text replaced.
pub fn wide(from: &str, to: &str) -> Said {
    assert!(WIDE.contains(from), "{from}");
    Said::of(&WIDE.replacen(from, to, 1), tempfile::tempdir().unwrap().path())
}
