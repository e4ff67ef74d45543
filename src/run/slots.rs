//! The hooks of a run: those of the default slots, what its config puts in their place, and its own.

use std::sync::Arc;

use super::RunConfig;
use super::given::GivenHook;
use super::spelt_out::default_slots;
use crate::base::{Error, Result};
use crate::config::{Diag, Node};
use crate::hook::{Hook, Misplaced};
use crate::registry::{Spec, blamed};

/// What is wrong with the order of the hooks, at the hook that it is about.
pub(super) fn misplaced(error: Error, hooks: &[(Arc<str>, Node)]) -> Diag {
    let text = error.to_string();
    let Error::Config(source) = error else { return Diag::error(text) };
    let Some(Misplaced { hook, message, given, near }) = source.downcast_ref() else {
        return Diag::error(text);
    };
    let mut diag = Diag::error(message.as_str());
    if let Some((_, node)) = hooks.iter().find(|(key, _)| **key == **hook) {
        diag = diag.on(blamed(node, message));
    }
    diag = given.iter().fold(diag, |diag, given| diag.note(given));
    near.iter().fold(diag, |diag, near| diag.fix(near))
}

/// Default slots with the config's replacements, then the custom hooks.
pub(super) fn hooks(config: &RunConfig) -> Result<Vec<Spec<dyn Hook>>> {
    let mut slots = default_slots()?;
    for (name, given) in &config.default_hooks.0 {
        match slots.iter_mut().find(|(n, _)| n == name) {
            Some((_, slot)) => *slot = given.clone(),
            None if given.is_some() => slots.push((name.clone(), given.clone())),
            None => {
                let known: Vec<_> = slots.iter().map(|(n, _)| n.as_str()).collect();
                let text = format!(
                    "there is no default hook slot `{name}` to remove: known are {}",
                    known.join(", ")
                );
                return Err(Error::config(text));
            }
        }
    }
    let custom = config.custom_hooks.iter().flatten().cloned();
    Ok(slots.into_iter().filter_map(|(_, spec)| spec).chain(custom).collect())
}

/// The default hooks, for a runner without a config.
pub(super) fn default_hooks() -> Result<Vec<GivenHook>> {
    Ok(default_slots()?.into_iter().filter_map(|(_, spec)| spec).map(GivenHook::Written).collect())
}
