//! `{type: TextLines, …}` of a config.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::data::sets::{Delimiter, Part, Split, Unknown};
use crate::data::{Encoding, Transform};
use crate::registry::Spec;

/// How a text becomes samples.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TextConfig {
    /// The file, UTF-8.
    pub file: PathBuf,
    /// What a token is: char, or word (what stands between spaces).
    #[serde(default)]
    pub level: Level,
    /// Whether upper and lower case are one.
    #[serde(default)]
    pub lowercase: bool,
    /// Tokens of a sample. Needed for windows; lines are cut or filled up to it with the token 0, and stay as long as
    /// they are if it is not given (`pad_collate` makes batches of them).
    #[serde(default)]
    #[schemars(range(min = 1, max = 1048576))]
    pub length: Option<usize>,
    /// Tokens from the beginning of a window to that of the next one; `length` if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1048576))]
    pub stride: Option<usize>,
    /// The column of the class, counted from 0: each line is a sample then. If not given the samples are windows of
    /// the text, and `target` holds for each token the one behind it.
    #[serde(default)]
    pub label_column: Option<usize>,
    /// The column of the text, counted from 0, where there is one of the class.
    #[serde(default)]
    pub text_column: usize,
    /// What parts the columns of a line.
    #[serde(default = "tab")]
    pub delimiter: Delimiter,
    /// Names of the classes in the order of their numbers; those of the training part, sorted, if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub classes: Option<Vec<String>>,
    /// How often the training part must have a token that is to be known.
    #[serde(default = "once")]
    #[schemars(range(min = 1))]
    pub min_count: usize,
    /// How many tokens are to be known at most: the most frequent ones.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<usize>,
    /// What becomes of a token that is not known: ignore (it becomes the token 1), or error.
    #[serde(default = "ignore")]
    pub unknown: Unknown,
    /// How tokens go in: integer, a number each; one_hot, a row of zeros and a one for each.
    #[serde(default = "integer")]
    pub encoding: Encoding,
    /// Which lines are for what: shares, chosen by a seed. For windows take a file for each part.
    #[serde(default)]
    pub split: Option<Split>,
    /// Which of the parts: train, val, test or all. Needed where there is a `split`.
    #[serde(default)]
    pub part: Option<Part>,
    /// What is done to each sample.
    #[serde(default)]
    pub pipeline: Vec<Spec<dyn Transform>>,
}

fn tab() -> Delimiter {
    Delimiter::Tab
}

fn once() -> usize {
    1
}

fn ignore() -> Unknown {
    Unknown::Ignore
}

fn integer() -> Encoding {
    Encoding::Integer
}

impl TextConfig {
    /// Windows of so many characters of a file.
    pub fn new(file: impl Into<PathBuf>, length: usize) -> Self {
        Self {
            file: file.into(),
            level: Level::default(),
            lowercase: false,
            length: Some(length),
            stride: None,
            label_column: None,
            text_column: 0,
            delimiter: tab(),
            classes: None,
            min_count: once(),
            max_tokens: None,
            unknown: ignore(),
            encoding: integer(),
            split: None,
            part: None,
            pipeline: Vec::new(),
        }
    }
}

/// What a token is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A character.
    #[default]
    Char,
    /// What stands between spaces.
    Word,
}
