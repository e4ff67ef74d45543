//! Kept so that MMEngine's configs run: there is nothing left for it to do.

use crate::plugin::prelude::*;

/// The order of the data is a pure function of seed and epoch here; nobody has to tell the sampler.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DistSamplerSeedHook {}

impl Hook for DistSamplerSeedHook {}

register! {
    /// Accepted for MMEngine's configs: data order is a function of seed and epoch, there is nothing to set.
    dyn Hook, "DistSamplerSeedHook" => DistSamplerSeedHook
}
