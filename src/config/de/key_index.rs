//! Which mapping takes which keys, as far as one reading has seen: to tell where a stray key belongs.

use std::cell::RefCell;

use crate::config::{Diag, Diags, Key, Loc, Node};

thread_local! {
    static KEY_INDEX: RefCell<KeyIndex> = const { RefCell::new(KeyIndex { depth: 0, sections: Vec::new(), unknown: Vec::new() }) };
}

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
                diags.0.iter_mut().for_each(|diag| index.guide(diag));
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
    KEY_INDEX.with_borrow_mut(|index| index.unknown.push(stray));
}

impl KeyIndex {
    fn guide(&self, diag: &mut Diag) {
        let Some(stray) =
            self.unknown.iter().find(|s| diag.suggestion.is_none() && Some(&s.at) == diag.at.as_ref())
        else {
            return;
        };
        let knows = |s: &&Section| s.fields.contains(&stray.key.as_str());
        // A key that slipped out of a mapping beside it is the likeliest; then one that is known in a single place.
        let stands_beside = |s: &&Section| stray.within.entries().iter().any(|(_, value)| value.def == s.at);
        let beside = self.sections.iter().filter(knows).find(stands_beside);
        let mut all: Vec<&str> = self.sections.iter().filter(knows).map(|s| s.name.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        match (beside, all.as_slice()) {
            (Some(section), _) => diag.suggestion = Some(format!("{}.{}", section.name, stray.key)),
            (None, [one]) => diag.suggestion = Some(format!("{one}.{}", stray.key)),
            (None, []) => {}
            (None, several) => {
                let names: Vec<_> = several.iter().take(4).map(|name| format!("`{name}`")).collect();
                diag.notes.push(format!("`{}` is a key of {}", stray.key, names.join(", ")));
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
