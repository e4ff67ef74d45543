//! The optimizer's numbers over a whole run: multipliers and schedules move them, and each must stay what the optimizer
//! takes.

use std::collections::BTreeSet;

use super::LoopTotals;
use super::checks::RunParts;
use crate::base::number::short;
use crate::config::{Diag, Node, broken_rule};
use crate::optim::{Group, ScheduledParam};
use crate::registry::number_rules;

/// So many steps of a run are looked at, evenly spread; all of a shorter one.
const LOOKS: u64 = 10_000;

/// The parameters of schedules that say where a number goes.
const AIMS: [&str; 6] = ["eta_min", "eta_min_ratio", "gamma", "factor", "end_factor", "start_factor"];

/// Numbers that a group begins with, or that a schedule comes to, beyond what the optimizer's schema allows.
pub(super) fn of(parts: &RunParts<'_>) -> Vec<Diag> {
    let (Some(optim), Some(config)) = (&parts.builder.optim, &parts.config.optim_wrapper) else {
        return Vec::new();
    };
    let Some(entry) = config.optimizer.entry() else { return Vec::new() };
    let steps = steps(parts);
    let (mut found, mut told) = (Vec::new(), BTreeSet::new());
    for group in optim.groups() {
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
    let all = (0..=last / stride).map(|n| n * stride).chain([last]);
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
