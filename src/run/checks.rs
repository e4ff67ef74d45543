//! Whether the parts of a config fit together: what can be told before anything is built.
//!
//! An error where the run cannot mean what is written, a warning where it may.

use super::RunConfig;
use crate::base::suggest::nearest;
use crate::config::{Diag, Kind, Node};
use crate::metric::Evaluator;
use crate::registry::BuildCx;

/// How long the training is, as far as the config says.
#[derive(Clone, Copy)]
struct Length {
    by_epoch: bool,
    total: u64,
}

impl Length {
    fn of(node: &Node) -> Option<Self> {
        let train = node.get("train_cfg").filter(|n| !n.is_null())?;
        let by_epoch =
            match (train.get("by_epoch").map(|n| &*n.kind), train.get("type").and_then(Node::as_str)) {
                (Some(Kind::Bool(by_epoch)), _) => *by_epoch,
                (_, Some("EpochBasedTrainLoop")) => true,
                (_, Some("IterBasedTrainLoop")) => false,
                _ => return None,
            };
        let total = train.get(if by_epoch { "max_epochs" } else { "max_iters" }).and_then(whole)?;
        Some(Self { by_epoch, total })
    }

    fn unit(self) -> &'static str {
        if self.by_epoch { "epochs" } else { "iterations" }
    }
}

fn whole(node: &Node) -> Option<u64> {
    match &*node.kind {
        Kind::Int(n) => u64::try_from(*n).ok(),
        Kind::Uint(n) => Some(*n),
        _ => None,
    }
}

fn number(node: &Node) -> Option<f64> {
    match &*node.kind {
        Kind::Int(n) => Some(*n as f64),
        Kind::Uint(n) => Some(*n as f64),
        Kind::Float(x) => Some(*x),
        _ => None,
    }
}

fn flag(node: &Node, key: &str) -> Option<bool> {
    match node.get(key).map(|n| &*n.kind) {
        Some(Kind::Bool(b)) => Some(*b),
        _ => None,
    }
}

/// Everything that is odd about a config whose parts are fine by themselves.
pub(super) fn of(config: &RunConfig, node: &Node) -> Vec<Diag> {
    let length = Length::of(node);
    let mut found = Vec::new();
    schedules(config, length, &mut found);
    hooks(node, length, &mut found);
    monitors(config, node, &mut found);
    data(node, &mut found);
    found
}

/// Schedules that end before they begin, never begin, or count what the loop does not.
fn schedules(config: &RunConfig, length: Option<Length>, found: &mut Vec<Diag>) {
    for spec in config.param_scheduler.iter().flat_map(|s| &s.0) {
        let at = spec.node();
        let end = spec.extra.end.zip(at.get("end"));
        if let Some((end, place)) = end
            && end <= spec.extra.begin
        {
            let text = format!("the schedule ends at {end}, before it begins at {}", spec.extra.begin);
            found.push(Diag::error(text).on(place));
            continue;
        }
        let Some(length) = length else { continue };
        let by_epoch = spec.extra.by_epoch.unwrap_or(length.by_epoch);
        if by_epoch && !length.by_epoch && !spec.extra.convert_to_iter_based {
            let text = "the schedule counts epochs, but the loop counts iterations: it would never move";
            found.push(Diag::warning(text).on(at.get("by_epoch").unwrap_or(at)));
        }
        if by_epoch != length.by_epoch {
            continue;
        }
        let (total, unit) = (length.total, length.unit());
        if let Some(place) = at.get("begin").filter(|_| spec.extra.begin >= total as f64) {
            let text = format!("the schedule begins at {}, but the run has {total} {unit}", spec.extra.begin);
            found.push(Diag::warning(text).on(place));
        } else if let Some((end, place)) = end.filter(|(end, _)| *end > total as f64) {
            let what = if spec.name() == "LinearLR" { "the warm-up" } else { "the schedule" };
            let text = format!("{what} lasts until {end}, but the run has {total} {unit}");
            found.push(Diag::warning(text).on(place));
        }
    }
}

/// Hooks whose interval is longer than the run, or which count what the loop does not.
fn hooks(node: &Node, length: Option<Length>, found: &mut Vec<Diag>) {
    let slots = node.get("default_hooks").map_or(&[][..], |n| n.entries()).iter().map(|(_, hook)| hook);
    let custom = node.get("custom_hooks").map_or(&[][..], |n| n.items()).iter();
    let Some(length) = length else { return };
    for hook in slots.chain(custom) {
        let name = hook.get("type").and_then(Node::as_str).unwrap_or_default();
        let by_epoch = flag(hook, "by_epoch");
        if by_epoch == Some(true) && !length.by_epoch {
            let text = format!("{name} counts epochs, but the loop counts iterations");
            found.push(Diag::warning(text).on(hook.get("by_epoch").unwrap_or(hook)));
        }
        // What LoggerHook and CheckInvalidLossHook count is always iterations.
        let counts_epochs = name == "CheckpointHook" && by_epoch.unwrap_or(length.by_epoch);
        let counts_iters = name != "CheckpointHook" || !by_epoch.unwrap_or(length.by_epoch);
        let same_unit = if length.by_epoch { counts_epochs } else { counts_iters };
        if let Some((interval, place)) = hook.get("interval").and_then(|n| Some((whole(n)?, n)))
            && same_unit
            && interval > length.total
        {
            let text = format!(
                "an interval of {interval} is longer than the run of {} {}",
                length.total,
                length.unit()
            );
            found.push(Diag::warning(text).on(place));
        }
    }
}

/// Monitors that no metric of the validation gives.
fn monitors(config: &RunConfig, node: &Node, found: &mut Vec<Diag>) {
    let metrics =
        config.val_evaluator.as_ref().and_then(|e| Evaluator::build(&e.0, &mut BuildCx::new(0)).ok());
    let names = metrics.map(|m| m.names()).unwrap_or_default();
    let slots = node.get("default_hooks").map_or(&[][..], |n| n.entries()).iter().map(|(_, hook)| hook);
    let custom = node.get("custom_hooks").map_or(&[][..], |n| n.items()).iter();
    let wanted = slots.chain(custom).flat_map(|hook| {
        [hook.get("save_best"), hook.get("monitor")].into_iter().flatten().flat_map(|n| match &*n.kind {
            Kind::Seq(items) => items.iter().collect(),
            _ => vec![n],
        })
    });
    for place in wanted {
        let Some(metric) = place.as_str().filter(|m| *m != "auto") else { continue };
        if config.val_evaluator.is_none() {
            let text = format!("`{metric}` is watched, but the run has no validation");
            found.push(
                Diag::error(text).on(place).note("give `val_dataloader`, `val_cfg` and `val_evaluator`"),
            );
        } else if !names.is_empty() && !names.iter().any(|n| n == metric) {
            let mut diag = Diag::error(format!("no metric of the validation is called `{metric}`")).on(place);
            diag = diag.note(format!("the validation gives {}", names.join(", ")));
            if let Some(name) = nearest(metric, names.iter().map(String::as_str)) {
                diag = diag.fix(name);
            }
            found.push(diag);
        }
    }
}

/// Folders that are not there, and heads with fewer classes than the data.
fn data(node: &Node, found: &mut Vec<Diag>) {
    for loader in ["train_dataloader", "val_dataloader", "test_dataloader"] {
        let Some(dataset) = node.get(loader).and_then(|l| l.get("dataset")) else { continue };
        let root = dataset.get("data_root").and_then(Node::as_str).unwrap_or_default();
        // A text, or a mapping as ImageFolder takes it.
        let prefix = dataset.get("data_prefix").map(|p| p.get("img_path").unwrap_or(p));
        let folder = std::path::Path::new(root).join(prefix.and_then(Node::as_str).unwrap_or_default());
        let place = dataset.get("data_prefix").or(dataset.get("data_root"));
        if let Some(place) = place.filter(|_| !folder.as_os_str().is_empty() && !folder.exists()) {
            let text = format!("there is no folder `{}` here", folder.display());
            found.push(
                Diag::warning(text)
                    .on(place)
                    .note("paths are taken from the folder in which the run is started"),
            );
        }
        let Some(classes) = classes(dataset) else { continue };
        let model = node.get("model");
        for part in ["backbone", "head"] {
            let place = model.and_then(|m| m.get(part)).and_then(|p| p.get("num_classes"));
            let Some((head, place)) = place.and_then(|n| Some((number(n)?, n))) else { continue };
            if head > 0.0 && head < classes as f64 {
                let text = format!(
                    "the {part} tells {head} classes apart, but the data of `{loader}` has {classes}"
                );
                found.push(Diag::error(text).on(place));
            } else if head > classes as f64 {
                let text = format!("the {part} has {head} classes, the data of `{loader}` only {classes}");
                found.push(Diag::warning(text).on(place));
            }
        }
    }
}

/// The number of classes of a data set, where its config tells.
fn classes(dataset: &Node) -> Option<u64> {
    match dataset.get("type").and_then(Node::as_str)? {
        "Digits" | "MNIST" => Some(10),
        "Synthetic" => dataset.get("classes").and_then(whole),
        _ => None,
    }
}
