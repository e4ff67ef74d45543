//! The sizes of a vision transformer: a name or four numbers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::config::{Diag, FromNode, Key, Kind, Node, read, receive};

/// The sizes of a [`VisionTransformer`](super::VisionTransformer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct VisionTransformerArch {
    /// Size of a token.
    #[schemars(range(min = 1))]
    pub embed_dims: usize,
    /// Blocks, each of attention and feed-forward network.
    #[schemars(range(min = 1, max = 10_000))]
    pub num_layers: usize,
    /// Heads of each attention; a divisor of `embed_dims`.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Size of a token inside the feed-forward networks.
    #[schemars(range(min = 1))]
    pub feedforward_channels: usize,
}

/// MMPretrain's names, with embed_dims, num_layers, num_heads and feedforward_channels.
const NAMED: [(&[&str], [usize; 4]); 9] = [
    (&["s", "small"], [768, 8, 8, 768 * 3]),
    (&["b", "base"], [768, 12, 12, 3072]),
    (&["l", "large"], [1024, 24, 16, 4096]),
    (&["h", "huge"], [1280, 32, 16, 5120]),
    (&["eva-g", "eva-giant"], [1408, 40, 16, 6144]),
    (&["deit-t", "deit-tiny"], [192, 12, 3, 192 * 4]),
    (&["deit-s", "deit-small", "dinov2-s", "dinov2-small"], [384, 12, 6, 384 * 4]),
    (&["deit-b", "deit-base"], [768, 12, 12, 768 * 4]),
    (&["dinov2-g", "dinov2-giant"], [1536, 40, 24, 6144]),
];

impl VisionTransformerArch {
    /// The sizes under one of MMPretrain's names, as `base`, `b`, `deit-tiny`; case does not matter.
    ///
    /// # Errors
    /// If there is no such name; the nearest is suggested.
    pub fn named(name: &str) -> Result<Self> {
        let lower = name.to_lowercase();
        let found = NAMED.iter().find(|(names, _)| names.contains(&lower.as_str()));
        let Some((_, [embed_dims, num_layers, num_heads, feedforward_channels])) = found.copied() else {
            let all = || NAMED.iter().flat_map(|(names, _)| names.iter().copied());
            let hint = match nearest(name, all()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}; or give the four sizes", all().collect::<Vec<_>>().join(", ")),
            };
            return Err(Error::config(format!("unknown arch `{name}`; {hint}")));
        };
        Ok(Self { embed_dims, num_layers, num_heads, feedforward_channels })
    }
}

/// `arch` of a config.
#[derive(Debug, Clone, Copy)]
pub struct ArchConfig(pub VisionTransformerArch);

impl Default for ArchConfig {
    fn default() -> Self {
        let [embed_dims, num_layers, num_heads, feedforward_channels] = NAMED[1].1;
        Self(VisionTransformerArch { embed_dims, num_layers, num_heads, feedforward_channels })
    }
}

impl FromNode for ArchConfig {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let fail = |diag: Diag| (Self::default(), vec![diag.on(node)]);
        match &*node.kind {
            Kind::Map(_) => match read(node, key, &[]) {
                Ok(arch) => (Self(arch), Vec::new()),
                Err(diags) => (Self::default(), diags.0),
            },
            _ => match node.as_str().map(VisionTransformerArch::named) {
                Some(Ok(arch)) => (Self(arch), Vec::new()),
                Some(Err(error)) => fail(Diag::error(error.to_string())),
                None => fail(Diag::error("an arch is a name, as `base`, or a mapping of four sizes")),
            },
        }
    }
}

impl<'de> Deserialize<'de> for ArchConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for ArchConfig {
    fn schema_name() -> Cow<'static, str> {
        "VisionTransformerArchOrName".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let sizes = generator.subschema_for::<VisionTransformerArch>();
        let names: Vec<&str> = NAMED.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        json_schema!({ "anyOf": [{ "type": "string", "enum": names }, sizes] })
    }
}
