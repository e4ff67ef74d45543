//! A checked, not yet built thing of a config.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::table::{self, a, entries, list};
use super::{BuildCx, Collected, Entry, IGNORED, Registrable, alias, parts, schema};
use crate::base::memory::settled;
use crate::base::suggest::nearest;
use crate::base::{Error, Result, caught_from};
use crate::config::{Diag, Diags, FromNode, Key, Kind, Node, fields_of, parse, read_checked, receive};

/// `{type: Name, …}`: a thing of kind `T` whose name and parameters are checked, and that is not built yet.
///
/// It can be read from a [`Node`] only. A spec that was refused never reaches anybody: the reading as a whole fails.
pub struct Spec<T: ?Sized + Registrable> {
    /// The keys that every spec of this kind may carry.
    pub extra: T::Extra,
    node: Node,
    entry: Option<&'static Entry>,
}

impl<T: ?Sized + Registrable> Spec<T> {
    /// The spec that a node describes.
    ///
    /// # Errors
    /// All that is wrong with it and with the specs inside of it.
    pub fn from_node(node: &Node) -> Result<Self, Diags> {
        Self::checked(node, None)
    }

    /// The spec of a YAML text, for defaults in code: `Spec::parse("{type: IterTimerHook}")`.
    ///
    /// # Errors
    /// As [`Spec::from_node`].
    pub fn parse(text: &str) -> Result<Self, Diags> {
        Self::from_node(&parse("default", text)?)
    }

    /// The registered name.
    pub fn name(&self) -> &str {
        self.entry.map_or("?", |entry| entry.name)
    }

    /// The registry's entry.
    pub fn entry(&self) -> Option<&'static Entry> {
        self.entry
    }

    /// The mapping, with `type` and the extra keys.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Makes the thing.
    ///
    /// # Errors
    /// What the builder says, as [`Error::Config`] with the place of the spec.
    pub fn build(&self, cx: &mut BuildCx) -> Result<Box<T>> {
        let Some(entry) = self.entry else { return Err(Error::config("this spec was refused")) };
        let made = caught_from("its builder", || entry.maker.build(&self.node, &reserved::<T>(), cx));
        let placed = |error| parts::placed(&self.node, entry, error);
        let made = made.and_then(|made| settled().map(|()| made)).map_err(placed)?;
        let made: Result<Box<Box<T>>, Box<dyn Any>> = made.downcast();
        let made =
            made.map_err(|_| Error::config(format!("`{}` does not build {}", entry.name, a(T::KIND))))?;
        T::finish(*made, &self.extra, cx).map_err(placed)
    }

    /// Makes all of them, in order.
    ///
    /// # Errors
    /// The errors of all that cannot be made, together.
    pub fn build_all<'a>(specs: impl IntoIterator<Item = &'a Self>, cx: &mut BuildCx) -> Result<Vec<Box<T>>> {
        let mut errors = Collected::default();
        let made: Vec<_> = specs.into_iter().filter_map(|spec| errors.take(spec.build(cx))).collect();
        errors.or(made)
    }

    fn checked(node: &Node, key: Option<&Key>) -> Result<Self, Diags> {
        let node = &spelt_out::<T>(node);
        let name = name_of::<T>(node, key)?;
        let text = name.as_str().unwrap_or_default();
        let entry = table::lookup::<T>(name, text)?;
        let reserved = reserved::<T>();
        let extra = node.with_kind(Kind::Map(
            node.entries()
                .iter()
                .filter(|(k, _)| reserved[2..].contains(&k.text.as_str()))
                .cloned()
                .collect(),
        ));
        let extra = read_checked::<T::Extra>(&extra, key, &[]);
        match (extra, entry.maker.check(node, key, &reserved)) {
            (Ok(extra), Ok(())) => Ok(Self { extra, node: node.clone(), entry: Some(entry) }),
            (Err(diags), Ok(())) | (Ok(_), Err(diags)) => Err(diags),
            (Err(mut diags), Err(more)) => {
                diags.extend(more.0);
                Err(diags)
            }
        }
    }
}

/// The mapping that a list stands for, of kinds that have such lists; a mapping with the type that it leaves out, of
/// kinds that have a default; any other node as it is.
fn spelt_out<T: ?Sized + Registrable>(node: &Node) -> Node {
    match (&*node.kind, T::LIST, T::DEFAULT) {
        (Kind::Seq(_), Some((list_type, list)), _) => {
            let key = Key { text: list.to_owned(), at: node.at.clone(), def: node.def.clone() };
            node.with_kind(Kind::Map(vec![(key, node.clone())])).typed(list_type)
        }
        (Kind::Map(_), _, Some(default)) if node.get("type").is_none() => node.typed(default),
        _ => node.clone(),
    }
}

/// The keys of a spec that are not parameters of its type: `type`, `_scope_` and the extra ones.
fn reserved<T: ?Sized + Registrable>() -> Vec<&'static str> {
    ["type", IGNORED].iter().chain(fields_of::<T::Extra>()).copied().collect()
}

/// The value of `type`.
fn name_of<'n, T: ?Sized + Registrable>(node: &'n Node, key: Option<&Key>) -> Result<&'n Node, Diags> {
    let known: Vec<_> = entries(T::KIND).map(|entry| entry.name).collect();
    let diag = match (&*node.kind, node.get("type")) {
        (Kind::Map(_), Some(name)) if name.as_str().is_some() => return Ok(name),
        (Kind::Map(_), Some(name)) => {
            Diag::error(format!("`type` is the name of {}, not {}", a(T::KIND), name.kind.name())).on(name)
        }
        (Kind::Map(entries), None) => {
            let diag = Diag::error(format!("this {} has no `type`", T::KIND));
            let like = entries.iter().find(|(key, _)| nearest(&key.text, ["type"]).is_some());
            match (like, key) {
                (Some((wrong, _)), _) => diag.on_key(wrong).fix("type"),
                // A mapping of the command line stands under a key of a file.
                (None, Some(key)) if key.at.same_source(&node.at) => diag.on_key(key),
                (None, _) => diag.on(node),
            }
        }
        (other, _) => {
            let diag =
                Diag::error(format!("{} is written `{{type: …}}`, and this is {}", a(T::KIND), other.name()));
            let named = node.as_str().and_then(|name| {
                let exact = known.iter().copied().find(|known| *known == name);
                exact.or_else(|| alias(T::KIND, name)).or_else(|| nearest(name, known.iter().copied()))
            });
            match (named, key) {
                (Some(name), _) => diag.on(node).fix(format!("{{type: {name}}}")),
                (None, Some(key)) if node.is_null() => diag.on_key(key),
                _ => diag.on(node),
            }
        }
    };
    Err(diag.note(list::<T>(&known)).into())
}

impl<T: ?Sized + Registrable> FromNode for Spec<T> {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        match Self::checked(node, key) {
            Ok(spec) => (spec, Vec::new()),
            Err(diags) => (Self { extra: T::Extra::default(), node: node.clone(), entry: None }, diags.0),
        }
    }
}

impl<'de, T: ?Sized + Registrable> Deserialize<'de> for Spec<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl<T: ?Sized + Registrable> Serialize for Spec<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.node.serialize(s)
    }
}

/// Only says which kind: the branches come from the registry.
impl<T: ?Sized + Registrable> JsonSchema for Spec<T> {
    fn schema_name() -> Cow<'static, str> {
        T::KIND.into()
    }
    fn schema_id() -> Cow<'static, str> {
        format!("{:?}", TypeId::of::<T>()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let forms: &[&str] = if T::LIST.is_some() { &["object", "array"] } else { &["object"] };
        json_schema!({ "type": forms, (schema::KIND): T::KIND })
    }
}

impl<T: ?Sized + Registrable> Clone for Spec<T> {
    fn clone(&self) -> Self {
        Self { extra: self.extra.clone(), node: self.node.clone(), entry: self.entry }
    }
}

/// Equal as written.
impl<T: ?Sized + Registrable> PartialEq for Spec<T> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl<T: ?Sized + Registrable> fmt::Debug for Spec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` ({})", T::KIND, self.name(), self.node.at)
    }
}
