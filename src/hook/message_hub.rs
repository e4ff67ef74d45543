//! The message hub that all hooks share: scalars with their recent history (MMEngine's MessageHub).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::model::Late;

/// Values kept of each scalar; older ones only count in the totals.
const KEPT: usize = 1000;

/// Which loop a scalar belongs to: the first part of its name in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Mode {
    Train,
    Val,
    Test,
}

impl Mode {
    /// `train`, `val`, `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// The recent values of one scalar. A value that is not finite is among the recent ones, and counted, but not added to
/// the sum: one NaN does not spoil the mean of the run for good.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    recent: VecDeque<f64>,
    /// Of the finite values.
    sum: f64,
    count: u64,
    #[serde(default)]
    nonfinite: u64,
}

impl History {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(value);
        self.count = self.count.saturating_add(1);
        if value.is_finite() {
            self.sum += value;
        } else {
            self.nonfinite += 1;
        }
    }

    /// The last value.
    pub fn current(&self) -> Option<f64> {
        self.recent.back().copied()
    }

    /// Mean of the last `window` values, or of all that there are.
    pub fn mean(&self, window: usize) -> Option<f64> {
        let n = window.min(self.recent.len());
        (n > 0).then(|| self.recent.iter().rev().take(n).sum::<f64>() / n as f64)
    }

    /// Mean over the whole run, of the values that are finite; `None` if there is none.
    pub fn global_mean(&self) -> Option<f64> {
        let finite = self.count.saturating_sub(self.nonfinite);
        (finite > 0).then(|| self.sum / finite as f64)
    }

    /// Largest of the last `window` values.
    pub fn max(&self, window: usize) -> Option<f64> {
        self.recent.iter().rev().take(window).copied().reduce(f64::max)
    }

    /// Smallest of the last `window` values.
    pub fn min(&self, window: usize) -> Option<f64> {
        self.recent.iter().rev().take(window).copied().reduce(f64::min)
    }

    /// Number of values ever added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last value that is not finite, and how many values came after it; `None` if all that are kept are finite.
    pub fn last_nonfinite(&self) -> Option<(f64, usize)> {
        let from_the_end = self.recent.iter().rev().enumerate();
        from_the_end.map(|(ago, value)| (*value, ago)).find(|(value, _)| !value.is_finite())
    }

    /// How many of them were NaN or infinite.
    pub fn nonfinite(&self) -> u64 {
        self.nonfinite
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scalar {
    mode: Mode,
    name: String,
    history: History,
}

/// Scalars with history, and single numbers (`runtime_info`).
///
/// ```
/// use shanty::hook::{MessageHub, Mode};
/// let mut message_hub = MessageHub::default();
/// message_hub.update_scalar(Mode::Train, "loss", -3.0);
/// message_hub.update_scalar(Mode::Train, "loss", -2.0);
/// assert_eq!(message_hub.scalar(Mode::Train, "loss").unwrap().max(10), Some(-2.0));
/// assert_eq!(message_hub.scalar(Mode::Val, "loss"), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MessageHub {
    scalars: Vec<Scalar>,
    runtime_info: BTreeMap<String, f64>,
    /// Numbers that belong to the end of their histories, in this order, once they are known.
    #[serde(skip)]
    owed: Vec<(Mode, Late)>,
}

impl MessageHub {
    /// Adds a value to a scalar, which the log shows and `scalars.json` keeps. Allocates only the first time it sees
    /// the name.
    pub fn update_scalar(&mut self, mode: Mode, name: &str, value: f64) {
        if let Some(history) = self.history(mode, name) {
            history.push(value);
        }
    }

    fn history(&mut self, mode: Mode, name: &str) -> Option<&mut History> {
        let at = self.scalars.iter().position(|s| s.mode == mode && s.name == name).unwrap_or_else(|| {
            let history = History { recent: VecDeque::with_capacity(KEPT), ..History::default() };
            self.scalars.push(Scalar { mode, name: name.to_owned(), history });
            self.scalars.len() - 1
        });
        self.scalars.get_mut(at).map(|scalar| &mut scalar.history)
    }

    /// The same for numbers that a device is still at work on: they are added when [`settle`](Self::settle) is called,
    /// which the run does before it calls a hook that reads numbers.
    pub fn update_later(&mut self, mode: Mode, numbers: Late) {
        // The order of the log is that of first appearance.
        for name in numbers.names() {
            self.history(mode, name);
        }
        self.owed.push((mode, numbers));
    }

    /// How many [`update_later`](Self::update_later) have not been settled.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Waits for all numbers that are late, and adds them.
    ///
    /// # Errors
    /// What the device says; the numbers after it are lost too.
    pub fn settle(&mut self) -> Result<()> {
        for (mode, late) in std::mem::take(&mut self.owed) {
            for (name, value) in late.numbers()? {
                self.update_scalar(mode, &name, value);
            }
        }
        Ok(())
    }

    /// The history of a scalar.
    pub fn scalar(&self, mode: Mode, name: &str) -> Option<&History> {
        self.scalars.iter().find(|s| s.mode == mode && s.name == name).map(|s| &s.history)
    }

    /// All scalars of a mode in the order of their first value.
    pub fn scalars(&self, mode: Mode) -> impl Iterator<Item = (&str, &History)> {
        self.scalars.iter().filter(move |s| s.mode == mode).map(|s| (s.name.as_str(), &s.history))
    }

    /// Sets a number without history, such as `eta` (seconds), for other hooks to read. Neither the log nor
    /// `scalars.json` has it: what people should see is a scalar.
    pub fn update_info(&mut self, name: &str, value: f64) {
        match self.runtime_info.get_mut(name) {
            Some(slot) => *slot = value,
            None => {
                self.runtime_info.insert(name.to_owned(), value);
            }
        }
    }

    /// A number that `update_info` has set.
    pub fn get_info(&self, name: &str) -> Option<f64> {
        self.runtime_info.get(name).copied()
    }
}
