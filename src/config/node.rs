//! The tree of a config: values with the places they were written at.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::bounds::MAX_HISTORY;
use super::source::{Loc, Origin, Source};
use super::{Diag, Diags, de, yaml};

/// A value of a config, with its place and its history. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub kind: Arc<Kind>,
    /// Where it is written or used: the alias, the merge key or the reference, if it came through one.
    pub at: Loc,
    /// Where its text stands.
    pub def: Loc,
    /// The value this one replaced.
    pub(crate) before: Option<Arc<Node>>,
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key; numbers and booleans as they are spelt.
    pub text: String,
    /// Where it is written or used.
    pub at: Loc,
    /// Where its text stands.
    pub def: Loc,
}

/// The value of a [`Node`]: YAML 1.2 core schema, with text as the only kind of key.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`, and nothing else.
    Bool(bool),
    /// An integer that `i64` holds.
    Int(i64),
    /// A larger one.
    Uint(u64),
    /// A number with a point or an exponent, `.inf`, `.nan`.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order it was written.
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// The files that it was read from, as they were named.
    pub fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.add_files(&mut found);
        found
    }

    fn add_files(&self, found: &mut BTreeSet<String>) {
        let mut add = |loc: &Loc| {
            let source = loc.source();
            if source.origin == Origin::File && !found.contains(&source.name) {
                found.insert(source.name.clone());
            }
        };
        // What it replaced was read, too.
        for node in std::iter::successors(Some(self), |node| node.before.as_deref()) {
            [&node.at, &node.def].into_iter().for_each(&mut add);
        }
        self.entries().iter().for_each(|(key, _)| [&key.at, &key.def].into_iter().for_each(&mut add));
        self.entries().iter().for_each(|(_, value)| value.add_files(found));
        self.items().iter().for_each(|item| item.add_files(found));
    }
}

impl Kind {
    /// `a string`, `a mapping`, …
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Uint(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::Seq(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Equal values; a NaN equals itself, so that a tree does.
impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Uint(a), Self::Uint(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Seq(a), Self::Seq(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

/// Equal values; places and history do not count.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// Equal texts.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Node {
    /// A value that stands at `at`.
    pub fn new(kind: Kind, at: Loc) -> Self {
        Self { kind: Arc::new(kind), def: at.clone(), at, before: None }
    }

    /// The tree of a Rust value; `name` stands for the file in messages.
    ///
    /// # Errors
    /// When the value cannot be written as YAML.
    pub fn of(name: &str, value: &impl Serialize) -> Result<Self, Diags> {
        let text = yaml::write(value).map_err(|e| Diags::from(Diag::error(format!("{name}: {e}"))))?;
        yaml::parse(&Source::new(name, text, Origin::Text))
    }

    /// An empty mapping.
    pub fn empty(name: &str) -> Self {
        Self::new(Kind::Map(Vec::new()), Loc::whole(&Source::new(name, "", Origin::Text)))
    }

    /// Reads the value into a type. Unknown keys are refused; all mistakes are reported at once.
    ///
    /// # Errors
    /// One [`Diag`] for each mistake.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Diags> {
        de::read(self, None, &[])
    }

    /// Reads the value into a type and enforces what its schema says about ranges and lengths.
    ///
    /// # Errors
    /// One [`Diag`] for each mistake.
    pub fn read_checked<T: DeserializeOwned + schemars::JsonSchema>(&self) -> Result<T, Diags> {
        de::read_checked(self, None, &[])
    }

    /// The entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The entry of a mapping, with its key.
    pub fn entry(&self, key: &str) -> Option<(&Key, &Node)> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(k, v)| (k, v))
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &*self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &*self.kind {
            Kind::Seq(items) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &*self.kind {
            Kind::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        matches!(*self.kind, Kind::Null)
    }

    /// The place to point at: the text of the value, or for an environment variable the file that asks for it.
    pub fn place(&self) -> &Loc {
        match self.def.source().origin {
            Origin::Environment => &self.at,
            _ => &self.def,
        }
    }

    /// Whether a place is that of this value, or of one below it.
    pub(crate) fn holds(&self, place: &Loc) -> bool {
        let mut below = self.entries().iter().map(|(_, value)| value).chain(self.items());
        self.place() == place || below.any(|value| value.holds(place))
    }

    /// The value as YAML, in the order it was written; read again it gives an equal tree.
    pub fn to_yaml(&self) -> String {
        // Writing a tree of plain values into a string cannot fail; JSON, which is YAML too, is the way out if it does.
        yaml::write(self).unwrap_or_else(|_| serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// The value on one line, for messages; long ones are cut.
    pub fn summary(&self) -> String {
        let text = match &*self.kind {
            Kind::Null => "null".to_owned(),
            Kind::Map(entries) => match entries.iter().find(|(k, _)| k.text == "type") {
                Some((_, name)) => format!("{{type: {}, …}}", name.summary()),
                None if entries.is_empty() => "{}".to_owned(),
                None => format!("a mapping of {}", entries.len()),
            },
            Kind::Seq(items) if items.iter().all(|i| i.entries().is_empty() && i.items().is_empty()) => {
                format!("[{}]", items.iter().map(Node::summary).collect::<Vec<_>>().join(", "))
            }
            Kind::Seq(items) => format!("a list of {}", items.len()),
            Kind::Str(_) | Kind::Bool(_) | Kind::Int(_) | Kind::Uint(_) | Kind::Float(_) => {
                self.to_yaml().trim_end().to_owned()
            }
        };
        match text.char_indices().nth(60) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    /// The same value in a new place, with this one as its history.
    pub(crate) fn replacing(mut self, old: &Node) -> Self {
        let mut old = old.clone();
        if std::iter::successors(Some(&old), |n| n.before.as_deref()).nth(MAX_HISTORY).is_some() {
            old.before = None;
        }
        self.before = Some(Arc::new(old));
        self
    }

    pub(crate) fn with_kind(&self, kind: Kind) -> Self {
        Self { kind: Arc::new(kind), ..self.clone() }
    }

    /// The same mapping with a `type` that it leaves out.
    pub(crate) fn typed(&self, name: &str) -> Self {
        let key = Key { text: "type".to_owned(), at: self.at.clone(), def: self.def.clone() };
        let name = (key, self.with_kind(Kind::Str(name.to_owned())));
        self.with_kind(Kind::Map([name].into_iter().chain(self.entries().iter().cloned()).collect()))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match &*self.kind {
            Kind::Null => s.serialize_unit(),
            Kind::Bool(v) => s.serialize_bool(*v),
            Kind::Int(v) => s.serialize_i64(*v),
            Kind::Uint(v) => s.serialize_u64(*v),
            Kind::Float(v) => s.serialize_f64(*v),
            Kind::Str(v) => s.serialize_str(v),
            Kind::Seq(items) => {
                let mut seq = s.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Kind::Map(entries) => {
                let mut map = s.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(&key.text, value))?;
                map.end()
            }
        }
    }
}
