//! The mean of two samples.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BatchAugment, Mixed, Stack};
use crate::base::{Elem, Result, Rng, beta};
use crate::register;

/// Each sample becomes `λ` of itself and `1 - λ` of another one, its target likewise, with one λ of Beta(α, α) a batch
/// (Zhang et al. 2017).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Mixup {
    /// α: below 1 one of the two prevails, above it they are alike.
    #[schemars(range(min = 1e-3, max = 1e6))]
    pub alpha: f64,
}

register! { /// Mixes each sample of a batch with another one, in a ratio drawn of Beta(alpha, alpha).
dyn BatchAugment, "Mixup" => Mixup }

impl Mixup {
    /// With ratios of Beta(`alpha`, `alpha`).
    pub fn new(alpha: f64) -> Self {
        Self { alpha }
    }
}

/// `share` of each sample and the rest of its partner.
pub(super) fn blend(batch: Stack<'_>, how: &Mixed, mixed: &mut [Elem]) {
    let share = how.share as Elem;
    let samples = mixed.chunks_exact_mut(batch.size().max(1));
    for ((i, mixed), partner) in samples.enumerate().zip(&how.partners) {
        let pairs = batch.sample(i).iter().zip(batch.sample(*partner));
        mixed.iter_mut().zip(pairs).for_each(|(to, (own, other))| *to = share * own + (1.0 - share) * other);
    }
}

impl BatchAugment for Mixup {
    fn mix(&self, batch: Stack<'_>, mixed: &mut [Elem], rng: &mut Rng) -> Result<Mixed> {
        let share = beta(self.alpha, self.alpha, rng);
        let how = Mixed { share, ..Mixed::drawn(batch.len(), rng) };
        blend(batch, &how, mixed);
        Ok(how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch: 0.7 * x + 0.3 * x[[1, 0]]
    #[test]
    fn samples_are_blended_with_their_partners() {
        let values = [1.0, 2.0, 11.0, 12.0];
        let mut mixed = [0.0; 4];
        let how = Mixed { share: 0.7, partners: vec![1, 0] };
        blend(Stack { values: &values, shape: &[2, 2] }, &how, &mut mixed);
        for (ours, theirs) in mixed.iter().zip([4.0, 5.0, 8.0, 9.0]) {
            assert!((ours - theirs).abs() < 1e-5, "{mixed:?}");
        }
    }
}
