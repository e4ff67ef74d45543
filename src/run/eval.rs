//! One pass over validation or test data.

use super::Session;
use crate::base::{Error, Result, durable};
use crate::comm::Comm;
use crate::data::{Batch, DataLoader};
use crate::hook::{Event, Metrics, Mode, Phase, Step};
use crate::kernels::{Precision, with_precision};
use crate::metric::{Direction, Directions, Evaluator, MetricFailed, Predictions, meant};
use crate::model::Outputs;
use crate::optim::ScheduledParam;

/// What a rank has counted: of each metric, and the sum and the number of losses.
type Counts = (Vec<Vec<u8>>, f64, u64);

/// Data and the metrics that are counted over it (MMEngine's ValLoop and TestLoop).
pub struct Evaluation {
    pub(super) data: DataLoader,
    pub(super) evaluator: Evaluator,
    /// Walk through the points only.
    pub(super) placeholders: bool,
    pub(super) loss: MeanLoss,
    /// That of the products of forward passes.
    pub(super) precision: Precision,
}

/// The mean of the samples' losses: `val_loss`, `test_loss` (MMEngine's names). NaN losses count, as they should be
/// seen.
#[derive(Default)]
pub(super) struct MeanLoss {
    sum: f64,
    samples: u64,
}

impl MeanLoss {
    fn add(&mut self, batch: &Batch, outputs: &Outputs) {
        for loss in outputs.sample_losses.iter().flatten().take(batch.valid) {
            self.sum += f64::from(*loss);
            self.samples += 1;
        }
    }

    /// Gives the mean, if there was a loss, and begins anew.
    fn take(&mut self) -> Option<f64> {
        let Self { sum, samples } = std::mem::take(self);
        (samples > 0).then(|| sum / samples as f64)
    }

    fn name(mode: Mode) -> String {
        format!("{}_loss", mode.name())
    }
}

impl Evaluation {
    /// Counts `evaluator` over `data`.
    pub(super) fn new(data: DataLoader, evaluator: Evaluator) -> Self {
        Self { data, evaluator, placeholders: false, loss: MeanLoss::default(), precision: Precision::Full }
    }

    /// Names of the values it will give: those of the metrics, and the loss where the model tells it for each sample.
    pub fn metric_names(&self, mode: Mode) -> Vec<String> {
        let mut names = self.evaluator.names();
        // No name at all says that nothing is known.
        if !names.is_empty() {
            names.push(MeanLoss::name(mode));
        }
        names
    }

    /// Which way its metrics are better, as far as they say so.
    pub fn directions(&self) -> Directions {
        let losses = [Mode::Val, Mode::Test].map(MeanLoss::name);
        losses.iter().fold(self.evaluator.directions(), |known, name| known.with(name, Direction::Less))
    }

    fn metrics(&mut self, mode: Mode) -> Result<Metrics> {
        let tables = self.evaluator.tables(|field| self.data.names_of(field))?;
        let (mut values, loss) = (self.evaluator.evaluate()?, MeanLoss::name(mode));
        if let Some(mean) = self.loss.take() {
            values.push((loss, mean));
        }
        let known = self.directions();
        let direction = |name: &str| known.get(name).or_else(|| self.evaluator.direction(name));
        Ok(Metrics::new(values, direction).with_tables(tables))
    }

    /// Takes what all ranks have counted, in their order: from now on each has the figures of all samples.
    fn join(&mut self, comm: &dyn Comm) -> Result<()> {
        if comm.place().world == 1 {
            return Ok(());
        }
        let unread = |why: String| Error::Comm(format!("the counts of another rank: {why}"));
        let mut own = Vec::new();
        let counts: Counts = (self.evaluator.counted()?, self.loss.sum, self.loss.samples);
        ciborium::into_writer(&counts, &mut own).map_err(|why| unread(why.to_string()))?;
        let given = comm.gather(&own)?;
        self.evaluator.reset();
        self.loss = MeanLoss::default();
        for bytes in given {
            let (counted, sum, samples): Counts =
                ciborium::from_reader(&bytes[..]).map_err(|why| unread(why.to_string()))?;
            self.evaluator.merge(&counted)?;
            (self.loss.sum, self.loss.samples) = (self.loss.sum + sum, self.loss.samples + samples);
        }
        Ok(())
    }

    pub(crate) fn run(&mut self, s: &mut Session, mode: Mode) -> Result<Metrics> {
        let val = mode == Mode::Val;
        s.enter(if val { Phase::Val } else { Phase::Test });
        s.state.progress.eval_len = self.data.len();
        s.state.progress.eval_batch = 0;
        s.fire(if val { Event::BeforeVal } else { Event::BeforeTest })?;
        s.fire(if val { Event::BeforeValEpoch } else { Event::BeforeTestEpoch })?;
        s.evaluate_alike()?;
        let mut seen = false;
        for batch in self.data.batches(0, Some(self.data.len())) {
            let mut batch = s.received(batch, &self.data)?;
            if batch.is_empty() {
                s.state.progress.eval_batch += 1;
                continue;
            }
            seen = true;
            s.fire(if val { Event::BeforeValIter(&mut batch) } else { Event::BeforeTestIter(&mut batch) })?;
            let mut outputs = self.step(s, &batch)?;
            if !self.placeholders {
                self.count(&batch, &outputs).map_err(|e| failed(s, "process", e))?;
            }
            s.state.progress.eval_batch += 1;
            let step = Step { batch: &mut batch, outputs: &mut outputs };
            s.fire(if val { Event::AfterValIter(step) } else { Event::AfterTestIter(step) })?;
            self.data.recycle(batch);
        }
        if !s.any_rank(seen)? {
            return Err(s.nothing_to_evaluate(&self.data));
        }
        let counted = !self.placeholders;
        if counted {
            self.join(&*s.state.comm).map_err(|e| failed(s, "merge", e))?;
        }
        let writes = counted && !s.state.info.dry_run && s.state.comm.place().is_main();
        let files = if writes { self.evaluator.files() } else { Ok(Vec::new()) };
        let files = files.map_err(|e| failed(s, "files", e))?;
        let metrics = if counted { self.metrics(mode) } else { Ok(Metrics::default()) };
        let metrics = match metrics {
            // A few samples of a rehearsal may lack what all of them have.
            Err(error) if s.state.info.dry_run && MetricFailed::lacks_samples(&error) => {
                return Ok(Metrics::default());
            }
            metrics => metrics.map_err(|e| failed(s, "compute", e))?,
        };
        for (path, bytes) in files {
            path.parent().map_or(Ok(()), |folder| durable::make_dir(&*s.state.fs, folder))?;
            durable::replace(&*s.state.fs, &path, &bytes)?;
        }
        let metrics = self.others(s, mode, metrics)?;
        s.fire(if val { Event::AfterValEpoch(&metrics) } else { Event::AfterTestEpoch(&metrics) })?;
        s.fire(if val { Event::AfterVal } else { Event::AfterTest })?;
        Ok(metrics)
    }

    fn step(&self, s: &mut Session, batch: &Batch) -> Result<Outputs> {
        with_precision(self.precision, || s.eval_step(batch))
    }

    fn count(&mut self, batch: &Batch, outputs: &Outputs) -> Result<()> {
        self.loss.add(batch, outputs);
        let losses = outputs.sample_losses.as_deref();
        self.evaluator.process(&Predictions { losses, ..Predictions::of(batch, &outputs.predictions) })
    }

    /// A further pass for each hook that has other weights to evaluate. No hook hears of its batches.
    fn others(&mut self, s: &mut Session, mode: Mode, mut metrics: Metrics) -> Result<Metrics> {
        for index in 0..s.hooks.keys().len() {
            let Some(suffix) = s.evaluate_also(index, true)? else { continue };
            if !self.placeholders {
                metrics = metrics.beside(self.quietly(s, mode)?, suffix);
            }
            s.evaluate_also(index, false)?;
        }
        Ok(metrics)
    }

    /// The metrics alone: files of metrics, as those of DumpResults, are of the pass before.
    fn quietly(&mut self, s: &mut Session, mode: Mode) -> Result<Metrics> {
        s.evaluate_alike()?;
        for batch in self.data.batches(0, Some(self.data.len())) {
            let batch = s.received(batch, &self.data)?;
            if !batch.is_empty() {
                let outputs = self.step(s, &batch)?;
                self.count(&batch, &outputs).map_err(|e| failed(s, "process", e))?;
                self.data.recycle(batch);
            }
        }
        self.join(&*s.state.comm).map_err(|e| failed(s, "merge", e))?;
        match self.metrics(mode) {
            Err(error) if s.state.info.dry_run && MetricFailed::lacks_samples(&error) => {
                Ok(Metrics::default())
            }
            metrics => metrics.map_err(|e| failed(s, "compute", e)),
        }
    }

    /// Two batches through the model and the metrics, which forget them again. No hook hears of it.
    fn rehearse(&mut self, s: &mut Session) -> Result<()> {
        let mut seen = false;
        for batch in self.data.batches(0, Some(self.data.len().min(REHEARSED))) {
            let batch = batch?;
            if batch.is_empty() {
                continue;
            }
            let outputs = self.step(s, &batch)?;
            self.count(&batch, &outputs)?;
            self.data.recycle(batch);
            seen = true;
        }
        if !s.any_rank(seen)? {
            // It may have samples further on; if not, the validation says so.
            return Ok(());
        }
        self.join(&*s.state.comm)?;
        match self.metrics(Mode::Val) {
            Err(error) if MetricFailed::lacks_samples(&error) => Ok(()),
            metrics => {
                let metrics = metrics?;
                s.hooks.check_metrics(&metrics)?;
                all_watched(s, &metrics)
            }
        }
    }
}

/// Whether a validation gives what schedules watch.
fn all_watched(s: &Session, metrics: &Metrics) -> Result<()> {
    let watched =
        s.state.optim.iter().flat_map(|optim| optim.schedules()).filter_map(ScheduledParam::watches);
    match watched.into_iter().find(|name| metrics.get(name).is_none()) {
        Some(name) => {
            let given: Vec<_> = metrics.0.iter().map(|(name, _)| name.as_str()).collect();
            let near = meant(name, given.iter().copied());
            let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let given = given.join(", ");
            // EMAHook's second pass is no part of what schedules are told.
            let why = match name.ends_with("_origin") {
                true => {
                    ": `_origin` names what EMAHook logs of the weights that are not averaged, and schedules go \
                     by those that are"
                }
                false => "",
            };
            Err(Error::config(format!(
                "a schedule watches `{name}`, and the validation gave {given}{near}{why}"
            )))
        }
        None => Ok(()),
    }
}

/// Batches that are validated before a training begins.
pub(super) const REHEARSED: u64 = 2;

/// A validation that does not work, found before the training.
#[derive(Debug, thiserror::Error)]
#[error("{WHY}: {0}", WHY = Self::WHY)]
pub(super) struct Insane(pub Error);

impl Insane {
    pub const WHY: &str = "the validation does not work, as two batches of it show before the training (`--no-sanity`, in \
                           a program `.sanity_check(false)`, leaves them out)";
}

impl Session {
    /// Two batches through the validation, of which nothing remains.
    pub(super) fn rehearse_validation(&mut self) -> Result<()> {
        let Some(mut val) = self.val.take() else { return Ok(()) };
        let worked = val.rehearse(self);
        if worked.is_err() {
            val.evaluator.reset();
            val.loss = MeanLoss::default();
        }
        self.val = Some(val);
        worked
    }

    /// Whether the validation works at all: better known now than after the first epoch.
    pub(super) fn sanity_check(&mut self) -> Result<()> {
        self.rehearse_validation().map_err(|error| match error {
            Error::Config(_) => Error::Config(Box::new(Insane(error))),
            error => Error::Other(Box::new(Insane(error))),
        })
    }
}

/// The failure of a metric with the place in the run.
fn failed(s: &Session, point: &'static str, error: Error) -> Error {
    match error {
        Error::Other(source) => s.state.failed("the evaluator", point, source),
        other => other,
    }
}
