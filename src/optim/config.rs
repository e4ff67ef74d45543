//! `optim_wrapper:` of a config.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{ClipGrad, OptimWrapper, Optimizer};
use crate::base::Result;
use crate::registry::{BuildCx, Spec};

/// The only wrapper type there is so far.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum WrapperType {
    /// Plain precision.
    #[default]
    OptimWrapper,
}

/// `optim_wrapper:` of a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct OptimWrapperConfig {
    /// `OptimWrapper`.
    #[serde(default)]
    pub r#type: WrapperType,
    /// The optimizer.
    pub optimizer: Spec<dyn Optimizer>,
    /// Batches whose gradients are added before each update.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub accumulative_counts: u64,
    /// Limits gradients before each update.
    #[serde(default, deserialize_with = "checked")]
    pub clip_grad: Option<ClipGrad>,
}

/// Clipping whose keys fit together.
fn checked<'de, D: Deserializer<'de>>(d: D) -> Result<Option<ClipGrad>, D::Error> {
    let clip = Option::<ClipGrad>::deserialize(d)?;
    // Ranges are the schema's business.
    clip.iter().try_for_each(|clip| clip.limit().map(drop)).map_err(D::Error::custom)?;
    Ok(clip)
}

fn one() -> u64 {
    1
}

impl OptimWrapperConfig {
    /// Builds the optimizer.
    ///
    /// # Errors
    /// With the place of what is wrong.
    pub fn build(&self, cx: &mut BuildCx) -> Result<OptimWrapper> {
        let mut wrapper = OptimWrapper::boxed(self.optimizer.build(cx)?).accumulate(self.accumulative_counts);
        if let Some(clip) = &self.clip_grad {
            wrapper = wrapper.clip(clip.clone());
        }
        Ok(wrapper)
    }
}
