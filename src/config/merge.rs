//! One mapping laid over another. Every replaced value stays reachable as the history of its successor.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Diag, Diags, Key, Kind, Node};

/// In a mapping: start afresh instead of merging with the base's.
pub(super) const DELETE: &str = "_delete_";

/// `child` over `base`: mappings merge key by key, anything else replaces.
///
/// # Errors
/// A mapping over a value that is none, unless it says `_delete_: true`.
pub(super) fn merge(base: &Node, child: Node) -> Result<Node, Diags> {
    let mut diags = Diags::default();
    let node = over(base, child, None, &mut diags);
    if diags.0.is_empty() { Ok(node) } else { Err(diags) }
}

/// Whether `node` is `ancestor`, or replaced it at some time.
pub(super) fn descends(node: &Node, ancestor: &Node) -> bool {
    std::iter::successors(Some(node), |n| n.before.as_deref()).any(|n| Arc::ptr_eq(&n.kind, &ancestor.kind))
}

fn over(base: &Node, child: Node, key: Option<&Key>, diags: &mut Diags) -> Node {
    let Kind::Map(entries) = &*child.kind else { return stripped(child).replacing(base) };
    if deletes(&child, diags) {
        return stripped(child).replacing(base);
    }
    let Kind::Map(merged) = &*base.kind else {
        let name = key.map_or("the value", |key| key.text.as_str());
        let diag = Diag::error(format!("`{name}` is a mapping here and {} in the base", base.kind.name()))
            .note("`_delete_: true` in the mapping replaces the base's value");
        let diag = match key {
            Some(key) => diag.on_key(key),
            None => diag.on(&child),
        };
        diags.extend([diag.place(base.def.clone(), "in the base")]);
        return child;
    };
    let mut merged = merged.clone();
    let places = places(&merged);
    for (key, value) in entries.iter().filter(|(key, _)| key.text != DELETE) {
        match places.get(key.text.as_str()).map(|i| &mut merged[*i]) {
            Some(slot) => *slot = (key.clone(), over(&slot.1, value.clone(), Some(key), diags)),
            None => merged.push((key.clone(), stripped(value.clone()))),
        }
    }
    child.with_kind(Kind::Map(merged)).replacing(base)
}

/// Where each key stands: a mapping may have a hundred thousand.
pub(super) fn places(entries: &[(Key, Node)]) -> HashMap<String, usize> {
    entries.iter().enumerate().map(|(i, (key, _))| (key.text.clone(), i)).collect()
}

fn deletes(node: &Node, diags: &mut Diags) -> bool {
    match node.get(DELETE) {
        None => false,
        Some(flag) => match *flag.kind {
            Kind::Bool(flag) => flag,
            _ => {
                diags.extend([Diag::error("`_delete_` is true or false").on(flag)]);
                false
            }
        },
    }
}

/// Without any `_delete_`: there is nothing left to delete.
pub(super) fn stripped(node: Node) -> Node {
    if !mentions(&node) {
        return node;
    }
    let kind = match &*node.kind {
        Kind::Seq(items) => Kind::Seq(items.iter().cloned().map(stripped).collect()),
        Kind::Map(entries) => Kind::Map(
            entries
                .iter()
                .filter(|(key, _)| key.text != DELETE)
                .map(|(key, value)| (key.clone(), stripped(value.clone())))
                .collect(),
        ),
        other => other.clone(),
    };
    node.with_kind(kind)
}

fn mentions(node: &Node) -> bool {
    node.entries().iter().any(|(key, value)| key.text == DELETE || mentions(value))
        || node.items().iter().any(mentions)
}
