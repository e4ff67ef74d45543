//! What a config writes and what never acts in the run: intervals longer than it, and whatever begins behind its end.

use super::checks::{Length, RunParts, whole};
use crate::config::{Diag, Kind, Node};

/// Hooks that do nothing at all in a run of fewer iterations than their interval. A log has a line at the end of each
/// epoch all the same.
const BY_ITERATION: [&str; 4] = ["EMAHook", "MeanTeacherHook", "HistogramHook", "CheckInvalidLossHook"];

/// Everything of that kind.
pub(super) fn of(parts: &RunParts<'_>, length: Length, found: &mut Vec<Diag>) {
    intervals(parts, length, found);
    beginnings(parts, length, found);
    validations(parts, length, found);
}

/// Hooks whose interval is longer than the run, or which count what the loop does not.
fn intervals(parts: &RunParts<'_>, length: Length, found: &mut Vec<Diag>) {
    for (key, node) in parts.hooks {
        let Some(hook) = parts.builder.in_line(key) else { continue };
        let counts_epochs = hook.counts_epochs(length.by_epoch);
        if counts_epochs && !length.by_epoch {
            let text = format!("{key} counts epochs, but the loop counts iterations");
            found.push(Diag::warning(text).on(node.get("by_epoch").unwrap_or(node)));
        }
        let counted = counts_epochs == length.by_epoch || node.get("by_epoch").is_some();
        let counted = counted
            || node
                .get("type")
                .and_then(Node::as_str)
                .is_some_and(|name| BY_ITERATION.iter().any(|own| name.ends_with(own)));
        let interval = node.get("interval").filter(|_| counted).and_then(|n| Some((whole(n)?, n)));
        let (total, unit) = length.counted(counts_epochs);
        if let Some((interval, place)) = interval.filter(|(interval, _)| *interval > total && total > 0) {
            let text = format!("an interval of {interval} is longer than the run of {total} {unit}");
            found.push(Diag::warning(text).on(place));
        }
    }
}

/// What hooks do from an epoch on that the run does not have.
fn beginnings(parts: &RunParts<'_>, length: Length, found: &mut Vec<Diag>) {
    let (epochs, unit) = length.counted(true);
    for (key, node) in parts.hooks {
        let recipes = node.get("schedule").map_or(&[][..], Node::items).iter();
        // The one hook counts epochs from 1, the other from 0.
        let first = recipes.filter_map(|recipe| recipe.get("action_epoch")).map(|place| (place, 0));
        let first = first.chain(node.get("switch_epoch").map(|place| (place, 1)));
        for (place, behind) in first.filter(|_| epochs > 0) {
            if whole(place).is_some_and(|epoch| epoch.saturating_add(behind) > epochs) {
                let text =
                    format!("this pipeline is never used: it lies behind the {epochs} {unit} of the run");
                found.push(Diag::warning(text).on(place));
            }
        }
        let Some(hook) = parts.builder.in_line(key) else { continue };
        let (total, unit) = length.counted(hook.counts_epochs(length.by_epoch));
        if let Some(place) =
            node.get("save_begin").filter(|n| total > 0 && whole(n).is_some_and(|n| n > total))
        {
            let last = !node.get("save_last").is_some_and(|n| matches!(*n.kind, Kind::Bool(false)));
            let what = if last { "only the end is saved" } else { "nothing is saved" };
            found.push(
                Diag::warning(format!("{what}, as this lies behind the {total} {unit} of the run")).on(place),
            );
        }
    }
}

/// A wave that is shorter than its schedule of `until` epochs or iterations, and what becomes of the rest.
pub(super) fn short_of<'n>(
    name: &str,
    schedule: &'n Node,
    until: f64,
    unit: &str,
) -> Option<(String, &'n Node)> {
    let shorter = |steps: u64| (steps as f64) < until;
    if name.starts_with("CosineRestart") {
        let periods = schedule.get("periods")?;
        let covered = periods.items().iter().filter_map(whole).fold(0, u64::saturating_add);
        let text = format!(
            "the periods end after {covered} of the {until} {unit} of the schedule, and its value stays where it is then: \
             give more `periods` and `restart_weights`, or an `end`"
        );
        return shorter(covered).then_some((text, periods));
    }
    let place = schedule.get("T_max").filter(|_| name.starts_with("CosineAnnealing"))?;
    let half = whole(place).filter(|half| shorter(*half))?;
    let text = format!(
        "the value is at its lowest after {half} of the {until} {unit} of the schedule, and rises again: leave `T_max` out, or \
         give an `end`"
    );
    Some((text, place))
}

/// Validations that never come, or only at the end.
fn validations(parts: &RunParts<'_>, length: Length, found: &mut Vec<Diag>) {
    let Some(train) = parts.node.get("train_cfg").filter(|_| parts.builder.val.is_some()) else { return };
    let (total, unit) = length.counted(length.by_epoch);
    let beyond =
        |node: Option<&Node>, limit: u64| node.filter(|n| whole(n).is_some_and(|n| n > limit)).cloned();
    let mut warn = |place: Option<Node>, text: &str| {
        let diag = |place| Diag::warning(format!("{text} the {total} {unit} of the run")).on(&place);
        found.extend(place.map(diag));
    };
    warn(beyond(train.get("val_begin"), total), "nothing is validated, as this lies behind");
    warn(beyond(train.get("val_interval"), total), "only the end is validated, as this is longer than");
    for pair in train.get("dynamic_intervals").map_or(&[][..], Node::items) {
        // MMEngine looks one unit ahead.
        warn(beyond(pair.items().first(), total.saturating_add(1)), "this never acts, as it lies behind");
    }
}
