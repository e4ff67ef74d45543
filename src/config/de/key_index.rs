//! Which mapping takes which keys, as far as one reading has seen: to tell where a stray key belongs.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use crate::config::{Diags, Key, Loc, Node};

thread_local! {
    static KEY_INDEX: RefCell<KeyIndex> = const { RefCell::new(KeyIndex { depth: 0, sections: Vec::new(), unknown: Vec::new() }) };
}

/// What a place is looked up by.
type LocId = (usize, u32, u32);

/// So many stray keys are told where they belong.
const GUIDED: usize = 100;

struct KeyIndex {
    /// Readings inside of readings: a spec reads its parameters while the config is read.
    depth: usize,
    sections: Vec<Section>,
    unknown: Vec<UnknownKey>,
}

/// A mapping whose keys are known.
struct Section {
    name: String,
    at: Loc,
    fields: &'static [&'static str],
}

/// A key that its mapping does not know.
struct UnknownKey {
    key: String,
    at: Loc,
    /// The mapping that it stands in.
    within: Node,
}

/// Held while a reading goes on.
pub(super) struct Reading(());

impl Reading {
    pub(super) fn start() -> Self {
        KEY_INDEX.with_borrow_mut(|index| index.depth += 1);
        Self(())
    }

    /// Puts the complaints of the outermost reading in order, and tells stray keys where they belong.
    pub(super) fn finish(self, diags: &mut Diags) {
        KEY_INDEX.with_borrow(|index| {
            if index.depth == 1 {
                index.guide(diags);
                sort(diags);
            }
        });
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        KEY_INDEX.with_borrow_mut(|index| {
            index.depth -= 1;
            if index.depth == 0 {
                index.sections.clear();
                index.unknown.clear();
            }
        });
    }
}

pub(super) fn section(node: &Node, key: Option<&Key>, fields: &'static [&'static str]) {
    let name = node.get("type").and_then(Node::as_str);
    let Some(name) = key.map(|key| key.text.as_str()).or(name) else { return };
    let section = Section { name: name.to_owned(), at: node.def.clone(), fields };
    KEY_INDEX.with_borrow_mut(|index| index.sections.push(section));
}

pub(super) fn stray(node: &Node, key: &Key) {
    let stray = UnknownKey { key: key.text.clone(), at: key.def.clone(), within: node.clone() };
    KEY_INDEX.with_borrow_mut(|index| {
        if index.unknown.len() < GUIDED {
            index.unknown.push(stray);
        }
    });
}

impl KeyIndex {
    /// The sections that take each of the stray keys, by where they stand.
    fn takers(&self) -> HashMap<&str, HashMap<LocId, &str>> {
        let mut takers: HashMap<&str, HashMap<LocId, &str>> =
            self.unknown.iter().map(|stray| (stray.key.as_str(), HashMap::new())).collect();
        for section in &self.sections {
            for field in section.fields {
                if let Some(of_key) = takers.get_mut(field) {
                    of_key.entry(section.at.id()).or_insert(&section.name);
                }
            }
        }
        takers
    }

    fn guide(&self, diags: &mut Diags) {
        let takers = self.takers();
        let strays: HashMap<LocId, &UnknownKey> =
            self.unknown.iter().map(|stray| (stray.at.id(), stray)).collect();
        for diag in diags.0.iter_mut().filter(|diag| diag.suggestion.is_none()) {
            let Some(stray) = diag.at.as_ref().and_then(|at| strays.get(&at.id())) else { continue };
            let Some(sections) = takers.get(stray.key.as_str()) else { continue };
            // A key that slipped out of a mapping beside it is meant there; of others it is said who has them.
            let beside = stray.within.entries().iter().find_map(|(_, value)| sections.get(&value.def.id()));
            let all: BTreeSet<&str> = sections.values().copied().collect();
            match beside {
                Some(section) => diag.suggestion = Some(format!("{section}.{}", stray.key)),
                None if all.is_empty() => {}
                None => {
                    let names: Vec<_> = all.iter().take(4).map(|name| format!("`{name}`")).collect();
                    diag.notes.push(format!("`{}` is a key of {}", stray.key, names.join(", ")));
                }
            }
        }
    }
}

/// By file in the order of their first complaint, and by place within.
fn sort(diags: &mut Diags) {
    let mut sources: Vec<Loc> = Vec::new();
    for at in diags.0.iter().filter_map(|diag| diag.at.as_ref()) {
        if !sources.iter().any(|known| known.same_source(at)) {
            sources.push(at.clone());
        }
    }
    diags.0.sort_by_key(|diag| {
        let at = diag.at.as_ref();
        at.map(|at| (sources.iter().position(|known| known.same_source(at)), at.range().start))
    });
}
