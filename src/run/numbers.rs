//! The optimizer's numbers over a whole run: multipliers and schedules move them, each must stay what the optimizer
//! takes, and a schedule that moves none of them is most likely a slip.

use std::collections::BTreeSet;

use super::LoopTotals;
use super::checks::RunParts;
use crate::base::number::{count, short};
use crate::config::{Diag, Node, broken_rule};
use crate::optim::{Group, ScheduledParam};
use crate::registry::number_rules;

/// So many steps of a run are looked at, evenly spread; all of a shorter one.
const LOOKS: u64 = 10_000;

/// Of so many schedules it is told that they change nothing.
const MANY: usize = 64;

/// The parameters of schedules that say where a number goes.
const AIMS: [&str; 6] = ["eta_min", "eta_min_ratio", "gamma", "factor", "end_factor", "start_factor"];

/// Numbers that a group begins with, or that a schedule comes to, beyond what the optimizer's schema allows.
pub(super) fn of(parts: &RunParts<'_>) -> Vec<Diag> {
    let (Some(optim), Some(config)) = (&parts.builder.optim, &parts.config.optim_wrapper) else {
        return Vec::new();
    };
    let steps = steps(parts);
    let (mut found, mut told) = (Vec::new(), BTreeSet::new());
    for group in optim.groups() {
        let Some(entry) = config.spec(optim.name_of(group)).and_then(|spec| spec.entry()) else { continue };
        for (number, _) in group.numbers() {
            let rules = number_rules(entry, number);
            let base = group.base(number).unwrap_or_default();
            if let Some(rule) = broken_rule(base, &rules) {
                if told.insert((*number, None)) {
                    found.push(begins_wrong(parts, group, number, base, &rule));
                }
                continue;
            }
            let course = steps.iter().map(|at| (at, moved(optim.schedules(), group, number, base, *at)));
            let wrong =
                course.filter_map(|(at, (value, by))| Some((at, value, by?, broken_rule(value, &rules)?)));
            if let Some(((_, iter), value, by, rule)) = wrong.into_iter().next()
                && let Some(spec) = parts.schedules.get(by).filter(|_| told.insert((*number, Some(by))))
            {
                let text = format!(
                    "this schedule makes {number} {} at iteration {iter}, and it must be {rule}",
                    short(value)
                );
                found.push(Diag::error(text).on(aim(spec)));
            }
        }
    }
    found
}

/// A learning rate that is 0 in every group and at every step: nothing would be learnt.
pub(super) fn still(parts: &RunParts<'_>) -> Option<Diag> {
    let optim = parts.builder.optim.as_ref()?;
    let lr = |group: &Group, at: (u64, u64)| {
        let base = group.base("lr").unwrap_or(1.0);
        moved(optim.schedules(), group, "lr", base, at).0
    };
    let watched = optim.schedules().iter().any(|schedule| schedule.watches().is_some());
    let all = optim.groups().iter().all(|group| steps(parts).into_iter().all(|at| lr(group, at) == 0.0));
    if watched || optim.groups().is_empty() || !all {
        return None;
    }
    let optimizer = parts.node.get("optim_wrapper")?.get("optimizer")?;
    let text = "the learning rate is 0 in all of the run: nothing is learnt";
    Some(Diag::warning(text).on(optimizer.get("lr").unwrap_or(optimizer)))
}

/// Schedules that leave every number as it is in all of the run; those that `told` speaks of are known already.
pub(super) fn idle(parts: &RunParts<'_>, told: &[Diag]) -> Vec<Diag> {
    let LoopTotals { epochs, iters, by_epoch } = parts.builder.totals();
    let Some(optim) = parts.builder.optim.as_ref().filter(|_| iters > 0) else { return Vec::new() };
    let schedules = optim.schedules().get(..MANY).unwrap_or(optim.schedules());
    // One without steps is written to be none, and what validations will say nobody knows.
    let has_steps = |index: &usize| {
        schedules.get(*index).is_some_and(|s| s.range().0 < s.range().1 && s.watches().is_none())
    };
    let mut idle: BTreeSet<usize> = (0..schedules.len()).filter(has_steps).collect();
    for at in steps(parts) {
        for group in optim.groups() {
            idle.retain(|index| {
                let number = schedules.get(*index).and_then(|schedule| schedule.number_of(group));
                let (Some(number), Some(own)) = (number, schedules.get(..=*index)) else { return true };
                // A number that is 0 stays so under every factor.
                let base = group.base(number).unwrap_or_default();
                base != 0.0 && moved(own, group, number, base, at).1 != Some(*index)
            });
        }
        if idle.is_empty() {
            break;
        }
    }
    let known = |spec: &Node| told.iter().filter_map(|diag| diag.at.as_ref()).any(|at| spec.holds(at));
    let total = if by_epoch { count(epochs, "epoch") } else { count(iters, "iteration") };
    let found = idle.iter().filter_map(|index| parts.schedules.get(*index)).filter(|spec| !known(spec));
    let diag = |spec: &Node| {
        let name = spec.get("type").and_then(Node::as_str).unwrap_or("schedule");
        let text = format!("this {name} changes nothing in the {total} of the run");
        Diag::warning(text).on(when(spec))
    };
    found.map(diag).collect()
}

/// Where a schedule says when it acts.
fn when(spec: &Node) -> &Node {
    ["milestones", "step_size", "end"].iter().find_map(|key| spec.get(key)).unwrap_or_else(|| aim(spec))
}

/// A product of multipliers that is none of the optimizer's numbers.
fn begins_wrong(parts: &RunParts<'_>, group: &Group, number: &str, base: f64, rule: &str) -> Diag {
    let text = format!(
        "the group `{}` would begin with {number} {}, and it must be {rule}",
        group.name(),
        short(base)
    );
    let optim = parts.node.get("optim_wrapper").unwrap_or(parts.node);
    let scaled = parts
        .node
        .get("auto_scale_lr")
        .filter(|_| parts.config.auto_scale_lr.as_ref().is_some_and(|s| s.enable));
    let place = optim.get("paramwise_cfg").filter(|rules| !rules.is_null()).or(scaled);
    Diag::error(text).on(place.or(optim.get("optimizer")).unwrap_or(optim))
}

/// Where a schedule says where it goes.
fn aim(spec: &Node) -> &Node {
    AIMS.iter().find_map(|key| spec.get(key)).or(spec.get("type")).unwrap_or(spec)
}

/// Completed epochs and iterations of the steps that are looked at: the first, the last, and some between.
fn steps(parts: &RunParts<'_>) -> Vec<(u64, u64)> {
    let LoopTotals { epochs, iters, .. } = parts.builder.totals();
    let epoch_len = parts.builder.epoch_len();
    if iters == 0 {
        // Without data nobody knows how long an epoch is.
        let last = epochs.saturating_sub(1);
        return (0..=last.min(LOOKS)).map(|epoch| (epoch, 0)).chain([(last, 0)]).collect();
    }
    let last = iters - 1;
    let stride = (iters / LOOKS).max(1);
    // A short schedule may lie between two of them.
    let schedules = parts.builder.optim.as_ref().map_or(&[][..], |optim| optim.schedules());
    let ends = schedules.iter().take(MANY).flat_map(|schedule| {
        let (begin, end, by_epoch) = schedule.range();
        let unit = if by_epoch { epoch_len.max(1) } else { 1 };
        [begin.saturating_mul(unit), end.saturating_mul(unit).saturating_sub(1)]
    });
    let all = (0..=last / stride).map(|n| n * stride).chain(ends.filter(|at| *at < last)).chain([last]);
    all.map(|iter| (iter / epoch_len.max(1), iter)).collect()
}

/// The value of a number, and which schedule was the last to change it.
fn moved(
    schedules: &[ScheduledParam],
    group: &Group,
    number: &str,
    base: f64,
    (epoch, iter): (u64, u64),
) -> (f64, Option<usize>) {
    let mine = schedules.iter().enumerate().filter(|(_, schedule)| schedule.number_of(group) == Some(number));
    mine.fold((base, None), |(value, by), (index, schedule)| {
        let next = schedule.apply(value, base, epoch, iter);
        (next, if next == value { by } else { Some(index) })
    })
}
