//! Reading a [`Node`] into a Rust type: a serde deserializer that knows places, refuses unknown keys and finds *all*
//! mistakes.
//!
//! Serde leaves a struct at its first wrong value. So a reading is a loop: what was refused is recorded and left out,
//! and the reading starts again, until nothing new is refused. A complaint that only follows from such an omission is
//! dropped.

mod access;
mod fields;
pub(crate) mod hand_off;
mod harmless;
mod key_index;
mod limits;
mod messages;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};

use super::{Diag, Diags, Key, Kind, Node};
use crate::registry::unscoped;
use access::{Entries, Items, Variant};
pub(crate) use fields::fields_of;
pub(crate) use limits::broken_rule;
pub use limits::check_ranges;
use limits::limits;
pub(crate) use messages::empty_above;

/// Enough mistakes for one run.
const ENOUGH: usize = 200;

/// Reads `node`, which stands under `key`. Of its own mapping, the keys of `reserved` are somebody else's.
pub(crate) fn read<T: DeserializeOwned>(
    node: &Node,
    key: Option<&Key>,
    reserved: &[&str],
) -> Result<T, Diags> {
    let reading = key_index::Reading::start();
    let cx = Cx::default();
    loop {
        match T::deserialize(De { node, key, reserved, cx: &cx }) {
            Ok(value) if cx.diags.borrow().0.is_empty() => return Ok(value),
            Err(Fault::Retry) if cx.diags.borrow().0.len() < ENOUGH => continue,
            refused => return Err(cx.finish(refused.err(), reading, node, key)),
        }
    }
}

/// The same, and enforces the ranges and lengths of the type's schema.
pub(crate) fn read_checked<T: DeserializeOwned + schemars::JsonSchema>(
    node: &Node,
    key: Option<&Key>,
    reserved: &[&str],
) -> Result<T, Diags> {
    let value = read(node, key, reserved);
    let beyond = limits(node, key, schemars::schema_for!(T).as_value());
    match value {
        Ok(value) if beyond.is_empty() => Ok(value),
        value => Err(with_limits(value.err(), beyond)),
    }
}

/// The complaints of a reading, if it had any, with those of the limits.
fn with_limits(diags: Option<Diags>, beyond: Vec<Diag>) -> Diags {
    let Some(mut diags) = diags else { return Diags(beyond) };
    // The schema has the bounds of Rust's integers too, and says it better.
    diags.0.retain(|diag| !beyond.iter().any(|other| other.at == diag.at));
    diags.extend(beyond);
    diags
}

/// What one reading has found so far.
#[derive(Default)]
struct Cx {
    diags: RefCell<Diags>,
    /// Refused values, by address: they are left out from now on.
    omitted: RefCell<BTreeSet<*const Node>>,
    /// Values that were taken in spite of complaints, by address.
    spoilt: RefCell<BTreeSet<*const Node>>,
}

/// Whether something holds of a value or of one below it.
fn any(node: &Node, holds: &dyn Fn(&Node) -> bool) -> bool {
    let mut below = node.entries().iter().map(|(_, value)| value).chain(node.items());
    holds(node) || below.any(|value| any(value, holds))
}

impl Cx {
    /// All complaints of a reading, with the last.
    fn finish(
        &self,
        fault: Option<Fault>,
        reading: key_index::Reading,
        node: &Node,
        key: Option<&Key>,
    ) -> Diags {
        match fault {
            None => {}
            Some(_) if self.spoils(node) => {}
            Some(fault) => self.push(fault.into_diag(node, key)),
        }
        let mut diags = self.diags.take();
        reading.finish(&mut diags);
        diags
    }

    fn push(&self, diag: Option<Diag>) {
        self.diags.borrow_mut().extend(diag);
    }

    /// Whether so much is wrong that more would not be read.
    fn is_full(&self) -> bool {
        self.diags.borrow().is_full()
    }

    fn omit(&self, node: &Node) {
        self.omitted.borrow_mut().insert(node);
    }

    fn omits(&self, node: &Node) -> bool {
        self.omitted.borrow().contains(&std::ptr::from_ref(node))
    }

    /// Whether the value, or a part of it, was complained of: what its type says of the rest is no news.
    fn spoils(&self, node: &Node) -> bool {
        let (omitted, spoilt) = (self.omitted.borrow(), self.spoilt.borrow());
        let has =
            |node: &Node| [&*omitted, &*spoilt].iter().any(|set| set.contains(&std::ptr::from_ref(node)));
        (!omitted.is_empty() || !spoilt.is_empty()) && any(node, &has)
    }
}

/// Why a value could not be read.
#[derive(Debug)]
enum Fault {
    /// A complaint that is not recorded yet.
    Complaint(Box<Diag>),
    /// A key that must be there and is not.
    Missing(&'static str),
    /// It only follows from what is recorded.
    Derived,
    /// All is recorded: start again.
    Retry,
}

impl Fault {
    fn into_diag(self, node: &Node, key: Option<&Key>) -> Option<Diag> {
        match self {
            Self::Complaint(diag) if diag.at.is_none() => Some(diag.on(node)),
            Self::Complaint(diag) => Some(*diag),
            Self::Missing(field) => Some(messages::missing(node, key, field)),
            Self::Derived | Self::Retry => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complaint(diag) => f.write_str(&diag.message),
            Self::Missing(field) => write!(f, "`{field}` is missing"),
            Self::Derived | Self::Retry => f.write_str("already reported"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Diag> for Fault {
    fn from(diag: Diag) -> Self {
        Self::Complaint(Box::new(diag))
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Diag::error(text.to_string()).into()
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Diag::error(format!("expected {expected}, found {found}")).into()
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Diag::error(format!(
            "{} does not fit: expected {}",
            messages::found(&found),
            messages::range(expected)
        ))
        .into()
    }
    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Diag::error(format!("expected {expected}, found {len} items")).into()
    }
    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// One value, seen by serde.
#[derive(Clone, Copy)]
struct De<'a> {
    node: &'a Node,
    key: Option<&'a Key>,
    reserved: &'a [&'a str],
    cx: &'a Cx,
}

impl<'a> De<'a> {
    fn child(self, node: &'a Node, key: Option<&'a Key>) -> Self {
        De { node, key, reserved: &[], cx: self.cx }
    }

    fn wanted(self, what: &str) -> Fault {
        messages::wanted(self.node, self.key, what).into()
    }

    fn int<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match *self.node.kind {
            Kind::Int(v) => visitor.visit_i64(v),
            Kind::Uint(v) => visitor.visit_u64(v),
            _ => Err(self.wanted("an integer")),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match *self.node.kind {
            Kind::Float(v) => visitor.visit_f64(v),
            Kind::Int(v) => visitor.visit_f64(v as f64),
            Kind::Uint(v) => visitor.visit_f64(v as f64),
            _ => Err(self.wanted("a number")),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &*self.node.kind {
            Kind::Str(text) => visitor.visit_str(text),
            _ => Err(self.wanted("a string")),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V, what: &str) -> Result<V::Value, Fault> {
        let Kind::Seq(items) = &*self.node.kind else { return Err(self.wanted(what)) };
        let mut access = Items::new(self, items);
        let value = visitor.visit_seq(&mut access).map_err(|fault| access.blame(fault))?;
        // A tuple takes the first two of three unless somebody counts.
        if access.rest() > 0 { Err(self.wanted(what)) } else { Ok(value) }
    }

    /// A mapping; with `fields`, all other keys are reported and not passed on.
    fn map<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (known, misspelt) = self.sorted(fields)?;
        let mut access = Entries::new(self, known);
        let result = visitor.visit_map(&mut access);
        result.map_err(|fault| match access.blame(fault) {
            Fault::Missing(field) if misspelt.contains(&field) => Fault::Derived,
            fault => fault,
        })
    }

    /// The known entries, and the fields that the others seem to mean: what `map` does for all types alike.
    fn sorted(self, fields: Option<&'static [&'static str]>) -> Result<Sorted<'a>, Fault> {
        let Kind::Map(entries) = &*self.node.kind else { return Err(self.wanted("a mapping")) };
        fields.iter().for_each(|fields| key_index::section(self.node, self.key, fields));
        let mut misspelt = Vec::new();
        let mut known = Vec::with_capacity(entries.len());
        for (key, value) in entries.iter().filter(|(key, _)| !self.reserved.contains(&key.text.as_str())) {
            match fields {
                Some(fields)
                    if !fields.contains(&key.text.as_str()) && harmless::passes(&key.text, value) => {}
                Some(fields) if !fields.contains(&key.text.as_str()) => {
                    if self.cx.is_full() {
                        continue;
                    }
                    let names: Vec<&str> = fields.iter().chain(self.reserved).copied().collect();
                    misspelt.extend(messages::guess(&key.text, &names));
                    key_index::stray(self.node, key);
                    self.cx.push(Some(messages::unknown_key(self.node, self.key, (key, value), &names)));
                }
                _ => known.push((key, value)),
            }
        }
        Ok((known, misspelt))
    }
}

/// Entries of a mapping, and names of fields.
type Sorted<'a> = (Vec<(&'a Key, &'a Node)>, Vec<&'a str>);

/// Places a complaint that has no place yet.
fn placed<T>(result: Result<T, Fault>, node: &Node, key: Option<&Key>) -> Result<T, Fault> {
    result.map_err(|fault| match fault {
        Fault::Complaint(_) | Fault::Missing(_) => match fault.into_diag(node, key) {
            Some(diag) => diag.into(),
            None => Fault::Derived,
        },
        other => other,
    })
}

macro_rules! scalars {
    ($($method:ident => $reader:ident),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            placed(self.$reader(visitor), self.node, self.key)
        }
    )+};
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Fault;

    scalars! {
        deserialize_i8 => int, deserialize_i16 => int, deserialize_i32 => int, deserialize_i64 => int,
        deserialize_u8 => int, deserialize_u16 => int, deserialize_u32 => int, deserialize_u64 => int,
        deserialize_i128 => int, deserialize_u128 => int, deserialize_f32 => float, deserialize_f64 => float,
        deserialize_char => text, deserialize_str => text, deserialize_string => text
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &*self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(v) => visitor.visit_bool(*v),
            Kind::Int(v) => visitor.visit_i64(*v),
            Kind::Uint(v) => visitor.visit_u64(*v),
            Kind::Float(v) => visitor.visit_f64(*v),
            Kind::Str(v) => visitor.visit_str(v),
            Kind::Seq(_) => self.list(visitor, "a list"),
            Kind::Map(_) => self.map(None, visitor),
        };
        placed(result, self.node, self.key)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match *self.node.kind {
            Kind::Bool(v) => placed(visitor.visit_bool(v), self.node, self.key),
            _ => Err(self.wanted("true or false")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_null() { visitor.visit_unit() } else { Err(self.wanted("null")) }
    }

    /// A type without parameters: a mapping without keys.
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.map(Some(&[]), de::IgnoredAny).and_then(|_| visitor.visit_unit())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name != hand_off::NAME {
            return visitor.visit_newtype_struct(self);
        }
        let value = hand_off::borrow(self.node, self.key, || visitor.visit_unit());
        let complaints = hand_off::complaints();
        if !complaints.is_empty() {
            self.cx.spoilt.borrow_mut().insert(self.node);
        }
        complaints.into_iter().for_each(|diag| self.cx.push(Some(diag)));
        value
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        placed(self.list(visitor, "a list"), self.node, self.key)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        placed(self.list(visitor, &format!("a list of {len}")), self.node, self.key)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        placed(self.map(None, visitor), self.node, self.key)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        placed(self.map(Some(fields), visitor), self.node, self.key)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (name, key, content) = match &*self.node.kind {
            Kind::Str(name) => (name, None, None),
            Kind::Map(entries) if entries.len() == 1 => (
                &entries[0].0.text,
                Some(&entries[0].0),
                Some(self.child(&entries[0].1, Some(&entries[0].0))),
            ),
            _ => return Err(self.wanted(&messages::one_of(variants))),
        };
        let name = if content.is_none() { unscoped(name) } else { name };
        if !variants.contains(&name) {
            return Err(messages::unknown_word(self.node, self.key, key, name, variants).into());
        }
        placed(visitor.visit_enum(Variant { name, content, whole: self }), self.node, self.key)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(self.wanted("binary data"))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(self.wanted("binary data"))
    }
}

fn word(text: &str) -> StrDeserializer<'_, Fault> {
    text.into_deserializer()
}
