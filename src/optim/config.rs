//! `optim_wrapper:` of a config.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Amp, AmpDtype, ClipGrad, LossScale, OptimWrapper, Optimizer, ParamwiseConfig, SamConfig, Share};
use crate::base::{Error, Result};
use crate::config::{Dict, OneOrMany};
use crate::registry::{BuildCx, Spec};

/// How many optimizers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
pub enum WrapperType {
    /// One.
    #[default]
    OptimWrapper,
    /// One, of a training in mixed precision.
    AmpOptimWrapper,
    /// Several, by name, in `wrappers`.
    OptimWrapperDict,
}

/// The type of one of several.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema, serde::Serialize)]
pub enum PartType {
    /// Plain precision.
    #[default]
    OptimWrapper,
    /// Mixed precision, which all parts have in common.
    AmpOptimWrapper,
}

/// One of the `wrappers` of an OptimWrapperDict.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PartConfig {
    /// `OptimWrapper`, or `AmpOptimWrapper` for mixed precision.
    #[serde(default)]
    pub r#type: PartType,
    /// How a parameter is updated: the rule and its numbers.
    pub optimizer: Spec<dyn Optimizer>,
    /// Paths of the modules (or parameters) that it moves, as far as no wrapper before it does; an empty list is all that
    /// is left. If absent the module of its own name, or with `ndim` all.
    #[serde(default)]
    pub modules: Option<OneOrMany<String>>,
    /// It moves parameters with so many axes alone: 2 for Muon.
    #[serde(default)]
    pub ndim: Option<usize>,
    /// Limits gradients before each update.
    #[serde(default, deserialize_with = "checked")]
    pub clip_grad: Option<ClipGrad>,
    /// Learning rate and weight decay by parameter.
    #[serde(default)]
    pub paramwise_cfg: Option<ParamwiseConfig>,
    /// Who forms the parameter groups.
    #[serde(default)]
    pub constructor: Option<Constructor>,
    /// Of an AmpOptimWrapper: what products are computed in; `bfloat16` if absent, as autocast does on a CPU.
    #[serde(default)]
    pub dtype: Option<AmpDtype>,
    /// Of an AmpOptimWrapper: `dynamic`, which it is if absent, a number, or the numbers of the dynamic one.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
    /// Of an AmpOptimWrapper: must be false, weights are not sharded among processes.
    #[serde(default)]
    pub use_fsdp: Option<bool>,
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
    /// `OptimWrapper`, `AmpOptimWrapper` for mixed precision, or `OptimWrapperDict` for several optimizers.
    #[serde(default)]
    pub r#type: WrapperType,
    /// How a parameter is updated: the rule and its numbers.
    #[serde(default)]
    pub optimizer: Option<Spec<dyn Optimizer>>,
    /// The optimizers of an OptimWrapperDict, by name.
    #[serde(default)]
    pub wrappers: Dict<PartConfig>,
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
    /// Of an AmpOptimWrapper: what products are computed in; `bfloat16` if absent, as autocast does on a CPU.
    #[serde(default)]
    pub dtype: Option<AmpDtype>,
    /// Of an AmpOptimWrapper: `dynamic`, which it is if absent, a number, or the numbers of the dynamic one.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
    /// Of an AmpOptimWrapper: must be false, weights are not sharded among processes.
    #[serde(default)]
    pub use_fsdp: Option<bool>,
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
        let mut wrapper = match self.r#type {
            WrapperType::OptimWrapper | WrapperType::AmpOptimWrapper => self.one(cx)?,
            WrapperType::OptimWrapperDict => self.several(cx)?,
        };
        if let Some(sam) = &self.sam {
            wrapper = wrapper.sam(sam.clone());
        }
        Ok(wrapper.accumulate(self.accumulative_counts))
    }

    /// The spec of the optimizer, or of the one of this name.
    pub fn spec(&self, name: &str) -> Option<&Spec<dyn Optimizer>> {
        self.optimizer.as_ref().or_else(|| self.wrappers.get(name).map(|part| &part.optimizer))
    }

    fn one(&self, cx: &mut BuildCx) -> Result<OptimWrapper> {
        if !self.wrappers.0.is_empty() {
            return Err(Error::config("`wrappers` belong to `type: OptimWrapperDict`"));
        }
        let Some(optimizer) = &self.optimizer else {
            return Err(Error::config("`optimizer` is missing: give one, such as `{type: SGD, lr: 0.1}`"));
        };
        let Self { clip_grad, paramwise_cfg, constructor, .. } = self;
        let mixed = self.r#type == WrapperType::AmpOptimWrapper;
        let amp = mixed_precision(mixed, self.dtype, self.loss_scale, self.use_fsdp)?;
        let wrapper = wrap(optimizer, clip_grad.as_ref(), paramwise_cfg.as_ref(), *constructor, cx)?;
        Ok(amp.into_iter().fold(wrapper, OptimWrapper::amp))
    }

    fn several(&self, cx: &mut BuildCx) -> Result<OptimWrapper> {
        let of_each = [
            ("optimizer", self.optimizer.is_some()),
            ("clip_grad", self.clip_grad.is_some()),
            ("paramwise_cfg", self.paramwise_cfg.is_some()),
            ("constructor", self.constructor.is_some()),
            ("dtype", self.dtype.is_some()),
            ("loss_scale", self.loss_scale.is_some()),
            ("use_fsdp", self.use_fsdp.is_some()),
        ];
        if let Some((key, _)) = of_each.iter().find(|(_, given)| *given) {
            let text = format!("`{key}` belongs to each of the `wrappers` of an OptimWrapperDict");
            return Err(Error::config(text));
        }
        if self.wrappers.0.is_empty() {
            return Err(Error::config(
                "an OptimWrapperDict needs `wrappers`: {generator: {optimizer: …}, …}",
            ));
        }
        let built = self.wrappers.0.iter().map(|(name, part)| {
            let PartConfig { optimizer, modules, ndim, clip_grad, paramwise_cfg, constructor, .. } = part;
            let wrapper = wrap(optimizer, clip_grad.as_ref(), paramwise_cfg.as_ref(), *constructor, cx)?;
            let modules = match modules {
                Some(modules) => modules.0.clone(),
                None if ndim.is_some() => Vec::new(),
                None => vec![name.clone()],
            };
            Ok((name.clone(), Share { modules, ndim: *ndim }, wrapper))
        });
        let wrapper = OptimWrapper::several(built.collect::<Result<Vec<_>>>()?);
        Ok(self.common_precision()?.into_iter().fold(wrapper, OptimWrapper::amp))
    }

    /// The mixed precision that all parts have: one backward pass makes the gradients of all of them.
    fn common_precision(&self) -> Result<Option<Amp>> {
        let mut first: Option<(&str, Option<Amp>)> = None;
        for (name, part) in &self.wrappers.0 {
            let mixed = matches!(part.r#type, PartType::AmpOptimWrapper);
            let amp = mixed_precision(mixed, part.dtype, part.loss_scale, part.use_fsdp)?;
            match first {
                Some((other, others)) if others != amp => {
                    return Err(Error::config(format!(
                        "the wrappers `{other}` and `{name}` differ in `type`, `dtype` or `loss_scale`: one step makes the \
                         gradients of all, in one precision and of one loss; give all of them the same"
                    )));
                }
                _ => first = Some((name, amp)),
            }
        }
        Ok(first.and_then(|(_, amp)| amp))
    }
}

/// The mixed precision that these keys ask for, if the type is `AmpOptimWrapper`.
fn mixed_precision(
    mixed: bool,
    dtype: Option<AmpDtype>,
    loss_scale: Option<LossScale>,
    use_fsdp: Option<bool>,
) -> Result<Option<Amp>> {
    let keys =
        [("dtype", dtype.is_some()), ("loss_scale", loss_scale.is_some()), ("use_fsdp", use_fsdp.is_some())];
    if let Some((key, _)) = keys.into_iter().find(|(_, given)| *given && !mixed) {
        return Err(Error::config(format!("`{key}` belongs to `type: AmpOptimWrapper`")));
    }
    if use_fsdp == Some(true) {
        return Err(Error::config(
            "`use_fsdp: true` scales gradients of weights that are sharded among processes, which there are not here: leave \
             it out",
        ));
    }
    let amp = Amp { dtype: dtype.unwrap_or_default(), loss_scale: loss_scale.unwrap_or_default() };
    if mixed { amp.check().map(|()| Some(amp)) } else { Ok(None) }
}

/// One optimizer with its clipping and its groups.
fn wrap(
    optimizer: &Spec<dyn Optimizer>,
    clip: Option<&ClipGrad>,
    rules: Option<&ParamwiseConfig>,
    constructor: Option<Constructor>,
    cx: &mut BuildCx,
) -> Result<OptimWrapper> {
    let mut wrapper = OptimWrapper::boxed(optimizer.build(cx)?);
    if let Some(clip) = clip {
        wrapper = wrapper.clip(clip.clone());
    }
    match meant(rules, constructor, optimizer)? {
        Some(rules) => Ok(wrapper.paramwise(rules)),
        None => Ok(wrapper),
    }
}

/// `paramwise_cfg` as the constructor means it; an empty one is none.
fn meant(
    rules: Option<&ParamwiseConfig>,
    constructor: Option<Constructor>,
    optimizer: &Spec<dyn Optimizer>,
) -> Result<Option<ParamwiseConfig>> {
    let rules = rules.cloned().filter(|config| *config != ParamwiseConfig::default());
    let by_layer = constructor == Some(Constructor::LearningRateDecayOptimWrapperConstructor);
    let Some(mut config) = rules.or_else(|| by_layer.then(ParamwiseConfig::default)) else {
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
    if let Some(key) = config.decays().filter(|_| optimizer.node().get("weight_decay").is_none()) {
        return Err(Error::config(format!(
            "paramwise_cfg: `{key}` multiplies the optimizer's `weight_decay`, which is not given"
        )));
    }
    Ok(Some(config))
}
