//! What a model or the data would refuse after hours, found before a training begins: on a few samples, of which
//! nothing remains.

use super::{Session, State};
use crate::base::{Result, caught, shapes_only};
use crate::data::Batch;
use crate::model::{Outputs, StepCx};
use crate::params::StateDict;

impl Session {
    /// Tries what the training data will ask of the model.
    ///
    /// # Errors
    /// Samples that do not fit together; fewer scores than classes; a batch of one sample that the model cannot train
    /// on.
    pub(super) fn try_training(&mut self) -> Result<()> {
        let Some(data) = self.state.data.clone() else { return Ok(()) };
        let batch = match data.mixes().and_then(|()| data.preview(0)) {
            Ok(batch) => batch,
            Err(error) => return self.received(Err(error), &data).map(drop),
        };
        let mut alone = false;
        if let Some(batch) = &batch {
            self.enough_scores(batch)?;
            alone = data.samples_per_batch() > 1 && data.smallest_batch()? == 1;
        }
        // A rank that has no samples is asked too.
        match (self.any_rank(alone)?, batch) {
            (true, Some(batch)) => self.try_one(batch),
            _ => Ok(()),
        }
    }

    /// A model that cannot evaluate may train all the same.
    fn enough_scores(&mut self, batch: &Batch) -> Result<()> {
        let width_of = |outputs: Outputs| outputs.scores().and_then(|scores| scores.shape().get(1).copied());
        let width = self.eval_step(batch).ok().and_then(width_of);
        let classes = self.state.info.classes.len();
        match width.filter(|width| *width < classes) {
            Some(width) => {
                let text =
                    format!("the model gives {width} scores, the training data have {classes} classes");
                Err(self.state.failed("the model", "evaluation", text.into()))
            }
            None => Ok(()),
        }
    }

    /// One sample alone, as it comes when it is left over at the end of a pass.
    fn try_one(&mut self, batch: Batch) -> Result<()> {
        let State { model, info, shapes_only: by_shapes, .. } = &mut self.state;
        // Who goes by shapes alone checks a config, and nothing of it remains: a copy of large weights helps nobody.
        let before = if *by_shapes { None } else { Some(StateDict::of(&**model)?) };
        let step = StepCx { seed: info.seed, iter: 0, loss_scale: 1.0 };
        let one = batch.extremes(1);
        let tried = caught(|| Ok(shapes_only(*by_shapes, || model.train_step(&one, &step)).map(drop)?));
        if let Some(before) = before {
            before.load_into(&mut **model)?;
        }
        model.clear_grads()?;
        tried.map_err(|error| {
            let text = format!("a batch of the first pass will have one sample: {error}");
            self.state.failed("the model", "training", text.into())
        })
    }
}
