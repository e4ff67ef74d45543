//! Some of many transforms, drawn anew for each sample.

use std::borrow::Cow;

use rand::RngExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use crate::base::suggest::nearest;
use crate::base::{Error, Result, Rng};
use crate::config::{Diag, Diags, FromNode, Key, Kind, Node, OneOrMany, parse, read, receive};
use crate::data::transform::Compose;
use crate::data::{FieldSpec, Fields, Interpolation, Sample, Transform};
use crate::registry::{BuildCx, Spec};

use super::Deviation;
use super::config::FromPolicy;

/// The policies that have a name.
const KNOWN: &str = include_str!("policies.yaml");

/// Transforms to choose from, each one or several behind each other: a list, or the name of one.
#[derive(Debug, Clone, Default)]
struct Policies(Vec<OneOrMany<Spec<dyn Transform>>>);

impl FromNode for Policies {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let list = |node: &Node| read::<Vec<OneOrMany<Spec<dyn Transform>>>>(node, key, &[]);
        let all = match &*node.kind {
            Kind::Str(name) => named(node, name).and_then(|node| list(&node)),
            _ => list(node),
        };
        match all {
            Ok(all) => (Self(all), Vec::new()),
            Err(diags) => (Self::default(), diags.0),
        }
    }
}

fn named(node: &Node, name: &str) -> Result<Node, Diags> {
    let known = parse("policies.yaml", KNOWN)?;
    if let Some(found) = known.get(name) {
        return Ok(found.clone());
    }
    let names: Vec<&str> = known.entries().iter().map(|(key, _)| key.text.as_str()).collect();
    let diag = Diag::error(format!("there are no policies `{name}`: {}", names.join(", "))).on(node);
    Err(match nearest(name, names.iter().copied()) {
        Some(near) => diag.fix(near),
        None => diag,
    }
    .into())
}

impl<'de> Deserialize<'de> for Policies {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for Policies {
    fn schema_name() -> Cow<'static, str> {
        "Policies".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = parse("policies.yaml", KNOWN)
            .map(|known| known.entries().iter().map(|(key, _)| key.text.clone()).collect())
            .unwrap_or_default();
        let policy = g.subschema_for::<OneOrMany<Spec<dyn Transform>>>();
        json_schema!({ "anyOf": [{ "type": "string", "enum": names }, { "type": "array", "items": policy }] })
    }
}

impl Policies {
    /// The transforms, which take from `given` what they do not say.
    fn build(&self, given: FromPolicy, cx: &mut BuildCx) -> Result<Vec<Compose>> {
        if self.0.is_empty() {
            return Err(Error::config("`policies` names no transform"));
        }
        let outer = cx.take::<FromPolicy>();
        cx.provide(given);
        let built: Result<Vec<Compose>> = self.0.iter().map(|policy| Compose::build(policy, cx)).collect();
        cx.take::<FromPolicy>();
        if let Some(outer) = outer {
            cx.provide(outer);
        }
        built
    }
}

/// Keys for all transforms of `policies` that have them and do not give them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Hparams {
    /// Colour of what becomes visible: one number, or one for each channel.
    pad_val: Option<OneOrMany<f64>>,
    /// How values between pixels are found: nearest, bilinear, bicubic or lanczos.
    interpolation: Option<Interpolation>,
}

impl Hparams {
    fn given(&self, level: Option<(f64, Deviation, f64)>) -> FromPolicy {
        let pad_val = self.pad_val.as_ref().map(|pad_val| pad_val.to_vec());
        FromPolicy { level, pad_val, interpolation: self.interpolation }
    }
}

/// Several transforms one after the other, each drawn of all with equal probability, all at one level (Cubuk et al.
/// 2019).
pub struct RandAugment {
    policies: Vec<Compose>,
    num_policies: usize,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandAugmentConfig {
    /// The transforms to draw from: a list, or timm_increasing, simple_increasing or trivial_wide.
    policies: Policies,
    /// How many are drawn for a sample; one may come twice.
    #[schemars(range(min = 1, max = 100))]
    num_policies: usize,
    /// The level of all that have a `magnitude_range`.
    #[schemars(range(min = 0.0))]
    magnitude_level: f64,
    /// Standard deviation of the level, or `inf`: any level up to `magnitude_level`.
    #[serde(default)]
    magnitude_std: Deviation,
    /// The highest level.
    #[serde(default = "ten")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    total_level: f64,
    /// Keys for all of them that have them and do not give them: `{pad_val: [104, 116, 124], interpolation: bicubic}`.
    #[serde(default)]
    hparams: Hparams,
}

fn ten() -> f64 {
    10.0
}

crate::register! {
    /// Some of many transforms one after the other, drawn for each sample, all at one level.
    ///
    /// ```yaml
    /// {type: RandAugment, policies: timm_increasing, num_policies: 2, magnitude_level: 9, magnitude_std: 0.5}
    /// ```
    dyn Transform, "RandAugment" => fn RandAugment::from_config
}

impl RandAugment {
    fn from_config(p: RandAugmentConfig, cx: &mut BuildCx) -> Result<Self> {
        let given = p.hparams.given(Some((p.magnitude_level, p.magnitude_std, p.total_level)));
        Ok(Self { policies: p.policies.build(given, cx)?, num_policies: p.num_policies })
    }
}

/// One of the policies.
fn drawn<'a>(policies: &'a [Compose], rng: &mut Rng) -> Option<&'a Compose> {
    // A 64-bit draw, so that it is the same on every machine.
    policies.get(rng.random_range(0..policies.len().max(1) as u64) as usize)
}

/// Each of them may come, so each has to fit, and what it changes nobody knows before.
fn declare(policies: &[Compose], fields: &mut Fields<FieldSpec>) -> Result<()> {
    policies.iter().try_for_each(|policy| policy.declare(fields))
}

impl Transform for RandAugment {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        (0..self.num_policies)
            .try_for_each(|_| drawn(&self.policies, rng).map_or(Ok(()), |p| p.apply(sample, rng)))
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        declare(&self.policies, fields)
    }
}

/// One of many chains of transforms, whose strengths and probabilities are fixed (Cubuk et al. 2018).
pub struct AutoAugment(Vec<Compose>);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct AutoAugmentConfig {
    /// The chains: a list of lists of transforms, or imagenet.
    policies: Policies,
    /// Keys for all transforms that have them and do not give them: `{pad_val: [104, 116, 124], interpolation: bicubic}`.
    #[serde(default)]
    hparams: Hparams,
}

crate::register! {
    /// One of many chains of transforms, drawn for each sample.
    ///
    /// ```yaml
    /// {type: AutoAugment, policies: imagenet, hparams: {pad_val: [104, 116, 124]}}
    /// ```
    dyn Transform, "AutoAugment" => fn AutoAugment::from_config
}

impl AutoAugment {
    fn from_config(p: AutoAugmentConfig, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self(p.policies.build(p.hparams.given(None), cx)?))
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct TrivialAugmentConfig {
    /// The transforms to draw from: a list, or trivial_wide.
    policies: Policies,
    /// Keys for all of them that have them and do not give them; `{pad_val: 0, interpolation: nearest}` if absent.
    hparams: Hparams,
}

impl Default for TrivialAugmentConfig {
    fn default() -> Self {
        let list = parse("policies.yaml", KNOWN).ok().and_then(|known| known.get("trivial_wide").cloned());
        let policies = list.map(|node| Policies::from_node(&node, None).0).unwrap_or_default();
        let hparams =
            Hparams { pad_val: Some(OneOrMany(vec![0.0])), interpolation: Some(Interpolation::Nearest) };
        Self { policies, hparams }
    }
}

crate::register! {
    /// One of many transforms, drawn for each sample, at a strength drawn between none and the full one.
    ///
    /// ```yaml
    /// {type: TrivialAugment}
    /// ```
    dyn Transform, "TrivialAugment" => fn TrivialAugmentConfig::build
}

impl TrivialAugmentConfig {
    fn build(p: Self, cx: &mut BuildCx) -> Result<RandAugment> {
        let given = p.hparams.given(Some((10.0, Deviation::Even, 10.0)));
        Ok(RandAugment { policies: p.policies.build(given, cx)?, num_policies: 1 })
    }
}

impl Transform for AutoAugment {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        drawn(&self.0, rng).map_or(Ok(()), |policy| policy.apply(sample, rng))
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        declare(&self.0, fields)
    }
}
