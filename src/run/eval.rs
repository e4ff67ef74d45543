//! One pass over validation or test data.

use super::Session;
use crate::base::Result;
use crate::data::DataLoader;
use crate::hook::{Event, Metrics, Mode, Phase, Step};
use crate::metric::{Evaluator, Predictions};

/// Data and the metrics that are counted over it (the reference's ValLoop and TestLoop).
pub struct Evaluation {
    pub(super) data: DataLoader,
    pub(super) evaluator: Evaluator,
    /// Walk through the points only.
    pub(super) dry_run: bool,
}

impl Evaluation {
    /// Counts `evaluator` over `data`.
    pub fn new(data: DataLoader, evaluator: Evaluator) -> Self {
        Self { data, evaluator, dry_run: false }
    }

    /// Names of the metrics it will give.
    pub fn metric_names(&self) -> Vec<String> {
        self.evaluator.names()
    }

    pub(crate) fn run(&mut self, s: &mut Session, mode: Mode) -> Result<Metrics> {
        let val = mode == Mode::Val;
        s.enter(if val { Phase::Val } else { Phase::Test });
        s.state.clock.eval_len = self.data.len();
        s.state.clock.eval_batch = 0;
        s.fire(if val { Event::BeforeVal } else { Event::BeforeTest })?;
        s.fire(if val { Event::BeforeValEpoch } else { Event::BeforeTestEpoch })?;
        for batch in self.data.batches(0, Some(self.data.len())) {
            let mut batch = s.received(batch, &self.data)?;
            if batch.is_empty() {
                s.state.clock.eval_batch += 1;
                continue;
            }
            s.fire(if val { Event::BeforeValIter(&mut batch) } else { Event::BeforeTestIter(&mut batch) })?;
            let mut outputs = s.eval_step(&batch)?;
            if !self.dry_run {
                self.evaluator.process(&Predictions {
                    batch: &batch,
                    scores: outputs.scores.as_ref().map(|scores| scores.view()),
                    losses: outputs.sample_losses.as_deref(),
                })?;
            }
            s.state.clock.eval_batch += 1;
            let step = Step { batch: &mut batch, outputs: &mut outputs };
            s.fire(if val { Event::AfterValIter(step) } else { Event::AfterTestIter(step) })?;
            self.data.recycle(batch);
        }
        let metrics = if self.dry_run { Metrics::default() } else { Metrics(self.evaluator.evaluate()?) };
        s.fire(if val { Event::AfterValEpoch(&metrics) } else { Event::AfterTestEpoch(&metrics) })?;
        s.fire(if val { Event::AfterVal } else { Event::AfterTest })?;
        Ok(metrics)
    }
}
