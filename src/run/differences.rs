//! Where a config means something else here than in MMEngine, said to who checks or runs it.

use super::RunConfig;
use crate::config::{Diag, Node};

/// The differences that this config meets, as far as they can be told without its data. `loop_by_epoch`: how its
/// training loop counts, if that is known.
pub(super) fn of(config: &RunConfig, node: &Node, loop_by_epoch: Option<bool>) -> Vec<Diag> {
    let mut found = Vec::new();
    if loop_by_epoch == Some(false) {
        by_epoch(config, node, &mut found);
    }
    if let Some(hook) = checkpoint_hook(node).filter(|hook| hook.get("interval").is_none()) {
        let text = "CheckpointHook without `interval` saves after each pass over the data; in MMEngine at the end only";
        found.push(
            Diag::warning(text)
                .on(hook.get("type").unwrap_or(hook))
                .note("say `interval: -1` for the end only"),
        );
    }
    unsmoothed(node, &mut found);
    found
}

/// Weights that torchvision trained have seen smoothed pictures; MMPretrain's transforms, whose default holds here too,
/// do not smooth a picture that shrinks. Weights of MMPretrain are known by their `prefix`.
fn unsmoothed(node: &Node, found: &mut Vec<Diag>) {
    let foreign = |part: &Node| type_of(part) == "Pretrained" && part.get("prefix").is_none();
    if !node.get("model").is_some_and(|model| any(model, &foreign)) {
        return;
    }
    for (_, loader) in node.entries().iter().filter(|(key, _)| key.text.ends_with("_dataloader")) {
        resizes(loader, found);
    }
}

/// Says so of each transform that resizes pictures without a `backend`.
fn resizes(node: &Node, found: &mut Vec<Diag>) {
    if node.items().iter().any(|step| type_of(step) == "LoadImageFromFile") {
        for step in node.items().iter().filter(|step| step.get("backend").is_none()) {
            let name = type_of(step);
            if ["Resize", "ResizeEdge", "RandomResizedCrop"].contains(&name) {
                let text = format!(
                    "{name} without `backend` is cv2's, as in MMPretrain: pictures that shrink are not smoothed; weights \
                     of torchvision were trained on smoothed ones"
                );
                let remedy =
                    "say `backend: pillow` for weights of torchvision, `backend: cv2` if this is meant";
                found.push(Diag::warning(text).on(step.get("type").unwrap_or(step)).note(remedy));
            }
        }
    }
    node.entries().iter().map(|(_, part)| part).chain(node.items()).for_each(|part| resizes(part, found));
}

/// The name of a type, without the path that a dumped config may write before it.
fn type_of(node: &Node) -> &str {
    let name = node.get("type").and_then(Node::as_str).unwrap_or_default();
    name.rsplit('.').next().unwrap_or(name)
}

/// Whether this holds for the node or for anything in it.
fn any(node: &Node, is: &impl Fn(&Node) -> bool) -> bool {
    is(node) || node.entries().iter().map(|(_, part)| part).chain(node.items()).any(|part| any(part, is))
}

/// What counts epochs by default there counts here what the loop counts.
fn by_epoch(config: &RunConfig, node: &Node, found: &mut Vec<Diag>) {
    let schedules =
        config.param_scheduler.iter().flat_map(|s| &s.0).filter(|spec| spec.extra.by_epoch.is_none());
    let schedules = schedules.map(|spec| (spec.name().to_owned(), spec.node().clone()));
    let hook = checkpoint_hook(node).filter(|hook| hook.get("by_epoch").is_none());
    let hook = hook.map(|hook| ("CheckpointHook".to_owned(), hook.clone()));
    for (name, place) in schedules.chain(hook) {
        let text = format!(
            "{name} without `by_epoch` counts iterations, as the loop does; in MMEngine it counts epochs"
        );
        let place = place.get("type").unwrap_or(&place);
        found.push(
            Diag::warning(text)
                .on(place)
                .note("say `by_epoch: false` (or true), which means the same in both"),
        );
    }
}

/// Windows of accumulation end with the epoch here: whether that shows in epochs of so many batches.
pub(super) fn windows(config: &RunConfig, node: &Node, epoch_len: u64) -> Option<Diag> {
    let k = config.optim_wrapper.as_ref()?.accumulative_counts;
    if k < 2 || epoch_len.is_multiple_of(k) {
        return None;
    }
    let text = format!(
        "`accumulative_counts: {k}` does not divide the {epoch_len} iterations of an epoch: the last update of each epoch is of \
         {} batches; in MMEngine the window goes on into the next epoch",
        epoch_len % k
    );
    let wrapper = node.get("optim_wrapper");
    let place = wrapper.and_then(|w| w.get("accumulative_counts")).or(wrapper).unwrap_or(node);
    Some(Diag::warning(text).on(place))
}

/// The CheckpointHook that the config itself writes.
fn checkpoint_hook(node: &Node) -> Option<&Node> {
    let slots = node.get("default_hooks").map_or(&[][..], |n| n.entries()).iter().map(|(_, hook)| hook);
    let custom = node.get("custom_hooks").map_or(&[][..], |n| n.items()).iter();
    slots.chain(custom).find(|hook| hook.get("type").and_then(Node::as_str) == Some("CheckpointHook"))
}
