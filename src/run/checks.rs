//! Whether the parts of a config fit together: what can be told before anything is built.
//!
//! An error where the run cannot mean what is written, a warning where it may.

use std::path::Path;

use super::RunConfig;
use crate::base::Error;
use crate::base::suggest::nearest;
use crate::config::{Diag, Diags, Kind, Node};
use crate::data::classes::relabelled;
use crate::data::{MOST_AHEAD, Shard};
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
    data(config, node, &mut found);
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

/// Data that cannot be made, folders that are not there, heads with fewer classes than the data, and classes that the training
/// data have not.
fn data(config: &RunConfig, node: &Node, found: &mut Vec<Diag>) {
    let loaders = [&config.train_dataloader, &config.val_dataloader, &config.test_dataloader];
    for loader in loaders.into_iter().flatten().filter(|loader| needs_no_file(loader.dataset.node())) {
        match loader.build(0, Shard::SOLO, &mut BuildCx::new(0)) {
            Err(Error::Config(wrong)) => {
                found.extend(wrong.downcast::<Diags>().into_iter().flat_map(|d| d.0))
            }
            Err(other) => found.push(Diag::error(other.to_string()).on(loader.dataset.node())),
            Ok(built)
                if config.train_dataloader.as_ref().is_some_and(|train| std::ptr::eq(train, loader)) =>
            {
                excluded(node, built.dataset().len() as u64, found);
            }
            Ok(_) => {}
        }
    }
    let mut trained: Option<Vec<String>> = None;
    for loader in ["train_dataloader", "val_dataloader", "test_dataloader"] {
        ahead(node.get(loader), found);
        let Some(dataset) = node.get(loader).and_then(|l| l.get("dataset")).map(innermost) else { continue };
        folders(dataset, found);
        let Some(names) = classes(dataset) else { continue };
        let Some(known) = &trained else {
            heads(node, loader, names.len(), found);
            trained = (loader == "train_dataloader").then_some(names);
            continue;
        };
        if let Err(why) = relabelled(&names, known) {
            let text = format!("the data of `{loader}` do not fit the training data: {why}");
            found.push(Diag::error(text).on(dataset));
        }
    }
}

/// Whether a data set is made of nothing but its settings.
fn needs_no_file(dataset: &Node) -> bool {
    match dataset.get("type").and_then(Node::as_str) {
        Some("Digits" | "Synthetic") => true,
        Some("Subset" | "RepeatDataset") => dataset.get("dataset").is_some_and(needs_no_file),
        Some("ConcatDataset") => dataset.get("datasets").is_some_and(|s| s.items().iter().all(needs_no_file)),
        _ => false,
    }
}

/// Positions to be left out that are not there.
fn excluded(node: &Node, len: u64, found: &mut Vec<Diag>) {
    for place in node.get("exclude_samples").map_or(&[][..], |n| n.items()) {
        if let Some(id) = whole(place).filter(|id| *id >= len) {
            let text = format!("there is no sample {id}: the training data have {len}, counted from 0");
            found.push(Diag::error(text).on(place));
        }
    }
}

/// Two numbers that are fine by themselves.
fn ahead(loader: Option<&Node>, found: &mut Vec<Diag>) {
    let Some(place) = loader.and_then(|l| l.get("prefetch_factor")) else { return };
    let workers = loader.and_then(|l| l.get("num_workers")).and_then(whole).unwrap_or(0);
    let batches = whole(place).unwrap_or(0).saturating_mul(workers);
    if batches > MOST_AHEAD as u64 {
        let text =
            format!("{workers} workers may be {batches} batches ahead, at most {MOST_AHEAD} can be planned");
        found.push(Diag::error(text).on(place));
    }
}

/// The set that wrappers (Subset, RepeatDataset, ConcatDataset) take their samples from; of several the first.
fn innermost(mut dataset: &Node) -> &Node {
    while let Some(inner) =
        dataset.get("dataset").or_else(|| dataset.get("datasets").and_then(|sets| sets.items().first()))
    {
        dataset = inner;
    }
    dataset
}

fn folders(dataset: &Node, found: &mut Vec<Diag>) {
    let root = Path::new(dataset.get("data_root").and_then(Node::as_str).unwrap_or_default());
    // A text, or a mapping as ImageFolder takes it.
    let prefix = dataset.get("data_prefix").map(|p| p.get("img_path").unwrap_or(p));
    let folder = root.join(prefix.and_then(Node::as_str).unwrap_or_default());
    let list = dataset.get("ann_file").filter(|list| list.as_str().is_some_and(|text| !text.is_empty()));
    let file = root.join(list.and_then(Node::as_str).unwrap_or_default());
    let place = dataset.get("data_prefix").or(dataset.get("data_root"));
    for (what, path, place) in [("folder", folder, place), ("file", file, list)] {
        if let Some(place) = place.filter(|_| !path.as_os_str().is_empty() && !path.exists()) {
            let diag = Diag::warning(format!("there is no {what} `{}` here", path.display())).on(place);
            found.push(diag.note("paths are taken from the folder in which the run is started"));
        }
    }
}

fn heads(node: &Node, loader: &str, classes: usize, found: &mut Vec<Diag>) {
    for part in ["backbone", "head"] {
        let place = node.get("model").and_then(|m| m.get(part)).and_then(|p| p.get("num_classes"));
        let Some((head, place)) = place.and_then(|n| Some((number(n)?, n))) else { continue };
        if head > 0.0 && head < classes as f64 {
            let text =
                format!("the {part} tells {head} classes apart, but the data of `{loader}` has {classes}");
            found.push(Diag::error(text).on(place));
        } else if head > classes as f64 {
            let text = format!("the {part} has {head} classes, the data of `{loader}` only {classes}");
            found.push(Diag::warning(text).on(place));
        }
    }
}

/// The classes of a data set, where its config tells.
fn classes(dataset: &Node) -> Option<Vec<String>> {
    let numbered = |n: u64| (0..n).map(|class| class.to_string()).collect();
    match dataset.get("type").and_then(Node::as_str)? {
        "Digits" | "MNIST" => Some(numbered(10)),
        "Synthetic" => Some(numbered(dataset.get("classes").map_or(Some(10), whole)?)),
        "ImageFolder" | "CustomDataset" => {
            let names = dataset.get("classes")?.items();
            let names: Vec<String> = names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect();
            (!names.is_empty()).then_some(names)
        }
        _ => None,
    }
}
