//! Buffers that are the same on all ranks.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::plugin::prelude::*;

/// Averages the buffers of the model, as running means and variances, over the ranks that train together, each by the
/// samples of its batch; without this hook they are those of the first rank.
///
/// MMEngine's does so after each epoch, and this one after each iteration, which is the same mean: running statistics
/// move by a share of the batch's. So all ranks hold equal buffers at any time, and a checkpoint has them all.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SyncBuffersHook {
    /// As they were before the iteration.
    #[serde(skip)]
    before: BTreeMap<String, ArrayD<Elem>>,
}

fn is_buffer(p: &Info<'_>) -> bool {
    !p.role.is_trained()
}

impl SyncBuffersHook {
    /// The weighted means of all buffers that this iteration moved on any rank. Those that nothing moves keep their bits.
    fn average(&self, model: &mut dyn Model, comm: &dyn Comm, samples: f64) -> Result<()> {
        let (mut sums, mut moved) = (vec![samples], Vec::new());
        model.read(Set::Values, &is_buffer, &mut |p, value| {
            let same = self.before.get(p.name).is_some_and(|before| *before == value);
            moved.push(f64::from(u8::from(!same)));
            sums.extend(value.iter().map(|value| samples * f64::from(*value)));
        })?;
        let buffers = sums.len();
        sums.append(&mut moved);
        comm.sum(&mut sums)?;
        let (means, moved) = sums.split_at(buffers);
        let Some((of_all, means)) = means.split_first().filter(|(of_all, _)| **of_all > 0.0) else {
            return Ok(());
        };
        let (mut means, mut moved) = (means.iter(), moved.iter());
        model.edit(Set::Values, &is_buffer, &mut |p, mut value| {
            let own = means.by_ref().take(p.shape.iter().product());
            if moved.next().is_some_and(|ranks| *ranks > 0.0) {
                value.iter_mut().zip(own).for_each(|(value, sum)| *value = (sum / of_all) as Elem);
            } else {
                own.for_each(drop);
            }
        })
    }
}

impl Hook for SyncBuffersHook {
    fn order(&self) -> HookOrder {
        HookOrder::default().before("EMAHook").before("CheckpointHook")
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if cx.comm.place().world == 1 {
            cx.log.info("SyncBuffersHook: the run has one process, there is nothing to synchronise");
        }
        Ok(())
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        if cx.comm.place().world == 1 {
            return cx.unsubscribe();
        }
        let before = &mut self.before;
        cx.model.read(Set::Values, &is_buffer, &mut |p, value| match before.get_mut(p.name) {
            Some(kept) => kept.assign(&value),
            None => drop(before.insert(p.name.to_owned(), value.to_owned())),
        })?;
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        if cx.comm.place().world == 1 {
            return cx.unsubscribe();
        }
        Ok(self.average(&mut **cx.model, cx.comm, step.batch.len() as f64)?)
    }
}

register! {
    /// Averages buffers, as running means, over the processes that train together.
    dyn Hook, "SyncBuffersHook" => SyncBuffersHook
}
