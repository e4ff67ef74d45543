//! Pieces of a tree, taken out and put together again at the places they have.

use crate::config::{Key, Kind, Node};

/// A mapping from which entries are taken; who looks last finds what nobody knew.
#[derive(Default)]
pub(super) struct Taken {
    whole: Option<Node>,
    /// The entries that are left.
    pub rest: Vec<(Key, Node)>,
}

impl Taken {
    pub(super) fn of(node: &Node) -> Self {
        Self { whole: Some(node.clone()), rest: node.entries().to_vec() }
    }

    pub(super) fn peek(&self, key: &str) -> Option<&Node> {
        self.rest.iter().find(|(own, _)| own.text == key).map(|(_, value)| value)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<(Key, Node)> {
        let at = self.rest.iter().position(|(own, _)| own.text == key)?;
        Some(self.rest.remove(at))
    }

    /// The entries of these keys, as they are.
    pub(super) fn take_all(&mut self, keys: &[&str]) -> Vec<(Key, Node)> {
        keys.iter().filter_map(|key| self.take(key)).collect()
    }

    /// The entries of these keys that are not null, under their names of today.
    pub(super) fn renamed(&mut self, names: &[(&str, &str)]) -> Vec<(Key, Node)> {
        let one = |(old, today): &(&str, &str)| {
            let (key, value) = self.take(old).filter(|(_, value)| !value.is_null())?;
            Some((Key::like_key(&key, today), value))
        };
        names.iter().filter_map(one).collect()
    }

    /// A number that is taken, with its place.
    pub(super) fn number(&mut self, key: &str) -> Option<(Node, f64)> {
        let (_, node) = self.take(key)?;
        let number = node.as_f64()?;
        Some((node, number))
    }

    /// What is left, as a thing of this type.
    pub(super) fn retyped(mut self, name: &str) -> Node {
        for (_, value) in self.rest.iter_mut().filter(|(key, _)| key.text == "type") {
            *value = text(value, name);
        }
        self.whole()
    }

    /// What is left, in the place of the whole.
    pub(super) fn whole(self) -> Node {
        match self.whole {
            Some(whole) if !matches!(*whole.kind, Kind::Map(_)) => whole,
            Some(whole) => whole.with_kind(Kind::Map(self.rest)),
            None => Node::empty("config"),
        }
    }
}

impl Key {
    /// A key in the place of a value.
    pub(super) fn like(node: &Node, name: &str) -> Self {
        Self { text: name.to_owned(), at: node.at.clone(), def: node.def.clone() }
    }

    /// A key in the place of another one.
    pub(super) fn like_key(key: &Self, name: &str) -> Self {
        Self { text: name.to_owned(), ..key.clone() }
    }
}

impl Node {
    /// A text in the place of a key.
    pub(super) fn at_key(key: &Key, text: &str) -> Self {
        Self::new(Kind::Str(text.to_owned()), key.def.clone())
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match *self.kind {
            Kind::Int(number) => Some(number as f64),
            Kind::Uint(number) => Some(number as f64),
            Kind::Float(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        match *self.kind {
            Kind::Int(number) => u64::try_from(number).ok(),
            Kind::Uint(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match *self.kind {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The value on one line, whole.
    pub(super) fn flow(&self) -> String {
        match &*self.kind {
            Kind::Map(entries) => {
                let inner: Vec<_> =
                    entries.iter().map(|(key, v)| format!("{}: {}", key.text, v.flow())).collect();
                format!("{{{}}}", inner.join(", "))
            }
            Kind::Seq(items) => {
                format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", "))
            }
            Kind::Str(text) if text.contains([',', ':', '{', '[']) => format!("{text:?}"),
            Kind::Str(text) => text.clone(),
            _ => self.summary(),
        }
    }
}

/// A mapping in the place of a key.
pub(super) fn map(key: &Key, entries: impl IntoIterator<Item = (Key, Node)>) -> Node {
    Node::new(Kind::Map(entries.into_iter().collect()), key.def.clone())
}

/// A list in the place of a key.
pub(super) fn list(key: &Key, items: Vec<Node>) -> Node {
    Node::new(Kind::Seq(items), key.def.clone())
}

/// A text in the place of a value.
pub(super) fn text(at: &Node, text: &str) -> Node {
    Node { before: None, ..at.with_kind(Kind::Str(text.to_owned())) }
}

/// A mapping of texts, numbers and flags in the place of a value: `{type: …}` of one schedule or transform.
pub(super) fn typed(at: &Node, name: &str, entries: Vec<(&str, Kind)>) -> Node {
    let value = |kind| Node::new(kind, at.def.clone());
    let first = (Key::like(at, "type"), value(Kind::Str(name.to_owned())));
    let rest = entries.into_iter().map(|(key, kind)| (Key::like(at, key), value(kind)));
    Node::new(Kind::Map([first].into_iter().chain(rest).collect()), at.def.clone())
}
