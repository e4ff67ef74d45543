//! Which way a metric is better: the reference's rule inference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether greater or smaller values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Greater is better.
    Greater,
    /// Smaller is better.
    Less,
}

const GREATER: [&str; 10] = ["acc", "top", "AR@", "auc", "precision", "mAP", "mDice", "mIoU", "mAcc", "aAcc"];
const LESS: [&str; 1] = ["loss"];

impl Rule {
    /// The rule of a metric's name: a known name, else a part of it, `greater` before `less`, in any case.
    ///
    /// ```
    /// use shanty::hook::builtin::Rule;
    /// assert_eq!(Rule::infer("accuracy/top1", None, None), Ok(Rule::Greater));
    /// assert_eq!(Rule::infer("val_loss", None, None), Ok(Rule::Less));
    /// assert!(Rule::infer("fid", None, None).is_err());
    /// ```
    ///
    /// # Errors
    /// A text naming the remedy when no key fits.
    pub fn infer(metric: &str, greater: Option<&[String]>, less: Option<&[String]>) -> Result<Self, String> {
        let lower = |keys: Option<&[String]>, default: &[&str]| -> Vec<String> {
            match keys {
                Some(keys) => keys.iter().map(|k| k.to_lowercase()).collect(),
                None => default.iter().map(|k| k.to_lowercase()).collect(),
            }
        };
        let (greater, less) = (lower(greater, &GREATER), lower(less, &LESS));
        let name = metric.to_lowercase();
        if greater.contains(&name) {
            Ok(Self::Greater)
        } else if less.contains(&name) {
            Ok(Self::Less)
        } else if greater.iter().any(|k| name.contains(k)) {
            Ok(Self::Greater)
        } else if less.iter().any(|k| name.contains(k)) {
            Ok(Self::Less)
        } else {
            Err(format!(
                "whether more or less of `{metric}` is better cannot be told from its name: set `rule`"
            ))
        }
    }

    /// Whether `new` beats `old`. NaN and infinities never win, equal is not better.
    ///
    /// ```
    /// use shanty::hook::builtin::Rule;
    /// assert!(Rule::Greater.beats(0.5, None));
    /// assert!(!Rule::Greater.beats(0.5, Some(0.5)));
    /// assert!(!Rule::Less.beats(f64::NAN, None));
    /// ```
    pub fn beats(self, new: f64, old: Option<f64>) -> bool {
        new.is_finite()
            && old.is_none_or(|old| match self {
                Self::Greater => new > old,
                Self::Less => new < old,
            })
    }
}
