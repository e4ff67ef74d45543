//! Sizes of a network that a config gives by a name or by numbers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::config::{Diag, FromNode, Key, Kind, Node, read, receive};

/// The sizes of a network, some of which have a name.
pub trait Arch: DeserializeOwned + JsonSchema + Clone + Default + 'static {
    /// Every name in lower case, with its sizes.
    fn names() -> Vec<(&'static str, Self)>;

    /// The sizes under one of MMPretrain's names, as `base`, `b`, `deit-tiny`; case does not matter.
    ///
    /// # Errors
    /// If there is no such name; the nearest is suggested.
    fn named(name: &str) -> Result<Self> {
        let (lower, names) = (name.to_lowercase(), Self::names());
        if let Some((_, sizes)) = names.iter().find(|(known, _)| *known == lower) {
            return Ok(sizes.clone());
        }
        let all = || names.iter().map(|(known, _)| *known);
        let hint = match nearest(name, all()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}; or give the sizes", all().collect::<Vec<_>>().join(", ")),
        };
        Err(Error::config(format!("unknown arch `{name}`; {hint}")))
    }
}

/// `arch` of a config: a name, or a mapping of the sizes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchConfig<A>(pub A);

impl<A: Arch> FromNode for ArchConfig<A> {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let fail = |diag: Diag| (Self::default(), vec![diag.on(node)]);
        match &*node.kind {
            Kind::Map(_) => match read(node, key, &[]) {
                Ok(arch) => (Self(arch), Vec::new()),
                Err(diags) => (Self::default(), diags.0),
            },
            _ => match node.as_str().map(A::named) {
                Some(Ok(arch)) => (Self(arch), Vec::new()),
                Some(Err(error)) => fail(Diag::error(error.to_string())),
                None => fail(Diag::error("an arch is a name, as `base`, or a mapping of the sizes")),
            },
        }
    }
}

impl<'de, A: Arch> Deserialize<'de> for ArchConfig<A> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl<A: Arch> JsonSchema for ArchConfig<A> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrName", A::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let sizes = generator.subschema_for::<A>();
        let names: Vec<&str> = A::names().into_iter().map(|(name, _)| name).collect();
        json_schema!({ "anyOf": [{ "type": "string", "enum": names }, sizes] })
    }
}
