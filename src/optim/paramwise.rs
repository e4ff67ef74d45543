//! `paramwise_cfg`: MMEngine's rules of which parameter has which learning rate and weight decay, and MMPretrain's
//! decay of learning rates by layer.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Group, Optimizer};
use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::params::{Info, Params, Want};

/// What an entry of `custom_keys` sets.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum Setting {
    /// A multiplier, or a number of the optimizer.
    Number(f64),
    /// A switch of the optimizer.
    Flag(bool),
    /// `betas`.
    Betas([f64; 2]),
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Setting;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number, true or false, or for `betas` a list of two numbers")
            }
            fn visit_bool<E>(self, on: bool) -> Result<Setting, E> {
                Ok(Setting::Flag(on))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Setting, E> {
                Ok(Setting::Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Setting, E> {
                Ok(Setting::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Setting, E> {
                Ok(Setting::Number(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Setting, A::Error> {
                match (seq.next_element()?, seq.next_element()?, seq.next_element::<f64>()?) {
                    (Some(beta1), Some(beta2), None) => Ok(Setting::Betas([beta1, beta2])),
                    _ => Err(A::Error::custom("expected a list of two numbers")),
                }
            }
        }
        d.deserialize_any(Any)
    }
}

impl Setting {
    /// Its numbers, by the optimizer's names.
    fn numbers<'k>(&self, key: &'k str) -> Vec<(&'k str, f64)> {
        match self {
            Self::Number(value) => vec![(key, *value)],
            Self::Flag(_) => Vec::new(),
            Self::Betas([beta1, beta2]) => vec![("beta1", *beta1), ("beta2", *beta2)],
        }
    }
}

/// Multipliers of learning rate and weight decay by parameter, with MMEngine's meaning.
///
/// The longest of `custom_keys` that is part of a parameter's name decides alone (of equally long ones the first in the
/// alphabet). For all others the first that is given and fits decides the weight decay: `norm_decay_mult`,
/// `bias_decay_mult`, `dwconv_decay_mult`, `flat_decay_mult`. Frozen parameters are in no group.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ParamwiseConfig {
    /// Numbers for the parameters whose name contains the key: `lr_mult`, `decay_mult`, any number of the optimizer, its
    /// `betas`, or a switch such as `lars_exclude`.
    // `check` refuses what is negative.
    #[schemars(extend("x-unbounded" = true))]
    pub custom_keys: BTreeMap<String, BTreeMap<String, Setting>>,
    /// Learning rate of biases, but for those of norms, times this.
    #[schemars(range(min = 0.0))]
    pub bias_lr_mult: Option<f64>,
    /// Weight decay of biases times this; of norms too, where `norm_decay_mult` is not given.
    #[schemars(range(min = 0.0))]
    pub bias_decay_mult: Option<f64>,
    /// Weight decay of norms times this.
    #[schemars(range(min = 0.0))]
    pub norm_decay_mult: Option<f64>,
    /// Weight decay of depth-wise convolutions times this.
    #[schemars(range(min = 0.0))]
    pub dwconv_decay_mult: Option<f64>,
    /// Weight decay of all parameters with one axis times this.
    #[schemars(range(min = 0.0))]
    pub flat_decay_mult: Option<f64>,
    /// A tensor under two names is trained once, instead of being refused.
    pub bypass_duplicate: bool,
    /// With LearningRateDecayOptimWrapperConstructor: the learning rate falls by this factor a layer, from the head
    /// down.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub layer_decay_rate: Option<f64>,
}

impl ParamwiseConfig {
    /// The first key that multiplies the weight decay.
    pub(super) fn decays(&self) -> Option<String> {
        let plain = [
            ("bias_decay_mult", self.bias_decay_mult),
            ("norm_decay_mult", self.norm_decay_mult),
            ("dwconv_decay_mult", self.dwconv_decay_mult),
            ("flat_decay_mult", self.flat_decay_mult),
        ];
        let plain = plain.into_iter().find(|(_, mult)| mult.is_some()).map(|(key, _)| key.to_owned());
        let custom = || self.custom_keys.iter().find(|(_, entries)| entries.contains_key("decay_mult"));
        plain.or_else(|| custom().map(|(key, _)| format!("custom_keys.{key}.decay_mult")))
    }

    /// What a schema cannot say.
    ///
    /// # Errors
    /// A key that does nothing, or a multiplier that is negative or not finite.
    pub(super) fn check(&self) -> Result<()> {
        for (key, entries) in &self.custom_keys {
            if key.is_empty() {
                return Err(Error::config("paramwise_cfg: an empty key of `custom_keys` is in every name"));
            }
            for (number, setting) in entries {
                if matches!(setting, Setting::Betas(_)) && number != "betas" {
                    let text = format!("paramwise_cfg: `{number}` of `{key}` is one number, not a list");
                    return Err(Error::config(text));
                }
                let wrong = |(_, value): &(&str, f64)| !value.is_finite() || *value < 0.0;
                if let Some((number, value)) = setting.numbers(number).into_iter().find(wrong) {
                    let text = format!("paramwise_cfg: `{number}` of `{key}` must be 0 or more, not {value}");
                    return Err(Error::config(text));
                }
                if self.layer_decay_rate.is_some() && matches!(number.as_str(), "lr_mult" | "lr") {
                    return Err(Error::config(format!(
                        "paramwise_cfg: `{number}` of `{key}` does nothing: the layer decides the learning rate"
                    )));
                }
            }
        }
        let idle = [
            ("bias_lr_mult", self.bias_lr_mult.is_some()),
            ("dwconv_decay_mult", self.dwconv_decay_mult.is_some()),
            ("bypass_duplicate", self.bypass_duplicate),
        ];
        match idle.iter().find(|(_, given)| *given && self.layer_decay_rate.is_some()) {
            Some((key, _)) => Err(Error::config(format!(
                "paramwise_cfg: `{key}` does nothing with LearningRateDecayOptimWrapperConstructor"
            ))),
            None => Ok(()),
        }
    }
}

/// Parameters that some networks have and others lack: MMPretrain's configs of both share the rules for them.
const SHARED: [&str; 9] = [
    "cls_token",
    "pos_embed",
    "absolute_pos_embed",
    "relative_position_bias_table",
    "dist_token",
    "mask_token",
    "branch_norm.bias",
    "branch_1x1.norm",
    "branch_3x3.norm",
];

/// The rules, for one model.
pub(super) struct Law<'c> {
    config: &'c ParamwiseConfig,
    /// Longest first, equally long ones by alphabet.
    keys: Vec<&'c String>,
    /// Paths of depth-wise convolutions.
    depthwise: HashSet<String>,
    depths: Option<Depths>,
    /// What somebody should know of keys without a parameter.
    pub idle: Vec<String>,
}

impl<'c> Law<'c> {
    /// The rules of a config, for this model.
    ///
    /// # Errors
    /// A key of `custom_keys` that is part of no name, or names a number that the optimizer does not have; a layer-wise
    /// decay for a model without known layers.
    pub fn new(
        config: &'c ParamwiseConfig,
        rule: &dyn Optimizer,
        params: &dyn Params,
        mine: Want<'_>,
    ) -> Result<Self> {
        config.check()?;
        let mut keys: Vec<_> = config.custom_keys.keys().collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
        let (mut names, mut depthwise) = (Vec::new(), HashSet::new());
        params.infos(&mut |p| {
            if p.role.is_trained() && mine(&p) {
                names.push(dotted(p.name));
            }
            // A weight is (out, in / groups, h, w): as many groups as channels.
            if p.layer == "Conv2d" && p.shape.len() == 4 && p.shape[1] == 1 {
                depthwise.insert(owner(p.name).to_owned());
            }
        });
        let mut idle = Vec::new();
        let fits = |key: &str| names.iter().any(|name| name.contains(key));
        for key in keys.iter().filter(|key| !fits(key)) {
            let bare = key.trim_start_matches('.');
            idle.push(if SHARED.contains(&bare) {
                format!("`{key}` of `custom_keys` does nothing: this network has no such parameter")
            } else if bare != key.as_str() && fits(bare) {
                format!(
                    "`{key}` of `custom_keys` does nothing: no name begins with a dot but that of a parameter of the model \
                     itself; `{bare}` is what is meant"
                )
            } else {
                return Err(matches_nothing(key, &names));
            });
        }
        if let Some(key) = config.decays()
            && Group::new("", rule.clone_box()).get("weight_decay").is_none()
        {
            let text = format!("paramwise_cfg: `{key}` does nothing: {} has no weight decay", rule.name());
            return Err(Error::config(text));
        }
        let depths = config.layer_decay_rate.map(|rate| Depths::of(rate, params)).transpose()?;
        Ok(Self { config, keys, depthwise, depths, idle })
    }

    /// A group with the numbers of this parameter.
    pub fn group_of(&self, p: &Info<'_>, rule: &dyn Optimizer) -> Result<Group> {
        let mut group = Group::new("", rule.clone_box());
        let full = dotted(p.name);
        let name = match self.keys.iter().find(|key| full.contains(key.as_str())) {
            Some(key) => {
                self.by_key(key, &mut group)?;
                (*key).clone()
            }
            None => self.by_kind(p, &mut group)?.join("+"),
        };
        let name = if name.is_empty() { "default".to_owned() } else { name };
        group = Group::new(name, group.rule().clone_box());
        match &self.depths {
            Some(depths) => depths.scale(p.name, group),
            None => Ok(group),
        }
    }

    fn by_key(&self, key: &str, group: &mut Group) -> Result<()> {
        let Some(entries) = self.config.custom_keys.get(key) else { return Ok(()) };
        for (number, mult) in [("lr", "lr_mult"), ("weight_decay", "decay_mult")] {
            if let (Some(base), Some(Setting::Number(mult))) = (group.get(number), entries.get(mult)) {
                group.set(number, base * mult)?;
            }
        }
        let absolute = entries.iter().filter(|(name, _)| !matches!(name.as_str(), "lr_mult" | "decay_mult"));
        for (name, setting) in absolute {
            let set = match setting {
                Setting::Flag(on) => group.set_flag(name, *on),
                _ => {
                    setting.numbers(name).into_iter().try_for_each(|(number, value)| group.set(number, value))
                }
            };
            set.map_err(|e| Error::config(format!("`custom_keys` `{key}`: {e}")))?;
        }
        Ok(())
    }

    /// The rules for what a parameter is; gives the names of those that fit.
    fn by_kind(&self, p: &Info<'_>, group: &mut Group) -> Result<Vec<&'static str>> {
        let (config, mut reasons) = (self.config, Vec::new());
        let is_bias = p.name.rsplit('.').next() == Some("bias");
        let is_norm = is_norm(p.layer);
        if let (Some(mult), true, Some(lr)) = (config.bias_lr_mult, is_bias && !is_norm, group.get("lr")) {
            group.set("lr", lr * mult)?;
            reasons.push("bias");
        }
        let rules = [
            ("norm", is_norm, config.norm_decay_mult),
            ("bias", is_bias, config.bias_decay_mult),
            ("dwconv", self.depthwise.contains(owner(p.name)), config.dwconv_decay_mult),
            ("flat", p.shape.len() == 1, config.flat_decay_mult),
        ];
        let first = rules.into_iter().filter(|(_, fits, _)| *fits);
        let first = first.filter_map(|(name, _, mult)| Some((name, mult?))).next();
        if let (Some((name, mult)), Some(decay)) = (first, group.get("weight_decay")) {
            group.set("weight_decay", decay * mult)?;
            if !reasons.contains(&name) {
                reasons.push(name);
            }
        }
        Ok(reasons)
    }
}

/// The name in which MMEngine looks for a key: a parameter of the model itself has a dot before it.
fn dotted(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!(".{name}") }
}

/// The path of the layer that a parameter belongs to.
fn owner(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(layer, _)| layer)
}

/// PyTorch's norms, as MMEngine counts them.
fn is_norm(layer: &str) -> bool {
    ["BatchNorm", "SyncBatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm"]
        .iter()
        .any(|norm| layer.strip_prefix(norm).is_some_and(|rest| matches!(rest, "" | "1d" | "2d" | "3d")))
}

/// The nearest name is sought among the paths of layers and parameters.
fn matches_nothing(key: &str, names: &[String]) -> Error {
    let mut paths = HashSet::new();
    for name in names {
        let name = name.trim_start_matches('.');
        paths.extend(name.match_indices('.').map(|(at, _)| &name[..at]).chain([name]));
        paths.extend(name.split('.'));
    }
    let mut paths: Vec<_> = paths.into_iter().collect();
    paths.sort_unstable();
    let near = nearest(key.trim_matches('.'), paths);
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Error::config(format!("paramwise_cfg: `{key}` of `custom_keys` is part of no parameter's name{hint}"))
}

/// MMPretrain's `get_layer_depth` of a vision transformer, and the rate.
struct Depths {
    rate: f64,
    /// The path of the transformer with its dot.
    prefix: String,
    layers: usize,
}

impl Depths {
    fn of(rate: f64, params: &dyn Params) -> Result<Self> {
        let (mut prefix, mut names) = (None, Vec::new());
        params.infos(&mut |p| {
            if p.layer == "VisionTransformer" {
                let path = owner(p.name);
                let dot = if path.is_empty() { "" } else { "." };
                prefix.get_or_insert_with(|| format!("{path}{dot}"));
            }
            names.push(p.name.to_owned());
        });
        let Some(prefix) = prefix else {
            return Err(Error::config(
                "paramwise_cfg: `layer_decay_rate` needs to know the depth of each layer, which is known of a \
                 VisionTransformer only",
            ));
        };
        let blocks = names.iter().filter_map(|name| block(name.strip_prefix(prefix.as_str())?));
        let layers = blocks.max().map_or(0, |last| last + 1);
        Ok(Self { rate, prefix, layers })
    }

    /// Embeddings are layer 0, blocks follow, all else is at the top.
    fn depth(&self, name: &str) -> usize {
        let top = self.layers + 1;
        match name.strip_prefix(self.prefix.as_str()) {
            None => top,
            Some("cls_token" | "pos_embed") => 0,
            Some(rest) if rest.starts_with("patch_embed") => 0,
            Some(rest) => block(rest).map_or(top, |block| block + 1),
        }
    }

    fn scale(&self, name: &str, mut group: Group) -> Result<Group> {
        let depth = self.depth(name);
        // MMPretrain's max_id is layers + 2, and its exponent max_id - id - 1.
        let factor = self.rate.powi(i32::try_from(self.layers + 1 - depth).unwrap_or(i32::MAX));
        group.set("lr", group.lr() * factor)?;
        let kind = if group.name() == "default" { String::new() } else { format!(" {}", group.name()) };
        Ok(Group::new(format!("layer_{depth}{kind}"), group.rule().clone_box()))
    }
}

/// The number of the block in `layers.3.attn.qkv.weight`.
fn block(name: &str) -> Option<usize> {
    name.strip_prefix("layers.")?.split('.').next()?.parse().ok()
}
