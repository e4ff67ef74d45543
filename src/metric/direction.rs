//! Which way a metric is better.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::meant;

/// Whether greater or smaller values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Greater is better.
    Greater,
    /// Smaller is better.
    Less,
}

/// Which way the values of an evaluation are better, by their full names: what hooks are checked against when a run is
/// built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directions {
    pub(super) known: BTreeMap<String, Direction>,
    /// The names of all values, where they are known.
    pub(super) names: Vec<String>,
}

impl Directions {
    /// The same, with a value that is known beside the metrics.
    #[must_use]
    pub fn with(mut self, name: &str, direction: Direction) -> Self {
        self.known.insert(name.to_owned(), direction);
        self
    }

    /// The values whose metrics say it, by name.
    pub fn known(&self) -> &BTreeMap<String, Direction> {
        &self.known
    }

    /// The direction of this value, where its metric says it.
    pub fn get(&self, name: &str) -> Option<Direction> {
        self.known.get(name).copied()
    }

    /// What is wrong with a name whose direction is not known: that there is no such value, or else `unknown`.
    pub fn meant(&self, name: &str, unknown: String) -> String {
        let is = |own: &String| own == name || own.strip_suffix('*').is_some_and(|own| name.starts_with(own));
        if self.names.is_empty() || self.names.iter().any(is) {
            return unknown;
        }
        match meant(name, self.names.iter().chain(self.known.keys()).map(String::as_str)) {
            Some(near) => format!("the validation gives no `{name}`: did you mean `{near}`?"),
            None => format!("the validation gives no `{name}`: it gives {}", self.names.join(", ")),
        }
    }
}

/// MMEngine's words, and some more of the field's.
const GREATER: [&str; 14] = [
    "acc",
    "top",
    "AR@",
    "auc",
    "precision",
    "recall",
    "f1",
    "kappa",
    "dice",
    "mAP",
    "mDice",
    "mIoU",
    "mAcc",
    "aAcc",
];
const LESS: [&str; 3] = ["loss", "error", "perplexity"];

impl Direction {
    /// The direction of a metric that does not say it itself, from its name: a name that is one of the words, else one
    /// that has a word in it, in any case.
    ///
    /// ```
    /// use shanty::metric::Direction;
    /// assert_eq!(Direction::infer("accuracy/top1", None, None), Ok(Direction::Greater));
    /// assert_eq!(Direction::infer("val_loss", None, None), Ok(Direction::Less));
    /// assert!(Direction::infer("fid", None, None).is_err());
    /// assert!(Direction::infer("top5_error", None, None).unwrap_err().contains("`top` and `error`"));
    /// ```
    ///
    /// # Errors
    /// A text naming the remedy when no word fits, or words of both kinds do.
    pub fn infer(metric: &str, greater: Option<&[String]>, less: Option<&[String]>) -> Result<Self, String> {
        let lower = |words: Option<&[String]>, usual: &[&str]| -> Vec<String> {
            match words {
                Some(words) => words.iter().map(|word| word.to_lowercase()).collect(),
                None => usual.iter().map(|word| word.to_lowercase()).collect(),
            }
        };
        let (greater, less) = (lower(greater, &GREATER), lower(less, &LESS));
        let name = metric.to_lowercase();
        let within = |words: &[String]| words.iter().find(|word| name.contains(*word)).cloned();
        match (greater.contains(&name), less.contains(&name)) {
            (true, false) => return Ok(Self::Greater),
            (false, true) => return Ok(Self::Less),
            _ => {}
        }
        match (within(&greater), within(&less)) {
            (Some(_), None) => Ok(Self::Greater),
            (None, Some(_)) => Ok(Self::Less),
            (Some(more), Some(less)) => Err(format!(
                "`{metric}` has words of both kinds in its name, `{more}` and `{less}`: set `rule` to `greater` or `less`"
            )),
            (None, None) => Err(format!(
                "whether more or less of `{metric}` is better cannot be told from its name: set `rule`"
            )),
        }
    }

    /// Whether `new` beats `old`. NaN and infinities never win, equal is not better.
    ///
    /// ```
    /// use shanty::metric::Direction;
    /// assert!(Direction::Greater.beats(0.5, None));
    /// assert!(!Direction::Greater.beats(0.5, Some(0.5)));
    /// assert!(!Direction::Less.beats(f64::NAN, None));
    /// ```
    pub fn beats(self, new: f64, old: Option<f64>) -> bool {
        new.is_finite()
            && old.is_none_or(|old| match self {
                Self::Greater => new > old,
                Self::Less => new < old,
            })
    }
}
