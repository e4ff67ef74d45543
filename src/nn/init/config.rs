//! How configs name the rules: `init_cfg: {type: Kaiming, layer: Conv2d}`, one entry or a list.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::draw::TruncatedNormal;
use super::{
    Caffe2Xavier, Constant, Init, Initializer, Kaiming, Normal, Orthogonal, Pretrained, TruncNormal, Uniform,
    Xavier,
};
use crate::base::Result;
use crate::config::{Diag, Diags, FromNode, Key, Kind, Node, OneOrMany, receive};
use crate::register;
use crate::registry::{BuildCx, Collected, Spec};

crate::registry!(dyn Initializer, "initializer", InitConfig);

/// The value of a key `init_cfg`: `None` if it is absent or `null`.
pub type InitCfg = Option<OneOrMany<Spec<dyn Initializer>>>;

/// What every entry of `init_cfg` may say besides its rule.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InitConfig {
    /// Types (`Conv2d`) or families (`_BatchNorm`) of the layers it is for, anywhere below the module.
    pub layer: Option<OneOrMany<String>>,
    /// The value of their biases.
    #[schemars(extend("x-unbounded" = true))]
    pub bias: f64,
    /// Sets the biases so that a sigmoid of them gives this probability: −ln((1 − p) / p).
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub bias_prob: Option<f64>,
    /// Sub-modules of which everything is initialised: `{name: head}` by the same rule, `{name: head, type: …}` by
    /// another one.
    pub r#override: Option<OneOrMany<OverrideConfig>>,
}

/// One item of `override`.
#[derive(Debug, Clone)]
pub struct OverrideConfig {
    /// The sub-module, seen from the module that has the `init_cfg`.
    pub name: String,
    /// Its own rule.
    pub by: Option<Spec<dyn Initializer>>,
}

impl FromNode for OverrideConfig {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let name = node.get("name").and_then(Node::as_str).unwrap_or_default().to_owned();
        if name.is_empty() {
            let diag = Diag::error("an override needs the `name` of a sub-module").on(node);
            return (Self { name, by: None }, vec![diag]);
        }
        let rest: Vec<_> = node.entries().iter().filter(|(key, _)| key.text != "name").cloned().collect();
        if rest.is_empty() {
            return (Self { name, by: None }, Vec::new());
        }
        let (by, diags) =
            <Spec<dyn Initializer> as FromNode>::from_node(&node.with_kind(Kind::Map(rest)), key);
        (Self { name, by: Some(by) }, diags)
    }
}

impl<'de> Deserialize<'de> for OverrideConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for OverrideConfig {
    fn schema_name() -> Cow<'static, str> {
        "Override".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] })
    }
}

impl Init {
    /// The entries of an `init_cfg`.
    ///
    /// # Errors
    /// What the builders of the rules say.
    pub fn list(cfg: &InitCfg, cx: &mut BuildCx) -> Result<Vec<Self>> {
        let mut errors = Collected::default();
        let specs = cfg.iter().flat_map(|specs| specs.iter());
        let all = specs.filter_map(|spec| errors.take(Self::from_spec(spec, cx))).collect();
        errors.or(all)
    }

    /// One entry.
    ///
    /// # Errors
    /// What the builder of the rule says.
    pub fn from_spec(spec: &Spec<dyn Initializer>, cx: &mut BuildCx) -> Result<Self> {
        let mut init = Self { node: Some(spec.node().clone()), ..Self::from_box(spec.build(cx)?) };
        let InitConfig { layer, bias, bias_prob, r#override } = &spec.extra;
        if let (Some(_), Some(place)) = (bias_prob, spec.node().get("bias")) {
            let text = "`bias` and `bias_prob` both say what the biases begin as: leave out one";
            return Err(Diags::from(Diag::error(text).on(place)).into());
        }
        init = match bias_prob {
            Some(p) => init.bias_prob(*p),
            None => init.bias(*bias),
        };
        init = layer.iter().flat_map(|names| names.iter()).fold(init, Self::layer);
        for OverrideConfig { name, by } in r#override.iter().flat_map(|list| list.iter()) {
            init = match by {
                None => init.override_all(name),
                Some(spec) => init.override_with(name, Self::from_spec(spec, cx)?),
            };
        }
        Ok(init)
    }
}

// Each under the name in MMEngine's registry and under the name of MMEngine's class.

register! { /// One value for all weights.
dyn Initializer, "Constant" => Constant }
register! { /// `Constant`, by the name of MMEngine's class.
dyn Initializer, "ConstantInit" => Constant }
register! { /// Keeps the variance through linear layers: std = gain · √(2 / (fan_in + fan_out)).
dyn Initializer, "Xavier" => Xavier }
register! { /// `Xavier`, by the name of MMEngine's class.
dyn Initializer, "XavierInit" => Xavier }
register! { /// A normal distribution.
dyn Initializer, "Normal" => Normal }
register! { /// `Normal`, by the name of MMEngine's class.
dyn Initializer, "NormalInit" => Normal }
register! { /// A normal distribution cut off at the values `a` and `b`.
dyn Initializer, "TruncNormal" => fn TruncNormal::checked }
register! { /// `TruncNormal`, by the name of MMEngine's class.
dyn Initializer, "TruncNormalInit" => fn TruncNormal::checked }
register! { /// A uniform distribution.
dyn Initializer, "Uniform" => fn Uniform::checked }
register! { /// `Uniform`, by the name of MMEngine's class.
dyn Initializer, "UniformInit" => fn Uniform::checked }
register! { /// Keeps the variance through rectifiers: std = gain / √fan.
dyn Initializer, "Kaiming" => Kaiming }
register! { /// `Kaiming`, by the name of MMEngine's class.
dyn Initializer, "KaimingInit" => Kaiming }
register! { /// Caffe2's Xavier: uniform within ±√(3 / fan_in).
dyn Initializer, "Caffe2Xavier" => Caffe2Xavier }
register! { /// `Caffe2Xavier`, by the name of MMEngine's class.
dyn Initializer, "Caffe2XavierInit" => Caffe2Xavier }
register! { /// Orthonormal rows or columns: a signal keeps its length.
dyn Initializer, "Orthogonal" => Orthogonal }
register! { /// Tensors of a checkpoint, by name; applied after everything below.
dyn Initializer, "Pretrained" => Pretrained }
register! { /// `Pretrained`, by the name of MMEngine's class.
dyn Initializer, "PretrainedInit" => Pretrained }

impl TruncNormal {
    fn checked(self, _: &mut BuildCx) -> Result<Self> {
        TruncatedNormal::new(self.mean, self.std, self.a, self.b)?;
        Ok(self)
    }
}
