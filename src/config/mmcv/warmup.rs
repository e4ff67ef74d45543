//! The warm-up of MMCV's policies: a factor of whatever the policy gives, by iteration.

use super::parts::Taken;
use super::schedule::{Made, Moves, Place};
use crate::config::{Diag, Kind};

/// The warm-up of a policy; none if it has none.
///
/// # Errors
/// A kind that there is not, or a warm-up without a length.
pub(super) fn taken(keys: &mut Taken, place: &Place<'_>) -> Result<Option<Made>, Box<Diag>> {
    let kind = keys.take("warmup").map(|(_, kind)| kind).filter(|kind| !kind.is_null());
    let length = keys.number("warmup_iters");
    let usual = if place.moves == Moves::Lr { 0.1 } else { 0.9 };
    let ratio = keys.number("warmup_ratio").map_or(usual, |(_, ratio)| ratio);
    let by_epoch = keys.take("warmup_by_epoch").and_then(|(_, value)| value.as_bool()).unwrap_or(false);
    let Some(kind) = kind else { return Ok(None) };
    let name = kind.as_str().unwrap_or_default();
    if !matches!(name, "constant" | "linear" | "exp") {
        let text = format!("the warm-up {} is none of constant, linear and exp", kind.summary());
        return Err(Box::new(Diag::error(text).on(&kind)));
    }
    let Some((_, length)) = length.filter(|(_, length)| *length > 0.0) else {
        return Err(Box::new(Diag::error("a warm-up needs `warmup_iters`, above 0").on(&kind)));
    };
    // One step longer than it warms: the last one is the policy's own value, at which it stays.
    let end = || ("end", Kind::Float(length + 1.0));
    let in_iterations = || vec![("by_epoch", Kind::Bool(false)), end()];
    let plain = match (place.moves, name, by_epoch) {
        (Moves::Lr, "constant", false) => Some(("Constant", "factor")),
        (Moves::Lr, "linear", false) => Some(("Linear", "start_factor")),
        _ => None,
    };
    if let Some((shape, factor)) = plain {
        let keys = [(factor, Kind::Float(ratio))].into_iter().chain(in_iterations()).collect();
        return Ok(Some(place.schedule(shape, keys)));
    }
    // What is left of the warm-up, from 1 down to 0.
    let left = match by_epoch {
        true => format!("max(0, 1 - t * {} / (T * {length}))", length + 1.0),
        false => format!("(1 - t / {length})"),
    };
    let factor = match name {
        "constant" => format!("if({left} > 0, {ratio}, 1)"),
        "linear" => format!("(1 - {left} * (1 - {ratio}))"),
        _ => format!("{ratio} ^ {left}"),
    };
    let x = place.moves.name();
    let formula = match place.moves {
        Moves::Lr => format!("{x} * {factor}"),
        Moves::Momentum => format!("{x} / {factor}"),
    };
    let mut made = vec![("expression", Kind::Str(formula))];
    match by_epoch {
        true => {
            made.extend([("by_epoch", Kind::Bool(true)), ("convert_to_iter_based", Kind::Bool(true)), end()])
        }
        false => made.extend(in_iterations()),
    }
    Ok(Some(place.schedule("Expression", made)))
}
