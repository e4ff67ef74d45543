//! `train_cfg`: one of the two loops, or a loop of one's own by its registered name.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::{EpochBasedTrainLoop, Intervals, IterBasedTrainLoop, TrainLoop};
use crate::base::{Error, Result};
use crate::config::{Diag, FromNode, Key, Node, read, receive};
use crate::registry::{BuildCx, Spec, entries};

crate::registry!(dyn TrainLoop, "loop");

crate::register! {
    /// Trains epoch after epoch and validates between epochs: what `by_epoch: true` stands for.
    dyn TrainLoop, "EpochBasedTrainLoop" => fn EpochLoop::build
}

crate::register! {
    /// Trains in one long pass and validates between iterations: what `by_epoch: false` stands for.
    dyn TrainLoop, "IterBasedTrainLoop" => fn IterLoop::build
}

/// Parameters of `EpochBasedTrainLoop`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct EpochLoop {
    /// Epochs of the run.
    #[schemars(range(min = 1), example = 20)]
    max_epochs: u64,
    /// First epoch after which a validation may be; 1 if absent.
    #[serde(default)]
    #[schemars(range(min = 0))]
    val_begin: Option<u64>,
    /// Epochs between validations; 1 if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    val_interval: Option<u64>,
    /// `[milestone, interval]` pairs: another interval from the milestone on.
    #[serde(default)]
    dynamic_intervals: Option<Vec<(u64, u64)>>,
}

/// Parameters of `IterBasedTrainLoop`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct IterLoop {
    /// Iterations of the run.
    #[schemars(range(min = 1), example = 10_000)]
    max_iters: u64,
    /// First iteration after which a validation may be; 1 if absent.
    #[serde(default)]
    #[schemars(range(min = 0))]
    val_begin: Option<u64>,
    /// Iterations between validations; 1000 if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    val_interval: Option<u64>,
    /// `[milestone, interval]` pairs: another interval from the milestone on.
    #[serde(default)]
    dynamic_intervals: Option<Vec<(u64, u64)>>,
}

impl EpochLoop {
    fn build(self, _: &mut BuildCx) -> Result<EpochBasedTrainLoop> {
        let val = validations(self.val_begin, self.val_interval.unwrap_or(1), self.dynamic_intervals);
        Ok(EpochBasedTrainLoop::new(self.max_epochs).val(val.map_err(Error::config)?))
    }
}

impl IterLoop {
    fn build(self, _: &mut BuildCx) -> Result<IterBasedTrainLoop> {
        let val = validations(self.val_begin, self.val_interval.unwrap_or(1000), self.dynamic_intervals);
        Ok(IterBasedTrainLoop::new(self.max_iters).val(val.map_err(Error::config)?))
    }
}

/// When a loop validates.
fn validations(
    begin: Option<u64>,
    every: u64,
    dynamic: Option<Vec<(u64, u64)>>,
) -> Result<Intervals, String> {
    let dynamic = dynamic.unwrap_or_default();
    if dynamic.iter().any(|(_, every)| *every == 0) || !dynamic.is_sorted_by_key(|(milestone, _)| *milestone)
    {
        return Err("`dynamic_intervals` must rise, with intervals of at least 1".into());
    }
    Ok(Intervals { begin: begin.unwrap_or(1), every, dynamic })
}

/// Which loop trains.
#[derive(Debug, Clone)]
pub enum LoopConfig {
    /// `by_epoch: …`, or `type:` with the name of a built-in loop.
    BuiltIn(TrainLoopConfig),
    /// `type:` with the name of a registered [`TrainLoop`], and its own keys.
    Custom(Spec<dyn TrainLoop>),
}

impl LoopConfig {
    /// The loop.
    ///
    /// # Errors
    /// A contradiction in the keys of a built-in loop; what the builder of another says.
    pub fn build(&self, cx: &mut BuildCx) -> Result<Box<dyn TrainLoop>> {
        match self {
            Self::BuiltIn(cfg) => cfg.to_loop().map_err(Error::config),
            Self::Custom(spec) => spec.build(cx),
        }
    }
}

impl FromNode for LoopConfig {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let name = node.get("type").and_then(Node::as_str).unwrap_or_default();
        // The built-in loops are read as `TrainLoopConfig`, which has their keys and `by_epoch`.
        let built_in = ["EpochBasedTrainLoop", "IterBasedTrainLoop"].contains(&name);
        let cfg = if !built_in && entries("loop").any(|entry| entry.name == name) {
            Spec::from_node(node).map(Self::Custom)
        } else {
            read(node, key, &[]).map(Self::BuiltIn)
        };
        match cfg {
            Ok(cfg) => (cfg, Vec::new()),
            Err(diags) => (Self::BuiltIn(TrainLoopConfig::default()), diags.0),
        }
    }
}

impl<'de> Deserialize<'de> for LoopConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

/// That of the built-in loops.
impl JsonSchema for LoopConfig {
    fn schema_name() -> Cow<'static, str> {
        TrainLoopConfig::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        TrainLoopConfig::json_schema(generator)
    }
}

/// `train_cfg`: `by_epoch` or `type` says which loop.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrainLoopConfig {
    /// The loop by name.
    pub r#type: Option<LoopType>,
    /// Epochs or iterations; not together with `type`.
    pub by_epoch: Option<bool>,
    /// Epochs of the run, in the epoch loop.
    #[schemars(range(min = 1))]
    pub max_epochs: Option<u64>,
    /// Iterations of the run, in the iteration loop.
    #[schemars(range(min = 1))]
    pub max_iters: Option<u64>,
    /// First epoch or iteration after which a validation may be; 1 if absent.
    #[schemars(range(min = 0))]
    pub val_begin: Option<u64>,
    /// Epochs (1 if absent) or iterations (1000) between validations.
    #[schemars(range(min = 1))]
    pub val_interval: Option<u64>,
    /// `[milestone, interval]` pairs: another interval from the milestone on.
    pub dynamic_intervals: Option<Vec<(u64, u64)>>,
}

/// The training loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[allow(clippy::enum_variant_names, missing_docs)]
pub enum LoopType {
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
}

impl TrainLoopConfig {
    /// The loop that this describes.
    ///
    /// # Errors
    /// A text for the person who wrote it.
    pub fn to_loop(&self) -> Result<Box<dyn TrainLoop>, String> {
        let by_epoch = match (self.r#type, self.by_epoch) {
            (Some(_), Some(_)) => return Err("give `by_epoch` or `type`, not both".into()),
            (Some(named), None) => named == LoopType::EpochBasedTrainLoop,
            (None, Some(by_epoch)) => by_epoch,
            (None, None) => return Err("give `by_epoch: true` or `by_epoch: false`".into()),
        };
        let (needs, total, other) = if by_epoch {
            ("max_epochs", self.max_epochs, self.max_iters.map(|_| "max_iters"))
        } else {
            ("max_iters", self.max_iters, self.max_epochs.map(|_| "max_epochs"))
        };
        if let Some(other) = other {
            return Err(format!("`{other}` does not belong to a loop with `by_epoch: {by_epoch}`"));
        }
        let total = total.ok_or_else(|| format!("a loop with `by_epoch: {by_epoch}` needs `{needs}`"))?;
        let every = self.val_interval.unwrap_or(if by_epoch { 1 } else { 1000 });
        let val = validations(self.val_begin, every, self.dynamic_intervals.clone())?;
        Ok(if by_epoch {
            Box::new(EpochBasedTrainLoop::new(total).val(val))
        } else {
            Box::new(IterBasedTrainLoop::new(total).val(val))
        })
    }
}
