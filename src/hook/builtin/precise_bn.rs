//! True statistics for batch norms, instead of those that training left behind.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayD;

use crate::params;
use crate::plugin::prelude::*;

/// Probe value of a running statistic: large, so that the layer's momentum shows in it almost exactly.
const PROBE: Elem = 1_048_576.0;

/// Replaces the running means and variances of batch norms by their mean over many batches, those of all ranks, with
/// weights held still (Wu and Johnson 2021, after mmpretrain's hook).
///
/// It works for every model whose statistics are called `running_mean` and `running_var` and move by a fixed share of
/// the batch's: that share is measured, the layers are not touched. Gradients and counters are as they were afterwards.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PreciseBNHook {
    /// Samples to average over, of all ranks, at most those of an epoch.
    #[schemars(range(min = 1))]
    num_samples: u64,
    /// Epochs (iterations, in the iteration loop) between two estimates.
    #[schemars(range(min = 1))]
    interval: u64,
}

impl Default for PreciseBNHook {
    fn default() -> Self {
        Self { num_samples: 8192, interval: 1 }
    }
}

type Tensors = Vec<ArrayD<Elem>>;

fn is_statistic(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

fn statistics(p: &Info<'_>) -> bool {
    p.role == Role::Buffer && is_statistic(p.name)
}

/// The names of the statistics that a training step moves: those of frozen layers stay as they are.
fn moving(model: &mut dyn Model, batch: &Batch, cx: &StepCx) -> Result<BTreeSet<String>> {
    let mut before: BTreeMap<String, ArrayD<Elem>> = BTreeMap::new();
    model.read(Set::Values, &statistics, &mut |p, value| {
        before.insert(p.name.to_owned(), value.to_owned());
    })?;
    model.train_step(batch, cx)?;
    let mut moved = BTreeSet::new();
    model.edit(Set::Values, &statistics, &mut |p, mut value| {
        if let Some(kept) = before.get(p.name).filter(|kept| **kept != value) {
            value.assign(kept);
            moved.insert(p.name.to_owned());
        }
    })?;
    Ok(moved)
}

/// The statistics after one training step that began with `start` in all of them.
fn after_step(
    model: &mut dyn Model,
    names: &BTreeSet<String>,
    batch: &Batch,
    cx: &StepCx,
    start: Elem,
) -> Result<Tensors> {
    let counted = |p: &Info<'_>| p.role == Role::Counter;
    model.edit(Set::Values, &|p| counted(p) || names.contains(p.name), &mut |p, mut value| {
        value.fill(if counted(p) { 0.0 } else { start });
    })?;
    model.train_step(batch, cx)?;
    let mut found = Vec::new();
    model.read(Set::Values, &|p| names.contains(p.name), &mut |_, value| found.push(value.to_owned()))?;
    Ok(found)
}

/// The sums over `batches` of each statistic of a single batch, and how many there were.
fn estimate(
    model: &mut dyn Model,
    names: &BTreeSet<String>,
    batches: impl Iterator<Item = Result<Batch>>,
    cx: &StepCx,
) -> Result<(Vec<ArrayD<f64>>, f64)> {
    let mut momenta: Option<Vec<f64>> = None;
    let (mut sums, mut n): (Vec<ArrayD<f64>>, f64) = (Vec::new(), 0.0);
    for batch in batches {
        let batch = batch?;
        if batch.is_empty() {
            continue;
        }
        let zero = after_step(model, names, &batch, cx, 0.0)?;
        if momenta.is_none() {
            let probe = after_step(model, names, &batch, cx, PROBE)?;
            // running' = (1 - m) * running + m * batch: the difference of two starts is (1 - m) * PROBE.
            let measure = |(z, p): (&ArrayD<Elem>, &ArrayD<Elem>)| {
                let gap = z.iter().zip(p).map(|(z, p)| f64::from(*p) - f64::from(*z)).sum::<f64>();
                1.0 - gap / z.len().max(1) as f64 / f64::from(PROBE)
            };
            momenta = Some(zero.iter().zip(&probe).map(measure).collect());
            sums = zero.iter().map(|z| ArrayD::zeros(z.raw_dim())).collect();
        }
        for ((sum, z), m) in sums.iter_mut().zip(&zero).zip(momenta.iter().flatten()) {
            sum.zip_mut_with(z, |sum, z| *sum += f64::from(*z) / m);
        }
        n += 1.0;
    }
    Ok((sums, n))
}

/// The means over the batches of all ranks.
fn means((mut sums, mut n): (Vec<ArrayD<f64>>, f64), comm: &dyn Comm) -> Result<Vec<ArrayD<f64>>> {
    if comm.place().world > 1 {
        let mut flat: Vec<f64> = std::iter::once(n).chain(sums.iter().flatten().copied()).collect();
        comm.sum(&mut flat)?;
        let mut flat = flat.into_iter();
        n = flat.next().unwrap_or(n);
        sums.iter_mut().flatten().zip(flat).for_each(|(sum, of_all)| *sum = of_all);
    }
    sums.iter_mut().for_each(|sum| *sum /= n);
    Ok(sums)
}

/// These names in the order of the model.
fn moved_in_order(model: &dyn Model, names: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    model.infos(&mut |p| {
        if names.contains(p.name) {
            found.push(p.name.to_owned());
        }
    });
    found
}

impl PreciseBNHook {
    fn run(self, cx: &mut Ctx<'_>) -> HookResult {
        let Some(data) = cx.data.filter(|_| !cx.info.placeholders) else { return Ok(()) };
        let n = (self.num_samples / data.samples_of_all() as u64).min(data.len());
        let mut has_statistics = false;
        cx.model.infos(&mut |p| has_statistics |= statistics(&p));
        if !has_statistics || n == 0 {
            cx.log
                .warn("PreciseBNHook: no running statistics in the model, or `num_samples` below one batch");
            return cx.unsubscribe();
        }
        let (mut grads, mut counters) = (BTreeMap::new(), BTreeMap::new());
        cx.model.read(Set::Grads, &params::all, &mut |p, grad| {
            grads.insert(p.name.to_owned(), grad.to_owned());
        })?;
        cx.model.read(Set::Values, &|p| p.role == Role::Counter, &mut |p, value| {
            counters.insert(p.name.to_owned(), value.to_owned());
        })?;
        let first = cx.progress.iter.saturating_sub(n);
        let step = StepCx { seed: cx.info.seed, iter: cx.progress.iter, loss_scale: 0.0 };
        let names = match data.batches(first, Some(first + 1)).next() {
            Some(batch) => moving(&mut **cx.model, &batch?, &step)?,
            None => BTreeSet::new(),
        };
        let found = estimate(&mut **cx.model, &names, data.batches(first, Some(first + n)), &step)?;
        let means = means(found, cx.comm)?;
        if grads.is_empty() {
            // Between two updates there are none.
            cx.model.clear_grads()?;
        } else {
            // In the middle of a window: a parameter that no loss had reached has a gradient of zero now.
            cx.model.put_grads(&grads)?;
        }
        let means: BTreeMap<_, _> = moved_in_order(&**cx.model, &names).into_iter().zip(means).collect();
        let set = |p: &Info<'_>| counters.contains_key(p.name) || means.contains_key(p.name);
        cx.model.edit(Set::Values, &set, &mut |p, mut value| {
            if let Some(counter) = counters.get(p.name) {
                value.assign(counter);
            } else if let Some(mean) = means.get(p.name) {
                value.zip_mut_with(mean, |v, m| *v = *m as Elem);
            }
        })?;
        cx.log.info(format_args!("precise statistics of batch norms from {n} batches"));
        Ok(())
    }
}

setters!(PreciseBNHook {
    /// Samples to average over, at most those of an epoch.
    num_samples: = u64,
    /// Epochs (iterations, in the iteration loop) between two estimates.
    interval: = u64,
});

impl Hook for PreciseBNHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)
    }

    fn priority(&self) -> Priority {
        Priority::ABOVE_NORMAL
    }

    fn order(&self) -> HookOrder {
        HookOrder::default().before("EMAHook").before("CheckpointHook")
    }

    fn counts_epochs(&self, by_epoch: bool) -> bool {
        by_epoch
    }

    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let complete = cx.progress.batch == 0;
        if cx.progress.by_epoch && complete && cx.progress.every_n_epochs(self.interval, 0) {
            return self.run(cx);
        }
        cx.no_op()
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if !cx.progress.by_epoch && cx.progress.every_n_iters(self.interval, 0) {
            return self.run(cx);
        }
        cx.no_op()
    }
}

register! {
    /// Replaces the running statistics of batch norms by their mean over many batches.
    dyn Hook, "PreciseBNHook" => PreciseBNHook
}
