//! A set in which samples of rare classes come several times.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Subset;
use crate::base::Result;
use crate::data::sampler::repeat_factors;
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
    let factors = repeat_factors(set, threshold)?.into_iter().enumerate();
    Ok(factors.flat_map(|(index, factor)| std::iter::repeat_n(index, factor.ceil() as usize)).collect())
}
