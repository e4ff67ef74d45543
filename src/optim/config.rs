//! `optim_wrapper:` of a config.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{ClipGrad, OptimWrapper, Optimizer, ParamwiseConfig, SamConfig};
use crate::base::{Error, Result};
use crate::registry::{BuildCx, Spec};

/// The only wrapper type there is so far.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema, serde::Serialize)]
pub enum WrapperType {
    /// Plain precision.
    #[default]
    OptimWrapper,
}

/// Who forms the parameter groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
pub enum Constructor {
    /// MMEngine's: by the rules of `paramwise_cfg`.
    #[default]
    DefaultOptimWrapperConstructor,
    /// MMPretrain's: the learning rate falls by `layer_decay_rate` a layer.
    LearningRateDecayOptimWrapperConstructor,
}

/// `optim_wrapper:` of a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct OptimWrapperConfig {
    /// `OptimWrapper`.
    #[serde(default)]
    pub r#type: WrapperType,
    /// How a parameter is updated: the rule and its numbers.
    pub optimizer: Spec<dyn Optimizer>,
    /// Batches whose gradients are added before each update.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub accumulative_counts: u64,
    /// Limits gradients before each update.
    #[serde(default, deserialize_with = "checked")]
    pub clip_grad: Option<ClipGrad>,
    /// Takes the gradient where the loss nearby is largest: sharpness-aware minimisation, two passes a batch.
    #[serde(default)]
    pub sam: Option<SamConfig>,
    /// Learning rate and weight decay by parameter.
    #[serde(default)]
    pub paramwise_cfg: Option<ParamwiseConfig>,
    /// Who forms the parameter groups.
    #[serde(default)]
    pub constructor: Option<Constructor>,
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
        if let Some(sam) = &self.sam {
            wrapper = wrapper.sam(sam.clone());
        }
        if let Some(paramwise) = self.paramwise()? {
            wrapper = wrapper.paramwise(paramwise);
        }
        Ok(wrapper)
    }

    /// `paramwise_cfg` as the constructor means it; an empty one is none.
    fn paramwise(&self) -> Result<Option<ParamwiseConfig>> {
        let config = self.paramwise_cfg.clone().filter(|config| *config != ParamwiseConfig::default());
        let by_layer = self.constructor == Some(Constructor::LearningRateDecayOptimWrapperConstructor);
        let Some(mut config) = config.or_else(|| by_layer.then(ParamwiseConfig::default)) else {
            return Ok(None);
        };
        if by_layer {
            config.layer_decay_rate.get_or_insert(1.0);
        } else if config.layer_decay_rate.is_some() {
            return Err(Error::config(
                "paramwise_cfg: `layer_decay_rate` needs `constructor: LearningRateDecayOptimWrapperConstructor`",
            ));
        }
        config.check()?;
        if let Some(key) = config.decays().filter(|_| self.optimizer.node().get("weight_decay").is_none()) {
            return Err(Error::config(format!(
                "paramwise_cfg: `{key}` multiplies the optimizer's `weight_decay`, which is not given"
            )));
        }
        Ok(Some(config))
    }
}
