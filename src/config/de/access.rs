//! Lists, mappings and enum variants for serde; here refused values are recorded and left out.

use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{Cx, De, Fault, word};
use crate::config::{Key, Node};

/// Reads a child; a refusal is recorded, and the child is left out from then on.
fn child<'de, S: DeserializeSeed<'de>>(seed: S, de: De<'_>) -> Result<S::Value, Fault> {
    seed.deserialize(de).map_err(|fault| refused(de, fault))
}

fn refused(de: De<'_>, fault: Fault) -> Fault {
    // What checks a whole after it was read may miss what was refused in it.
    let mut inside = de.node.entries().iter().map(|(_, value)| value).chain(de.node.items());
    let fault = blame(fault, inside.any(|value| de.cx.omits(value)));
    if !matches!(fault, Fault::Retry) {
        if !de.cx.spoils(de.node) {
            de.cx.push(fault.into_diag(de.node, de.key));
        }
        de.cx.omit(de.node);
    }
    Fault::Retry
}

/// A container that lacks a refused child may well be refused for it: that is no news.
fn blame(fault: Fault, incomplete: bool) -> Fault {
    match fault {
        Fault::Complaint(_) | Fault::Missing(_) if incomplete => Fault::Derived,
        other => other,
    }
}

pub(super) struct Items<'a> {
    whole: De<'a>,
    rest: std::slice::Iter<'a, Node>,
    incomplete: bool,
}

impl<'a> Items<'a> {
    pub(super) fn new(whole: De<'a>, items: &'a [Node]) -> Self {
        Self { whole, rest: items.iter(), incomplete: false }
    }

    pub(super) fn rest(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn blame(&self, fault: Fault) -> Fault {
        blame(fault, self.incomplete)
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let cx: &Cx = self.whole.cx;
        for item in self.rest.by_ref() {
            if cx.omits(item) {
                self.incomplete = true;
                continue;
            }
            return child(seed, self.whole.child(item, None)).map(Some);
        }
        Ok(None)
    }
}

pub(super) struct Entries<'a> {
    whole: De<'a>,
    rest: std::vec::IntoIter<(&'a Key, &'a Node)>,
    next: Option<(&'a Key, &'a Node)>,
    incomplete: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(whole: De<'a>, entries: Vec<(&'a Key, &'a Node)>) -> Self {
        Self { whole, rest: entries.into_iter(), next: None, incomplete: false }
    }

    pub(super) fn blame(&self, fault: Fault) -> Fault {
        blame(fault, self.incomplete)
    }
}

impl<'de> MapAccess<'de> for &mut Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        for (key, value) in self.rest.by_ref() {
            if self.whole.cx.omits(value) {
                self.incomplete = true;
                continue;
            }
            self.next = Some((key, value));
            return seed.deserialize(word(&key.text)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        // Serde asks for a value only after its key.
        let (key, value) = self.next.take().ok_or(Fault::Derived)?;
        child(seed, self.whole.child(value, Some(key)))
    }
}

/// `word`, or `word: content`.
pub(super) struct Variant<'a> {
    pub(super) name: &'a str,
    pub(super) content: Option<De<'a>>,
    pub(super) whole: De<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let deserializer: serde::de::value::StrDeserializer<'a, Fault> = self.name.into_deserializer();
        seed.deserialize(deserializer).map(|value| (value, self))
    }
}

impl Variant<'_> {
    fn content(&self) -> Result<De<'_>, Fault> {
        self.content.ok_or_else(|| self.whole.wanted(&format!("a mapping `{}: …`", self.name)))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            Some(_) => Err(self.whole.wanted(&format!("the word `{}` alone", self.name))),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        serde::Deserializer::deserialize_tuple(self.content()?, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        serde::Deserializer::deserialize_struct(self.content()?, "", fields, visitor)
    }
}
