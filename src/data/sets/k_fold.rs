//! One fold of a set, or all the others.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Subset;
use crate::base::{Error, Result, keyed, memory, rng::permutation};
use crate::data::{Dataset, Unread};
use crate::registry::{BuildCx, Spec};

/// Parts of almost equal size, each of which validates once: `fold` validates here, the others train.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct KFoldConfig {
    /// The whole set.
    dataset: Spec<dyn Dataset>,
    /// The fold that validates, from 0.
    #[serde(default)]
    fold: usize,
    /// How many folds there are.
    #[serde(default = "five")]
    #[schemars(range(min = 2))]
    num_splits: usize,
    /// Whether these are the samples of the fold, to validate with; else all others, to learn from.
    #[serde(default)]
    test_mode: bool,
    /// Seed of the order in which samples are dealt to folds; in their own order if not given.
    #[serde(default)]
    seed: Option<u64>,
}

fn five() -> usize {
    5
}

crate::register! {
    /// Cross-validation: of `num_splits` folds of a set all but the one numbered `fold`, or with `test_mode` that one.
    ///
    /// ```yaml
    /// {type: KFoldDataset, dataset: {type: Digits}, fold: 0, num_splits: 5, seed: 0}
    /// ```
    dyn Dataset, "KFoldDataset" => fn k_fold
}

fn k_fold(p: KFoldConfig, cx: &mut BuildCx) -> Result<Subset> {
    let (fold, folds) = (p.fold, p.num_splits);
    if fold >= folds {
        return Err(Error::config(format!(
            "`fold` is {fold}, but the last of {folds} folds is {}",
            folds - 1
        )));
    }
    let set = p.dataset.build(cx)?;
    if Unread::is_enough(cx) {
        return Subset::new(set, Vec::new());
    }
    let n = set.len();
    memory::lists("the order of the samples", n, size_of::<usize>())?;
    let mut order = match p.seed {
        Some(seed) => permutation(n, &mut keyed(seed, "k-fold", 0, 0)),
        None => (0..n).collect(),
    };
    // What is dealt out in 128 bits cannot overflow.
    let start = |fold: usize| (n as u128 * fold as u128 / folds as u128) as usize;
    let own: Vec<usize> = order.drain(start(fold)..start(fold + 1)).collect();
    let (chosen, what) = if p.test_mode { (own, "fold") } else { (order, "rest") };
    match chosen.is_empty() {
        true => {
            Err(Error::config(format!("the {what} of {n} samples in {folds} folds is empty: take fewer")))
        }
        false => Subset::new(set, chosen),
    }
}
