//! The hook: losses of all training samples after an epoch, the mixture, the ranking.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use shanty::plugin::prelude::*;

use crate::BetaMixture;

/// A training sample with what its loss says of its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspect {
    /// Its position in the data set.
    pub id: u64,
    /// Its loss after the epoch.
    pub loss: f64,
    /// The probability that it belongs to the heap of large losses.
    pub noise: f64,
}

/// After every `interval`-th epoch, evaluates the training samples, fits the mixture to their losses, and writes the
/// ranking, most suspect first, to `label_noise.csv` in the log folder. The share of suspects goes in the message hub
/// as `label_noise`.
///
/// Training is not changed. The model must give `sample_losses` in evaluation, as classifiers do.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LabelNoise {
    /// The first epoch after which to look.
    #[schemars(range(min = 1))]
    begin_epoch: u64,
    /// Epochs between two looks.
    #[schemars(range(min = 1))]
    interval: u64,
    /// Rounds of expectation maximisation.
    #[schemars(range(min = 1))]
    rounds: usize,
    /// Where to write the ranking; `label_noise.csv` in the log folder if absent.
    out: Option<PathBuf>,
    #[serde(skip)]
    ranking: Vec<Suspect>,
}

impl Default for LabelNoise {
    fn default() -> Self {
        Self { begin_epoch: 1, interval: 1, rounds: 10, out: None, ranking: Vec::new() }
    }
}

impl LabelNoise {
    /// The last ranking, most suspect first.
    pub fn ranking(&self) -> &[Suspect] {
        &self.ranking
    }

    /// Losses of the samples of the epoch that is complete.
    fn losses(cx: &mut Ctx<'_>) -> HookResult<Vec<(u64, f64)>> {
        let Some(data) = cx.data else { return Ok(Vec::new()) };
        let end = cx.progress.epoch * data.len();
        let mut losses = Vec::new();
        for batch in data.batches(end - data.len(), Some(end)) {
            let batch = batch?;
            if batch.is_empty() {
                continue;
            }
            let outputs = cx.model.eval_step(&batch)?;
            let Some(found) = outputs.sample_losses else { break };
            let pairs = batch.ids.iter().zip(found).take(batch.valid);
            losses.extend(pairs.map(|(id, loss)| (*id, f64::from(loss))));
        }
        of_all_ranks(cx, losses)
    }

    fn rank(&mut self, losses: Vec<(u64, f64)>) -> BetaMixture {
        let unit = to_unit(&losses.iter().map(|(_, loss)| *loss).collect::<Vec<_>>());
        let fit = BetaMixture::fit(&unit, self.rounds);
        // A larger loss is never less suspect: far out both densities vanish, and their ratio may turn around.
        let mut ranked: Vec<_> = losses.into_iter().zip(unit).collect();
        ranked.sort_by(|((a, x), _), ((b, y), _)| x.total_cmp(y).then(a.cmp(b)));
        let mut noise = 0.0f64;
        self.ranking = ranked
            .into_iter()
            .map(|((id, loss), x)| {
                noise = noise.max(fit.posterior(x));
                Suspect { id, loss, noise }
            })
            .collect();
        self.ranking.reverse();
        fit
    }

    fn write(&self, cx: &Ctx<'_>) -> HookResult {
        if !cx.is_main() {
            return Ok(());
        }
        let path = self.out.clone().unwrap_or_else(|| cx.dirs.log.join("label_noise.csv"));
        let mut file = csv::Writer::from_writer(Vec::new());
        file.write_record(["sample", "loss", "noise"])?;
        for suspect in &self.ranking {
            file.write_record([suspect.id.to_string(), suspect.loss.to_string(), suspect.noise.to_string()])?;
        }
        Ok(cx.fs.write(&path, &file.into_inner().map_err(|e| e.to_string())?)?)
    }
}

/// The losses of the samples of all processes that train together; one that several were given counts once.
fn of_all_ranks(cx: &Ctx<'_>, own: Vec<(u64, f64)>) -> HookResult<Vec<(u64, f64)>> {
    if cx.comm.place().world == 1 {
        return Ok(own);
    }
    let numbers = own.iter().flat_map(|(id, loss)| [*id, loss.to_bits()]);
    let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    let mut all = Vec::new();
    for given in cx.comm.gather(&bytes)? {
        let numbers: Vec<u64> =
            given.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        all.extend(numbers.as_chunks::<2>().0.iter().map(|[id, loss]| (*id, f64::from_bits(*loss))));
    }
    all.sort_by_key(|(id, _)| *id);
    all.dedup_by_key(|(id, _)| *id);
    Ok(all)
}

/// Losses between their 5th and 95th percentile, stretched to (0, 1): the paper's way to keep outliers out.
fn to_unit(losses: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = losses.iter().copied().filter(|l| l.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return vec![0.5; losses.len()];
    }
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (at(0.05), at(0.95));
    losses.iter().map(|l| ((l - low) / (high - low + 1e-6)).clamp(1e-4, 1.0 - 1e-4)).collect()
}

impl Hook for LabelNoise {
    fn priority(&self) -> Priority {
        Priority::ABOVE_NORMAL
    }

    fn order(&self) -> HookOrder {
        HookOrder::default().at(&[Point::AfterTrainEpoch])
    }

    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let looks = cx.progress.by_epoch && cx.progress.batch == 0;
        if !(looks && cx.progress.every_n_epochs(self.interval, self.begin_epoch)) {
            return cx.no_op();
        }
        if cx.info.dry_run {
            return Ok(());
        }
        let losses = Self::losses(cx)?;
        if losses.len() < 2 {
            cx.log.warn("LabelNoise: the model gives no loss for each sample, there is nothing to fit");
            return cx.unsubscribe();
        }
        let fit = self.rank(losses);
        cx.message_hub.update_scalar(Mode::Train, "label_noise", fit.weights[1]);
        cx.log.info(format_args!("about {:.1} % of the labels look wrong", 100.0 * fit.weights[1]));
        self.write(cx)
    }
}

register! {
    /// Ranks the training samples that are most likely mislabelled, by a beta mixture over their losses.
    dyn Hook, "LabelNoise" => LabelNoise
}
