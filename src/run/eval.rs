//! One pass over validation or test data.

use super::Session;
use crate::base::{Error, Result};
use crate::data::{Batch, DataLoader};
use crate::hook::{Event, Metrics, Mode, Phase, Step};
use crate::metric::{Directions, Evaluator, Predictions};
use crate::model::Outputs;

/// Data and the metrics that are counted over it (MMEngine's ValLoop and TestLoop).
pub struct Evaluation {
    pub(super) data: DataLoader,
    pub(super) evaluator: Evaluator,
    /// Walk through the points only.
    pub(super) hollow: bool,
}

impl Evaluation {
    /// Counts `evaluator` over `data`.
    pub fn new(data: DataLoader, evaluator: Evaluator) -> Self {
        Self { data, evaluator, hollow: false }
    }

    /// Names of the metrics it will give.
    pub fn metric_names(&self) -> Vec<String> {
        self.evaluator.names()
    }

    /// Which way its metrics are better, as far as they say so.
    pub fn directions(&self) -> Directions {
        self.evaluator.directions()
    }

    fn metrics(&mut self, s: &Session) -> Result<Metrics> {
        let values = self.evaluator.evaluate();
        let values = values.map_err(|e| failed(s, "compute", e))?;
        Ok(Metrics::new(values, |name| self.evaluator.direction(name)))
    }

    pub(crate) fn run(&mut self, s: &mut Session, mode: Mode) -> Result<Metrics> {
        let val = mode == Mode::Val;
        s.enter(if val { Phase::Val } else { Phase::Test });
        s.state.clock.eval_len = self.data.len();
        s.state.clock.eval_batch = 0;
        s.fire(if val { Event::BeforeVal } else { Event::BeforeTest })?;
        s.fire(if val { Event::BeforeValEpoch } else { Event::BeforeTestEpoch })?;
        let mut seen = false;
        for batch in self.data.batches(0, Some(self.data.len())) {
            let mut batch = s.received(batch, &self.data)?;
            if batch.is_empty() {
                s.state.clock.eval_batch += 1;
                continue;
            }
            seen = true;
            s.fire(if val { Event::BeforeValIter(&mut batch) } else { Event::BeforeTestIter(&mut batch) })?;
            let mut outputs = s.eval_step(&batch)?;
            if !self.hollow {
                self.count(&batch, &outputs).map_err(|e| failed(s, "process", e))?;
            }
            s.state.clock.eval_batch += 1;
            let step = Step { batch: &mut batch, outputs: &mut outputs };
            s.fire(if val { Event::AfterValIter(step) } else { Event::AfterTestIter(step) })?;
            self.data.recycle(batch);
        }
        if !seen {
            return Err(s.nothing_to_evaluate(&self.data));
        }
        let metrics = if self.hollow { Metrics::default() } else { self.metrics(s)? };
        s.fire(if val { Event::AfterValEpoch(&metrics) } else { Event::AfterTestEpoch(&metrics) })?;
        s.fire(if val { Event::AfterVal } else { Event::AfterTest })?;
        Ok(metrics)
    }

    fn count(&mut self, batch: &Batch, outputs: &Outputs) -> Result<()> {
        let losses = outputs.sample_losses.as_deref();
        self.evaluator.process(&Predictions { losses, ..Predictions::of(batch, &outputs.predictions) })
    }

    /// Two batches through the model and the metrics, which forget them again. No hook hears of it.
    fn rehearse(&mut self, s: &mut Session) -> Result<()> {
        let mut seen = false;
        for batch in self.data.batches(0, Some(self.data.len().min(REHEARSED))) {
            let batch = batch?;
            if batch.is_empty() {
                continue;
            }
            let outputs = s.eval_step(&batch)?;
            self.count(&batch, &outputs)?;
            self.data.recycle(batch);
            seen = true;
        }
        if !seen {
            // It may have samples further on; if not, the validation says so.
            return Ok(());
        }
        let values = self.evaluator.evaluate()?;
        let names: Vec<_> = values.into_iter().map(|(name, _)| name).collect();
        if names.is_empty() { Ok(()) } else { s.hooks.check_metrics(&names) }
    }
}

/// Batches that are validated before a training begins.
pub(super) const REHEARSED: u64 = 2;

/// A validation that does not work, found before the training.
#[derive(Debug, thiserror::Error)]
#[error(
    "the validation does not work, as two batches of it show before the training (`--no-sanity` leaves them out): {0}"
)]
pub(super) struct Insane(pub Error);

impl Session {
    /// Whether the validation works at all: better known now than after the first epoch.
    pub(super) fn sanity_check(&mut self) -> Result<()> {
        let Some(mut val) = self.val.take() else { return Ok(()) };
        let worked = val.rehearse(self);
        if worked.is_err() {
            val.evaluator.reset();
        }
        self.val = Some(val);
        worked.map_err(|error| match error {
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
