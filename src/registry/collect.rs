//! Errors of several parts, told together, each at the place that it speaks of.

use crate::base::{Error, Result};
use crate::config::source::Origin;
use crate::config::{Diag, Diags, Node};

/// The errors of parts that are built one after the other, so that all of them are told at once.
#[derive(Debug, Default)]
pub struct Collected(pub Diags);

impl Collected {
    /// The value; an error is kept.
    pub fn take<V>(&mut self, result: Result<V>) -> Option<V> {
        result.map_err(|error| self.add(error, None)).ok()
    }

    /// The same; an error without a place belongs to `node`.
    pub fn take_on<V>(&mut self, result: Result<V>, node: &Node) -> Option<V> {
        result.map_err(|error| self.add(error, Some(node))).ok()
    }

    fn add(&mut self, error: Error, node: Option<&Node>) {
        let absent = error.is_absence();
        match error.diags() {
            Ok(diags) => self.0.extend(diags.0),
            Err(other) => self.push(other.to_string(), absent, node),
        }
    }

    fn push(&mut self, text: String, absent: bool, node: Option<&Node>) {
        let diag = match node {
            Some(node) => Diag::error(text.as_str()).on(blamed(node, &text)),
            None => Diag::error(text),
        };
        self.0.extend([Diag { absent, ..diag }]);
    }

    /// The value, if nothing went wrong.
    ///
    /// # Errors
    /// Everything that did.
    pub fn or<V>(self, value: V) -> Result<V> {
        if self.0.0.is_empty() { Ok(value) } else { Err(self.0.into()) }
    }
}

/// The part of `node` that a complaint about it speaks of: a text that it quotes, or a key with its value
/// (`` `interval: 0` ``); else a path that it names; else the value of a key that it names; else the type that it begins
/// with; else what an override set in it; else the `type`.
pub fn blamed<'n>(node: &'n Node, message: &str) -> &'n Node {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let mut best: Option<(u8, &Node)> = None;
    leaves(node, None, &mut |key, value| {
        let begins = |text: &str| message.strip_prefix(text).is_some_and(|rest| rest.starts_with(':'));
        let is_path = |text: &str| begins(text) || text.contains(['/', '.']) && message.contains(text);
        let rests = |key| quoted.iter().filter_map(move |q: &&str| q.strip_prefix(key));
        let with_value = |key, text| rests(key).any(|rest| rest.strip_prefix(": ") == Some(text));
        let rank = match (value.as_str(), key) {
            (Some(text), Some("type")) => u8::from(quoted.first() == Some(&text)),
            (_, Some("type")) => 0,
            (Some(text), _) if quoted.contains(&text) => 4,
            (Some(text), Some(key)) if with_value(key, text) => 4,
            (Some(text), _) if is_path(text) => 3,
            (_, Some(key)) if rests(key).any(|rest| rest.is_empty() || rest.starts_with(": ")) => 2,
            _ => 0,
        };
        if rank > best.map_or(0, |(rank, _)| rank) {
            best = Some((rank, value));
        }
    });
    best.map_or_else(|| overridden(node).or(node.get("type")).unwrap_or(node), |(_, found)| found)
}

/// The one value that an override has set below: without it there was nothing to complain about.
fn overridden(node: &Node) -> Option<&Node> {
    let set = |node: &Node| node.def.source().origin == Origin::Override;
    if set(node) {
        let whole = !node.entries().is_empty() || !node.items().is_empty();
        return Some(node).filter(|_| !whole && !node.is_null());
    }
    node.entries().iter().map(|(_, value)| value).chain(node.items()).find_map(overridden)
}

/// Calls `f` with every value below `node`, and the key that it stands under.
fn leaves<'n>(node: &'n Node, key: Option<&str>, f: &mut dyn FnMut(Option<&str>, &'n Node)) {
    f(key, node);
    for (key, value) in node.entries() {
        leaves(value, Some(&key.text), f);
    }
    for item in node.items() {
        leaves(item, key, f);
    }
}
