//! What the `init_cfg`s of a model say that changes nothing.

use std::collections::BTreeSet;

use super::Init;
use crate::base::suggest::nearest;
use crate::config::{Diag, Node};
use crate::nn::{ModuleTree, named_modules};

/// The entries that a config writes for layers which the model has nowhere, with their places.
pub fn idle(root: &dyn ModuleTree) -> Vec<Diag> {
    let mut found = Vec::new();
    for (_, module) in named_modules(root) {
        let mut known = None;
        for init in module.init_cfg() {
            let Some(node) = &init.node else { continue };
            let known: &BTreeSet<_> = known.get_or_insert_with(|| layers_of(module));
            entry(init, node, module.type_name(), known, &mut found);
        }
    }
    found
}

/// The names by which layers below a module are meant: their types and families.
fn layers_of(module: &dyn ModuleTree) -> BTreeSet<&'static str> {
    let below = named_modules(module).into_iter();
    below.flat_map(|(_, layer)| layer.families().iter().copied().chain([layer.type_name()])).collect()
}

fn entry(init: &Init, node: &Node, within: &str, known: &BTreeSet<&str>, found: &mut Vec<Diag>) {
    let loads = init.rule.loads();
    if init.layers.is_empty() && init.overrides.is_empty() && !loads {
        let text = format!("this changes nothing in `{within}`: say for which `layer` it is");
        found.push(Diag::warning(text).on(node.get("type").unwrap_or(node)));
    }
    for (place, name) in places(node, "layer").into_iter().zip(&init.layers).filter(|_| !loads) {
        if !known.contains(name.as_str()) {
            let text = format!("`{within}` has no layer `{name}`: no weight begins by this");
            let diag = Diag::warning(text).on(place);
            found.push(match nearest(name, known.iter().copied()) {
                Some(near) => diag.fix(near),
                None => diag,
            });
        }
    }
    for (own, over) in places(node, "override").into_iter().zip(&init.overrides) {
        if let Some(layer) = own.get("layer").filter(|_| over.by.is_some()) {
            let text = format!("an override is for everything in `{}`: its `layer` does nothing", over.name);
            found.push(Diag::warning(text).on(layer));
        }
    }
}

/// The values of a key that takes one or a list.
fn places<'n>(node: &'n Node, key: &str) -> Vec<&'n Node> {
    let Some(value) = node.get(key) else { return Vec::new() };
    if value.items().is_empty() { vec![value] } else { value.items().iter().collect() }
}
