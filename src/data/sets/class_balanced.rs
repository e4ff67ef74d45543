//! A set in which samples of rare classes come several times.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Subset;
use crate::base::{Error, Result, memory};
use crate::data::class_counts::categories;
use crate::data::{Dataset, Unread};
use crate::registry::{BuildCx, Spec};

/// How often samples come by the rarest class that they have (Gupta, Dollár and Girshick 2019, LVIS).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ClassBalancedConfig {
    /// The set whose rare classes are repeated.
    dataset: Spec<dyn Dataset>,
    /// The share t of samples, from 0 to 1, below which a class is rare: one of a share f comes ceil(sqrt(t / f))
    /// times.
    #[schemars(range(min = 0.0))]
    oversample_thr: f64,
    /// Accepted for MMEngine's configs: a set is read when a run needs it.
    #[serde(default)]
    #[allow(dead_code)]
    lazy_init: bool,
}

crate::register! {
    /// A set in which each sample comes ceil(max(1, sqrt(t / f))) times, for the share f of its rarest class.
    ///
    /// ```yaml
    /// {type: ClassBalancedDataset, dataset: {type: Digits}, oversample_thr: 0.2}
    /// ```
    dyn Dataset, "ClassBalancedDataset" => fn class_balanced
}

fn class_balanced(p: ClassBalancedConfig, cx: &mut BuildCx) -> Result<Subset> {
    let set = p.dataset.build(cx)?;
    if Unread::is_enough(cx) {
        return Subset::new(set, Vec::new());
    }
    let repeated = repeated(&*set, p.oversample_thr)?;
    Subset::new(set, repeated)
}

/// Each position as often as its sample comes.
fn repeated(set: &dyn Dataset, threshold: f64) -> Result<Vec<usize>> {
    let n = set.len();
    memory::lists("the classes of all samples", n, size_of::<Vec<usize>>())?;
    let of_each: Vec<Vec<usize>> = (0..n).map(|index| categories(set, index)).collect::<Result<_>>()?;
    let mut counts = BTreeMap::<usize, usize>::new();
    of_each.iter().flatten().for_each(|class| *counts.entry(*class).or_default() += 1);
    let times = |class: &usize| {
        let share = counts.get(class).copied().unwrap_or(n) as f64 / n as f64;
        (threshold / share).sqrt().max(1.0)
    };
    let times: Vec<f64> =
        of_each.iter().map(|classes| classes.iter().map(times).fold(1.0, f64::max).ceil()).collect();
    let all: f64 = times.iter().sum();
    if all > f64::from(u32::MAX) {
        return Err(Error::config(format!(
            "`oversample_thr` {threshold} makes {all:.0} samples of {n}: take less"
        )));
    }
    Ok(times
        .iter()
        .enumerate()
        .flat_map(|(index, times)| std::iter::repeat_n(index, *times as usize))
        .collect())
}
