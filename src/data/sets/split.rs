//! Shares of a data set to train, validate and test with.

use super::{Part, Split};
use crate::base::{Error, Result, keyed, rng::permutation};

impl Split {
    /// The positions of a part among `all`, ascending.
    ///
    /// # Errors
    /// When the shares are more than all.
    pub(super) fn shares(&self, all: usize, part: Part) -> Result<Vec<usize>> {
        if self.val + self.test > 1.0 {
            return Err(Error::config(format!(
                "`split`: the shares {} and {} are more than all",
                self.val, self.test
            )));
        }
        let count = |share: f64| (share * all as f64).round() as usize;
        let val = count(self.val).min(all);
        let test = count(self.test).min(all - val);
        let order = permutation(all, &mut keyed(self.seed, "split", 0, 0));
        let mut chosen = match part {
            Part::All => order,
            Part::Val => order[..val].to_vec(),
            Part::Test => order[val..val + test].to_vec(),
            Part::Train => order[val + test..].to_vec(),
        };
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// The positions of a part of something that has no columns.
    ///
    /// # Errors
    /// When a part is asked for and nothing says which; a column; a part of nothing.
    pub(super) fn of(split: Option<&Self>, all: usize, part: Part) -> Result<Vec<usize>> {
        let chosen = match (split, part) {
            (_, Part::All) => (0..all).collect(),
            (None, part) => {
                return Err(Error::config(format!(
                    "`part` asks for {part:?}, but there is no `split` that says which samples"
                )));
            }
            (Some(split), _) if split.column.is_some() => {
                return Err(Error::config("`split.column` is for tables: give shares, `val` and `test`"));
            }
            (Some(split), part) => split.shares(all, part)?,
        };
        match chosen.is_empty() {
            true => {
                Err(Error::invalid(format!("the part {part:?} of {all} samples is empty: look at `split`")))
            }
            false => Ok(chosen),
        }
    }
}
