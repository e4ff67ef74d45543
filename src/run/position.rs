//! Where a checkpoint's run stands in the batches of this one, which may be of another size, or of other ranks.

use super::State;
use crate::base::number::count;
use crate::checkpoint::{Checkpoint, Meta};
use crate::data::ShardPolicy;
use crate::optim::other_ranks;

/// Completed iterations, and batches of the epoch under way, in the units of this run.
///
/// # Errors
/// Why no batch of this run begins where that one stands.
pub(super) fn of(state: &State, checkpoint: &Checkpoint) -> Result<(u64, u64), String> {
    let (meta, progress) = (&checkpoint.meta, &state.progress);
    let (then, now) = (meta.world.max(1), state.comm.place().world as u64);
    let open = |key: &String| key.starts_with("grad.");
    if then != now && checkpoint.optimizer.iter().any(|record| record.tensors.keys().any(open)) {
        return Err(other_ranks(then as usize, now as usize));
    }
    let (epoch_len, by_epoch) = (progress.epoch_len, progress.by_epoch);
    let stands = rescale(meta, epoch_len, state.batch_size, by_epoch);
    let stands = stands.ok_or_else(|| mismatch(meta, epoch_len, state.batch_size, now))?;
    let within = if by_epoch { meta.batch > 0 && !has_gone_through(meta) } else { meta.iter > 0 };
    match within && state.data.is_some() {
        true => goes_on_within(state, meta, then != now).map(|()| stands),
        false => Ok(stands),
    }
}

/// Whether the batches that are left hold what that run had left, where it stands within a pass.
fn goes_on_within(state: &State, meta: &Meta, other_world: bool) -> Result<(), String> {
    let Some(data) = &state.data else { return Ok(()) };
    let why = if other_world && data.policy() == ShardPolicy::Blocks {
        "its sampler gives each rank a block, and a rank has gone through a part of its own"
    } else if meta.batch_size > 0
        && meta.batch_size != state.batch_size
        && !data.same_order_by(meta.batch_size as usize).map_err(|why| why.to_string())?
    {
        "its sampler orders the samples by batches, which were of another size"
    } else {
        return Ok(());
    };
    let ranks = count(meta.world.max(1), "rank");
    Err(format!(
        "it stands within a pass of batches of {} samples on {ranks}; {why}: resume with as many, or from the end of an \
         epoch",
        meta.batch_size
    ))
}

/// Whether all batches of the epoch under way are made, so that nothing of it is left but its end.
fn has_gone_through(meta: &Meta) -> bool {
    meta.epoch_len > 0 && meta.batch == meta.epoch_len
}

/// Iterations and batches in the units of this run: samples seen are kept. `None` if that is not exact.
fn rescale(meta: &Meta, epoch_len: u64, batch_size: u64, by_epoch: bool) -> Option<(u64, u64)> {
    if (meta.epoch_len, meta.batch_size) == (epoch_len, batch_size) || epoch_len == 0 || meta.batch_size == 0
    {
        return Some((meta.iter, if by_epoch { meta.batch } else { meta.iter }));
    }
    let exact = |batches: u64| {
        let samples = batches * meta.batch_size;
        (batch_size > 0 && samples.is_multiple_of(batch_size)).then(|| samples / batch_size)
    };
    if by_epoch {
        let batch = if has_gone_through(meta) { epoch_len } else { exact(meta.batch)? };
        return (batch <= epoch_len).then_some((meta.epoch * epoch_len + batch, batch));
    }
    exact(meta.iter).map(|iter| (iter, iter))
}

fn mismatch(meta: &Meta, epoch_len: u64, batch_size: u64, world: u64) -> String {
    let stands = format!(
        "it stands at iteration {} of {} batches an epoch, each of {} samples",
        meta.iter, meta.epoch_len, meta.batch_size
    );
    if meta.batch_size == batch_size {
        return format!(
            "{stands}, {} of them into an epoch that has only {epoch_len} now: resume with the data as it was, or from the \
             end of an epoch",
            meta.batch
        );
    }
    let remedy = match (world, meta.batch_size % world) {
        (1, _) => format!("batch_size {}", meta.batch_size),
        (_, 0) => format!("batch_size {} on {}", meta.batch_size / world, count(world, "rank")),
        _ => format!("{}, or from the end of an epoch", count(meta.world.max(1), "rank")),
    };
    format!(
        "{stands}; that is no whole number of this run's batches ({epoch_len} an epoch of {batch_size}): resume \
         with {remedy}"
    )
}
