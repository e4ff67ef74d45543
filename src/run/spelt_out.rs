//! What a config leaves unsaid, said: the reader needs to know of no such thing.

use std::sync::Arc;

use crate::base::Result;
use crate::base::suggest::nearest;
use crate::config::{Key, Kind, Node};
use crate::hook::Hook;
use crate::registry::Spec;

/// The slots that every run has unless its config says otherwise.
const DEFAULT_HOOKS: &str = "\
runtime_info: {type: RuntimeInfoHook}
timer: {type: IterTimerHook}
sampler_seed: {type: DistSamplerSeedHook}
logger: {type: LoggerHook}
param_scheduler: {type: ParamSchedulerHook}
checkpoint: {type: CheckpointHook}
";

/// The config with everything in its place.
pub(super) fn spelt_out(node: &Node) -> Node {
    with_slots(&with_preprocessor(node))
}

/// The config with the top-level `data_preprocessor` put into the model, as MMEngine does.
fn with_preprocessor(node: &Node) -> Node {
    let Some((key, preprocessor)) = node.entry("data_preprocessor").map(|(k, n)| (k.clone(), n.clone()))
    else {
        return node.clone();
    };
    let mut top: Vec<_> = node.entries().iter().filter(|(k, _)| k.text != key.text).cloned().collect();
    if let Some((_, model)) = top.iter_mut().find(|(k, _)| k.text == "model")
        && model.get(&key.text).is_none()
        && !preprocessor.is_null()
    {
        let mut entries = model.entries().to_vec();
        entries.push((key, preprocessor));
        model.kind = Arc::new(Kind::Map(entries));
    }
    Node { kind: Arc::new(Kind::Map(top)), ..node.clone() }
}

/// The config with the types of the default hooks, where a slot has keys and no type: `{logger: {interval: 5}}`.
fn with_slots(node: &Node) -> Node {
    let known = default_slots().unwrap_or_default();
    let typed = |(key, slot): &(Key, Node)| {
        let default = known.iter().find(|(name, _)| *name == key.text).and_then(|(_, spec)| spec.as_ref());
        // A slip of the finger is told as one.
        let has_type = |(key, _): &(Key, Node)| key.text == "type" || nearest(&key.text, ["type"]).is_some();
        match (&*slot.kind, default) {
            (Kind::Map(keys), Some(spec)) if !keys.iter().any(has_type) => {
                (key.clone(), slot.typed(spec.name()))
            }
            _ => (key.clone(), slot.clone()),
        }
    };
    let all = node.entries().iter().map(|(key, value)| match (key.text.as_str(), &*value.kind) {
        ("default_hooks", Kind::Map(slots)) => {
            (key.clone(), value.with_kind(Kind::Map(slots.iter().map(typed).collect())))
        }
        _ => (key.clone(), value.clone()),
    });
    node.with_kind(Kind::Map(all.collect()))
}

/// The default hooks by their slots.
pub(super) fn default_slots() -> Result<Vec<(String, Option<Spec<dyn Hook>>)>> {
    Ok(crate::config::parse("default hooks", DEFAULT_HOOKS)?.read::<super::HookSlots>()?.0)
}
