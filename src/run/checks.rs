//! Whether the parts of a run fit together.
//!
//! An error where the run cannot mean what is written, a warning where it may.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Evaluation, LoopTotals, RunConfig, RunnerBuilder};
use crate::base::number::short;
use crate::base::suggest::nearest;
use crate::config::{Diag, Kind, Node};
use crate::data::classes::relabelled;
use crate::data::{DataLoader, FieldKind, TARGET};
use crate::optim::ScheduledParam;
use crate::params::Role;
use crate::registry::blamed;
use crate::vis::ELSEWHERE;

/// How long the training is.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub by_epoch: bool,
    epochs: u64,
    iters: u64,
}

impl Length {
    /// `None` where only the data could tell, and is not there.
    fn of(builder: &RunnerBuilder) -> Option<Self> {
        let LoopTotals { epochs, iters, by_epoch } = builder.totals();
        let total = if by_epoch { epochs } else { iters };
        (total > 0).then_some(Self { by_epoch, epochs, iters })
    }

    fn unit(self) -> &'static str {
        self.counted(self.by_epoch).1
    }

    /// How many epochs or iterations there are, 0 where that is not known.
    pub(super) fn counted(self, by_epoch: bool) -> (u64, &'static str) {
        match (by_epoch, if by_epoch { self.epochs } else { self.iters }) {
            (true, 1) => (1, "epoch"),
            (true, n) => (n, "epochs"),
            (false, 1) => (1, "iteration"),
            (false, n) => (n, "iterations"),
        }
    }
}

/// The parts of a run with the places where a config writes them.
pub(super) struct RunParts<'a> {
    pub config: &'a RunConfig,
    pub node: &'a Node,
    pub builder: &'a RunnerBuilder,
    /// Of the schedules that could be built.
    pub schedules: &'a [Node],
    /// Of the hooks that could be built, by their keys.
    pub hooks: &'a [(Arc<str>, Node)],
}

/// Everything that is odd about a run whose parts are fine by themselves.
pub(super) fn of(parts: &RunParts<'_>) -> Vec<Diag> {
    let mut found = Vec::new();
    if let Some(length) = Length::of(parts.builder) {
        ranges(parts.config, length, parts.builder.epoch_len(), &mut found);
        endings(parts, length, &mut found);
        overlaps(parts, &mut found);
        super::never::of(parts, length, &mut found);
    }
    watched(parts, &mut found);
    backends(parts.config, &mut found);
    accumulation(parts, &mut found);
    classes(parts, &mut found);
    fields(parts, &mut found);
    found.extend(super::data_checks::of(parts));
    excluded(parts, &mut found);
    patterns(parts, &mut found);
    found.extend(super::precision::of(parts));
    found.extend(super::numbers::of(parts));
    found.extend(super::numbers::idle(parts, &found));
    found.extend(super::numbers::still(parts));
    let LoopTotals { epochs, iters, by_epoch } = parts.builder.totals();
    let epoch_len = parts.builder.epoch_len();
    let counts = (epochs.max(iters) > 0).then_some(by_epoch);
    found.extend(super::differences::of(parts.config, parts.node, counts));
    if by_epoch && epoch_len > 0 {
        found.extend(super::differences::windows(parts.config, parts.node, epoch_len));
    }
    found
}

/// Schedules that never begin, never end, have no steps, or count what the loop does not.
fn ranges(config: &RunConfig, length: Length, epoch_len: u64, found: &mut Vec<Diag>) {
    for spec in config.param_scheduler.iter().flat_map(|s| &s.0) {
        let (at, extra) = (spec.node(), &spec.extra);
        let by_epoch = extra.by_epoch.unwrap_or(length.by_epoch);
        let end = extra.end.zip(at.get("end"));
        let mut warn = |text: String, place: &Node| found.push(Diag::warning(text).on(place));
        if by_epoch && !length.by_epoch && !extra.convert_to_iter_based {
            let text = "the schedule counts epochs, but the loop counts iterations: it would never move";
            warn(text.to_owned(), at.get("by_epoch").unwrap_or(at));
        }
        if let Some((end, place)) = end.filter(|(end, _)| *end == extra.begin && *end > 0.0) {
            warn(format!("the schedule begins and ends at {end}: it does nothing"), place);
        }
        let (total, unit) = if extra.convert_to_iter_based && !length.by_epoch && epoch_len > 0 {
            // A loop of iterations has one epoch of its own; the data have as many as fit.
            (length.iters.div_ceil(epoch_len), "epochs of the data")
        } else {
            length.counted(by_epoch)
        };
        if total == 0 {
            continue;
        }
        if let Some(place) = at.get("begin").filter(|_| extra.begin >= total as f64) {
            warn(format!("the schedule begins at {}, but the run has {total} {unit}", extra.begin), place);
        } else if let Some((end, place)) = end.filter(|(end, _)| *end > total as f64) {
            let what = if spec.name() == "LinearLR" { "the warm-up" } else { "the schedule" };
            warn(format!("{what} lasts until {end}, but the run has {total} {unit}"), place);
        }
        // Where all of them lie behind the end the schedule changes nothing, which is told of it as a whole.
        let until = extra.end.unwrap_or(total as f64).min(total as f64) - extra.begin;
        let milestones = at.get("milestones").map_or(&[][..], Node::items);
        let (met, missed): (Vec<_>, Vec<_>) =
            milestones.iter().partition(|place| whole(place).is_none_or(|step| (step as f64) < until));
        for place in missed.into_iter().filter(|_| !met.is_empty() || length.iters == 0) {
            let end = if extra.begin > 0.0 {
                format!(" {until} {unit} of the schedule")
            } else {
                format!(" {until} {unit}")
            };
            warn(format!("this milestone is never met: it lies behind the{end}"), place);
        }
        if let Some((text, place)) = super::never::short_of(spec.name(), at, until, unit) {
            warn(text, place);
        }
    }
}

/// A learning rate that has come down before the run ends, and stays there.
fn endings(parts: &RunParts<'_>, length: Length, found: &mut Vec<Diag>) {
    let LoopTotals { epochs, iters, .. } = parts.builder.totals();
    let epoch_len = parts.builder.epoch_len();
    if epoch_len == 0 {
        return;
    }
    let schedules = parts.builder.optim.as_ref().map_or(&[][..], |optim| optim.schedules());
    let left = |schedule: &ScheduledParam| {
        let (_, end, by_epoch) = schedule.range();
        // In the unit of the loop.
        let unit = if length.by_epoch && !by_epoch { epoch_len.max(1) } else { 1 };
        let total = if by_epoch { epochs } else { iters };
        total.saturating_sub(end) / unit
    };
    let last = schedules.iter().zip(parts.schedules).min_by_key(|(schedule, _)| left(schedule));
    let Some((schedule, spec)) = last.filter(|(schedule, _)| left(schedule) > 0) else { return };
    let value = schedules.iter().fold(1.0, |value, s| s.apply(value, 1.0, epochs, iters));
    let range = schedule.range();
    let (Some(place), true) = (spec.get("end"), value < 1.0 && range.1 > range.0) else { return };
    let text = format!(
        "the schedules end {} {} before the run does: the learning rate stays at {} of its value until then",
        left(schedule),
        length.unit(),
        short(value)
    );
    found.push(Diag::warning(text).on(place).note("without `end` a schedule lasts as long as the run"));
}

/// Schedules that watch a validation that there is not, or a value that it does not give.
fn watched(parts: &RunParts<'_>, found: &mut Vec<Diag>) {
    let schedules = parts.builder.optim.as_ref().map_or(&[][..], |optim| optim.schedules());
    let known = parts.builder.val.as_ref().map(Evaluation::directions).or(parts.builder.directions.clone());
    for (schedule, spec) in schedules.iter().zip(parts.schedules) {
        let Some(name) = schedule.watches() else { continue };
        let text = match known.as_ref().filter(|known| known.get(name).is_none()) {
            _ if parts.config.val_dataloader.is_none() => {
                format!("the schedule watches `{name}`, and there is no validation: give `val_dataloader`")
            }
            // The names of a test are known as well, and are no answer to somebody who validates.
            Some(known) if name == "loss" && known.get("val_loss").is_some() => {
                "the validation gives no `loss`: did you mean `val_loss`?".to_owned()
            }
            Some(known) => known.meant(name, String::new()),
            None => String::new(),
        };
        if !text.is_empty() {
            found.push(Diag::error(text).on(spec.get("monitor").or(spec.get("type")).unwrap_or(spec)));
        }
    }
}

/// Two schedules that move one number at one time, where that is not a product of factors.
fn overlaps(parts: &RunParts<'_>, found: &mut Vec<Diag>) {
    let Some(optim) = &parts.builder.optim else { return };
    let epoch_len = parts.builder.epoch_len();
    let range = |schedule: &ScheduledParam| {
        let (begin, end, by_epoch) = schedule.range();
        let unit = if by_epoch { epoch_len.max(1) } else { 1 };
        (begin.saturating_mul(unit), end.saturating_mul(unit))
    };
    let all: Vec<_> = optim.schedules().iter().zip(parts.schedules).collect();
    for (index, (later, spec)) in all.iter().enumerate() {
        let ((begin, end), is_factor) = (range(later), later.is_factor());
        if settles(later) {
            continue;
        }
        let clash = all[..index].iter().find_map(|(earlier, other)| {
            // What stands at one place, a policy of MMCV 1.x has become: its parts belong together.
            if is_factor && earlier.is_factor() || other.at == spec.at && other.def == spec.def {
                return None;
            }
            let (other_begin, other_end) = range(earlier);
            let (from, to) = (begin.max(other_begin), end.min(other_end));
            let number = |group| earlier.number_of(group).filter(|own| later.number_of(group) == Some(own));
            optim.groups().iter().filter(|_| from < to).find_map(number).map(|number| (number, from, to))
        });
        if let Some((number, from, to)) = clash {
            let text = format!(
                "two schedules move {number} in iterations {from} to {to}, and one of them goes to a fixed value: \
                 together they reach neither's"
            );
            found.push(Diag::warning(text).on(spec).note("`begin` and `end` keep them apart"));
        }
    }
}

/// Whether the last step leaves what the schedules before give, as that of a warm-up behind them does.
///
/// From there on they reach their values.
fn settles(schedule: &ScheduledParam) -> bool {
    let (_, last, _) = schedule.range();
    let leaves = |value: f64| (schedule.apply(value, 1.0, last, last) - value).abs() < 1e-9;
    schedule.watches().is_none() && leaves(1.0) && leaves(0.5)
}

/// Backends that MMEngine has, and that write nothing here.
fn backends(config: &RunConfig, found: &mut Vec<Diag>) {
    for spec in config.backends().iter().filter(|spec| ELSEWHERE.contains(&spec.name())) {
        let text = format!(
            "`{}` writes nothing here: all that the run logs is in `vis_data/events.jsonl` of the log folder",
            spec.name()
        );
        found.push(Diag::warning(text).on(spec.node().get("type").unwrap_or(spec.node())));
    }
}

/// A whole number from 0.
pub(super) fn whole(node: &Node) -> Option<u64> {
    match &*node.kind {
        Kind::Int(n) => u64::try_from(*n).ok(),
        Kind::Uint(n) => Some(*n),
        _ => None,
    }
}

/// Batch norms see one batch of a window at a time, so that k batches of b are not one of k · b to them.
fn accumulation(parts: &RunParts<'_>, found: &mut Vec<Diag>) {
    let (Some(optim), Some(model)) = (&parts.config.optim_wrapper, &parts.builder.model) else { return };
    let mut norm = None;
    model.infos(&mut |p| {
        if p.role == Role::Buffer && p.name.ends_with("running_mean") {
            norm.get_or_insert_with(|| p.layer.to_owned());
        }
    });
    let counts = parts.node.get("optim_wrapper").and_then(|n| n.get("accumulative_counts"));
    if let (Some(norm), Some(place), 2..) = (norm, counts, optim.accumulative_counts) {
        let text = format!(
            "the model has {norm}, which normalises each of the {} batches of an update by itself: the result is not that of \
             one large batch",
            optim.accumulative_counts
        );
        found.push(Diag::warning(text).on(place));
    }
}

/// Models with another number of classes than the data, and classes that the training data have not.
fn classes(parts: &RunParts<'_>, found: &mut Vec<Diag>) {
    let of = |data: &DataLoader| match data.dataset().classes() {
        Some(names) => Some((names.len(), false)),
        None => Some((labels(data)?, true)),
    };
    let builder = parts.builder;
    let loaders = [
        ("train", builder.train_data.as_ref()),
        ("val", builder.val.as_ref().map(|val| &val.data)),
        ("test", builder.test.as_ref().map(|test| &test.data)),
    ];
    let names =
        |data: Option<&'_ DataLoader>| data.and_then(|data| data.dataset().classes().map(<[_]>::to_vec));
    let trained = names(loaders[0].1);
    for (mode, data) in &loaders[1..] {
        let (Some(trained), Some(own)) = (&trained, names(*data)) else { continue };
        if let Err(why) = relabelled(&own, trained) {
            let place =
                parts.node.get(&format!("{mode}_dataloader")).and_then(|loader| loader.get("dataset"));
            let text = format!("the data of `{mode}_dataloader` do not fit the training data: {why}");
            found.push(Diag::error(text).on(place.unwrap_or(parts.node)));
        }
    }
    let preprocessor = parts.config.model.node().get("data_preprocessor");
    let onehot = preprocessor.and_then(|node| node.get("to_onehot"));
    let onehot = onehot.is_some_and(|node| matches!(*node.kind, Kind::Bool(true)));
    let mut told = BTreeSet::new();
    for (mode, (classes, several)) in loaders.iter().filter_map(|(mode, data)| Some((mode, of((*data)?)?))) {
        let classes = classes as u64;
        num_classes("model", parts.config.model.node(), &mut |path, node| {
            let Some(n) = whole(node).filter(|n| *n > 0 && *n != classes) else { return };
            if !told.insert((path.to_owned(), classes)) {
                return;
            }
            let text = format!("`{path}` is {n}, but the data of `{mode}_dataloader` has {classes} classes");
            // One class too many is never right; of several labels at once each score wants its own. Without `to_onehot` a
            // preprocessor only has the number, as MMPretrain's for ImageNet-21k has one that is not its head's.
            let idle = !onehot && path.starts_with("model.data_preprocessor.");
            let wrong = !idle && (n < classes || several && path.starts_with("model.head."));
            let diag = if wrong { Diag::error(text) } else { Diag::warning(text) };
            found.push(diag.on(node));
        });
    }
}

/// How many labels a sample may have at once, where its target is a number for each of them.
fn labels(data: &DataLoader) -> Option<usize> {
    let fields = data.fields()?;
    let target = fields.get(TARGET).filter(|spec| spec.kind == FieldKind::Float)?;
    Some(target.names.len()).filter(|n| *n > 1)
}

/// Fields that the model reads and the data have not, as far as both say so.
fn fields(parts: &RunParts<'_>, found: &mut Vec<Diag>) {
    let builder = parts.builder;
    let Some(needs) = builder.model.as_ref().map(|model| model.reads()) else { return };
    let loaders = [
        ("train_dataloader", builder.train_data.as_ref(), [&needs.inputs[..], &needs.targets[..]].concat()),
        ("val_dataloader", builder.val.as_ref().map(|val| &val.data), needs.inputs.clone()),
        ("test_dataloader", builder.test.as_ref().map(|test| &test.data), needs.inputs.clone()),
    ];
    for (key, data, wanted) in loaders {
        let Some(given) = data.and_then(DataLoader::fields) else { continue };
        for name in wanted.iter().filter(|name| given.get(name).is_none()) {
            let names: Vec<&str> = given.names().collect();
            let text = format!(
                "the model reads the field `{name}`, but the data of {key} give {}",
                names.join(", ")
            );
            let diag = Diag::error(text.as_str()).on(blamed(parts.config.model.node(), &text));
            found.push(match nearest(name, names.iter().copied()) {
                Some(near) => diag.note(format!("did you mean `{near}`?")),
                None => diag,
            });
        }
    }
}

/// Positions to be left out that are not there.
fn excluded(parts: &RunParts<'_>, found: &mut Vec<Diag>) {
    let Some(len) = parts.builder.train_data.as_ref().map(|data| data.dataset().len() as u64) else { return };
    for place in parts.node.get("exclude_samples").map_or(&[][..], Node::items) {
        if let Some(id) = whole(place).filter(|id| *id >= len) {
            let text = format!("there is no sample {id}: the training data have {len}, counted from 0");
            found.push(Diag::error(text).on(place));
        }
    }
    let ids = &parts.config.exclude_samples;
    if let Some(place) = parts
        .node
        .get("exclude_samples")
        .filter(|_| ids.len() as u64 >= len && (0..len).all(|id| ids.contains(&id)))
    {
        found.push(Diag::error("all training samples are left out: nothing would be trained").on(place));
    }
}

/// Patterns of `revise_keys` that are none.
fn patterns(parts: &RunParts<'_>, found: &mut Vec<Diag>) {
    let rules = parts.node.get("load_options").and_then(|options| options.get("revise_keys"));
    for place in rules.map_or(&[][..], Node::items).iter().filter_map(|rule| rule.items().first()) {
        if let Some(Err(why)) = place.as_str().map(super::names::pattern) {
            found.push(Diag::error(why.to_string()).on(place));
        }
    }
}

fn num_classes(path: &str, node: &Node, f: &mut dyn FnMut(&str, &Node)) {
    for (key, value) in node.entries() {
        let path = format!("{path}.{}", key.text);
        if key.text == "num_classes" { f(&path, value) } else { num_classes(&path, value, f) }
    }
    for (i, item) in node.items().iter().enumerate() {
        num_classes(&format!("{path}.{i}"), item, f);
    }
}
