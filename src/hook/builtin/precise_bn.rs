//! True statistics for batch norms, instead of those that training left behind.

use std::collections::BTreeSet;

use ndarray::ArrayD;

use crate::prelude::*;

/// Probe value of a running statistic: large, so that the layer's momentum shows in it almost exactly.
const PROBE: Elem = 1_048_576.0;

/// Replaces the running means and variances of batch norms by their mean over many batches, with weights held still (Wu and
/// Johnson 2021, after mmpretrain's hook).
///
/// It works for every model whose statistics are called `running_mean` and `running_var` and move by a fixed share of
/// the batch's: that share is measured, the layers are not touched. Gradients and counters are as they were afterwards.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PreciseBNHook {
    /// Samples to average over, at most those of an epoch.
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

/// The names of the statistics that a training step moves: those of frozen layers stay as they are.
fn moving(model: &mut dyn Model, batch: &Batch, cx: &StepCx) -> Result<BTreeSet<String>> {
    let mut before: Vec<(String, ArrayD<Elem>)> = Vec::new();
    model.visit(&mut |p| {
        if p.role == Role::Buffer && is_statistic(p.name) {
            before.push((p.name.to_owned(), p.value.to_owned()));
        }
    });
    model.train_step(batch, cx)?;
    let (mut moved, mut kept) = (BTreeSet::new(), before.into_iter());
    model.visit_mut(&mut |mut p| {
        if p.role == Role::Buffer
            && is_statistic(p.name)
            && let Some((name, value)) = kept.next()
            && p.value != value
        {
            p.value.assign(&value);
            moved.insert(name);
        }
    });
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
    model.visit_mut(&mut |mut p| match p.role {
        Role::Buffer if names.contains(p.name) => p.value.fill(start),
        Role::Counter => p.value.fill(0.0),
        _ => {}
    });
    model.train_step(batch, cx)?;
    let mut found = Vec::new();
    model.visit(&mut |p| {
        if names.contains(p.name) {
            found.push(p.value.to_owned());
        }
    });
    Ok(found)
}

/// The mean over `batches` of each statistic of a single batch.
fn estimate(
    model: &mut dyn Model,
    names: &BTreeSet<String>,
    batches: impl Iterator<Item = Result<Batch>>,
    cx: &StepCx,
) -> Result<Vec<ArrayD<f64>>> {
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
    sums.iter_mut().for_each(|sum| *sum /= n);
    Ok(sums)
}

impl PreciseBNHook {
    fn run(self, cx: &mut Ctx<'_>) -> HookResult {
        let Some(data) = cx.data.filter(|_| !cx.info.hollow) else { return Ok(()) };
        let n = (self.num_samples / data.batch_size() as u64).min(data.len());
        let mut has_statistics = false;
        cx.model.visit(&mut |p| has_statistics |= p.role == Role::Buffer && is_statistic(p.name));
        if !has_statistics || n == 0 {
            cx.log
                .warn("PreciseBNHook: no running statistics in the model, or `num_samples` below one batch");
            return cx.unsubscribe();
        }
        let mut kept: Vec<(Option<ArrayD<Elem>>, Option<ArrayD<Elem>>)> = Vec::new();
        cx.model.visit(&mut |p| {
            let counter = (p.role == Role::Counter).then(|| p.value.to_owned());
            kept.push((p.grad.map(|g| g.to_owned()), counter));
        });
        let first = cx.clock.iter.saturating_sub(n);
        let step = StepCx { seed: cx.info.seed, iter: cx.clock.iter, loss_scale: 0.0 };
        let names = match data.batches(first, Some(first + 1)).next() {
            Some(batch) => moving(&mut **cx.model, &batch?, &step)?,
            None => BTreeSet::new(),
        };
        let means = estimate(&mut **cx.model, &names, data.batches(first, Some(first + n)), &step)?;
        if kept.iter().all(|(grad, _)| grad.is_none()) {
            // Between two updates there are none.
            cx.model.clear_grads();
        }
        let (mut kept, mut means) = (kept.into_iter(), means.into_iter());
        cx.model.visit_mut(&mut |mut p| {
            let (grad, counter) = kept.next().unwrap_or_default();
            match (p.grad, grad) {
                (Some(mut now), Some(before)) => now.assign(&before),
                // In the middle of a window: a parameter that no loss had reached has a gradient of zero now.
                (Some(mut now), None) => now.fill(0.0),
                _ => {}
            }
            if let Some(counter) = counter {
                p.value.assign(&counter);
            } else if names.contains(p.name)
                && let Some(mean) = means.next()
            {
                p.value.zip_mut_with(&mean, |v, m| *v = *m as Elem);
            }
        });
        cx.log.info(format_args!("precise statistics of batch norms from {n} batches"));
        Ok(())
    }
}

impl Hook for PreciseBNHook {
    fn priority(&self) -> Priority {
        Priority::ABOVE_NORMAL
    }

    fn wiring(&self) -> Wiring {
        Wiring::default().before("EMAHook").before("CheckpointHook")
    }

    fn counts_epochs(&self, by_epoch: bool) -> bool {
        by_epoch
    }

    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let complete = cx.clock.batch == 0;
        if cx.clock.by_epoch && complete && cx.clock.every_n_epochs(self.interval, 0) {
            return self.run(cx);
        }
        cx.pass()
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if !cx.clock.by_epoch && cx.clock.every_n_iters(self.interval, 0) {
            return self.run(cx);
        }
        cx.pass()
    }
}

register! {
    /// Replaces the running statistics of batch norms by their mean over many batches.
    dyn Hook, "PreciseBNHook" => PreciseBNHook
}
