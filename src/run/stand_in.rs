//! The layers of a config whose data are not on this machine, tried on samples like theirs.

use super::RunnerBuilder;
use crate::base::{BoxError, Error, Result, caught, shapes_only};
use crate::data::{Batch, DataLoader};
use crate::metric::{Evaluator, Predictions};
use crate::model::{Model, StepCx};

/// In place of a loader whose data set is not here.
pub(super) struct StandInData {
    /// train, val or test.
    pub mode: &'static str,
    pub data: DataLoader,
    /// What would be counted over it.
    pub evaluator: Option<Evaluator>,
}

/// One step of the model on the data that there are, and on stand-ins for the others. Nothing else of a run is tried:
/// how long it will be is not known, or what it would take is too much.
pub(super) fn try_layers(builder: RunnerBuilder, mut stand_ins: Vec<StandInData>) -> Vec<Error> {
    let RunnerBuilder { model, train_data, val, test, written, shapes_only: by_shapes, .. } = builder;
    let (Some(mut model), Some(written)) = (model, written) else { return Vec::new() };
    stand_ins.extend(train_data.map(|data| StandInData { mode: "train", data, evaluator: None }));
    for (mode, evaluation) in [("val", val), ("test", test)] {
        let given = |evaluation: super::Evaluation| {
            let evaluator = Some(evaluation.evaluator);
            StandInData { mode, data: evaluation.data, evaluator }
        };
        stand_ins.extend(evaluation.map(given));
    }
    let tried = stand_ins.into_iter().map(|part| {
        let tried = match part.data.preview(0) {
            Ok(Some(batch)) => try_one(&mut *model, &batch, part.evaluator, by_shapes),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        (part.mode, tried)
    });
    tried.filter_map(|(mode, tried)| Some(written.failed(mode, tried.err()?))).collect()
}

/// A training step, or an evaluation where there is something to count.
pub(super) fn try_one(
    model: &mut dyn Model,
    batch: &Batch,
    evaluator: Option<Evaluator>,
    by_shapes: bool,
) -> Result<()> {
    let Some(mut evaluator) = evaluator else {
        let step = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };
        return refused("training", || {
            Ok(shapes_only(by_shapes, || model.train_step(batch, &step)).map(drop)?)
        });
    };
    let mut given = None;
    refused("evaluation", || {
        given = Some(shapes_only(by_shapes, || model.eval_step(batch))?);
        Ok(())
    })?;
    let Some(outputs) = given else { return Ok(()) };
    let losses = outputs.sample_losses.as_deref();
    evaluator.process(&Predictions { losses, ..Predictions::of(batch, &outputs.predictions) })
}

/// What a model says of a batch, as a run tells it.
pub(super) fn refused(point: &'static str, step: impl FnOnce() -> Result<(), BoxError>) -> Result<()> {
    let who = "the model".to_owned();
    caught(step).map_err(|source| Error::Run { who, point, epoch: 0, iter: 0, source })
}
