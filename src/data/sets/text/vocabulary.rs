//! What is learnt from the training part of a text: its tokens and its classes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::Level;
use super::config::TextConfig;
use super::lines::{Line, Lines};
use crate::base::{Error, Result};
use crate::data::Unknown;
use crate::data::classes::{agree, shown};

/// The token that fills up.
pub(super) const PAD: u32 = 0;
/// The token of what is not known.
const UNKNOWN: u32 = 1;

/// The tokens that are known, from the number 2 on, and the classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Vocabulary {
    level: Level,
    lowercase: bool,
    pub(super) tokens: Vec<String>,
    pub(super) classes: Vec<String>,
    /// Keys of its config that act through what is learnt.
    #[serde(default)]
    said: BTreeMap<String, String>,
}

/// What a config says under the keys that only the training part, or the checkpoint, decides.
fn said(config: &TextConfig) -> BTreeMap<String, String> {
    let most = config.max_tokens.map_or("not given".to_owned(), |most| most.to_string());
    [("min_count".to_owned(), config.min_count.to_string()), ("max_tokens".to_owned(), most)].into()
}

impl Vocabulary {
    /// That of these lines: the most frequent tokens first, those of one frequency in their own order.
    pub(super) fn of(config: &TextConfig, lines: &Lines, chosen: &[usize]) -> Result<Self> {
        let (mut counts, mut classes) = (HashMap::<String, usize>::new(), BTreeSet::new());
        for line in lines.at(chosen) {
            let line = line?;
            line.tokens(config).for_each(|token| *counts.entry(token).or_default() += 1);
            classes.extend(line.label.map(str::to_owned));
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        if let Some((token, count)) = counts.first().filter(|(_, count)| *count < config.min_count) {
            return Err(Error::config(format!(
                "`min_count` {} leaves no token: {token:?}, the most frequent one, comes {count} times in the training part",
                config.min_count
            )));
        }
        counts.retain(|(_, count)| *count >= config.min_count);
        counts.truncate(config.max_tokens.unwrap_or(usize::MAX));
        Ok(Self {
            level: config.level,
            lowercase: config.lowercase,
            tokens: counts.into_iter().map(|(token, _)| token).collect(),
            classes: config.classes.clone().unwrap_or_else(|| classes.into_iter().collect()),
            said: said(config),
        })
    }

    /// Whether texts of this config are read by it.
    pub(super) fn check(&self, config: &TextConfig) -> Result<()> {
        if (self.level, self.lowercase) != (config.level, config.lowercase) {
            return Err(Error::config(
                "`level` or `lowercase` is another than that of the training data, or of the checkpoint: all data of a run have the same",
            ));
        }
        for (key, value) in said(config) {
            if let Some(known) = self.said.get(&key).filter(|known| **known != value) {
                return Err(Error::config(format!(
                    "`{key}` is {value}, but {known} for the training data, or the checkpoint: all data of a run say the same"
                )));
            }
        }
        agree(config.classes.as_deref(), &self.classes)
    }

    /// How many tokens there are, with the two for filling up and for what is not known.
    pub(super) fn len(&self) -> usize {
        self.tokens.len() + 2
    }

    /// Finds the numbers of tokens and classes.
    pub(super) fn reader(&self) -> Reader<'_> {
        let tokens = self.tokens.iter().map(String::as_str).zip(2..).collect();
        let classes = self.classes.iter().map(String::as_str).zip(0..).collect();
        Reader { vocabulary: self, tokens, classes }
    }
}

/// A vocabulary the other way round.
pub(super) struct Reader<'v> {
    vocabulary: &'v Vocabulary,
    tokens: HashMap<&'v str, u32>,
    classes: HashMap<&'v str, i64>,
}

impl Reader<'_> {
    /// The numbers of a line's tokens, behind those that are there.
    pub(super) fn read(&self, config: &TextConfig, line: &Line<'_>, ids: &mut Vec<u32>) -> Result<()> {
        for token in line.tokens(config) {
            ids.push(match self.tokens.get(token.as_str()) {
                Some(id) => *id,
                None if config.unknown == Unknown::Ignore => UNKNOWN,
                None => {
                    return Err(line.wrong(&format!(
                        "the training part has no {token:?}: `unknown: ignore` makes it the token {UNKNOWN}"
                    )));
                }
            });
        }
        Ok(())
    }

    /// The number of a line's class.
    pub(super) fn class(&self, line: &Line<'_>, label: &str) -> Result<i64> {
        self.classes.get(label).copied().ok_or_else(|| {
            let known = shown(&self.vocabulary.classes);
            line.wrong(&format!("the class {label:?} is none of {known}"))
        })
    }
}
