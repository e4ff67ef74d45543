//! What the model of a config is made of, and what a step of it takes: measured on a few samples by their shapes,
//! nothing is computed.

use super::RunnerBuilder;
use super::assemble::{Assembled, Purpose, assemble};
use super::stand_in::refused;
use crate::base::{Elem, Error, Result, shapes_only};
use crate::config::Node;
use crate::data::Batch;
use crate::kernels::{Precision, with_precision};
use crate::model::{Model, StepCx};
use crate::nn::Traced;
use crate::optim::OptimWrapper;
use crate::params::Role;

/// The modules of a model, and the memory of its steps.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The modules that had a part in a forward pass, in the order of the tree, the whole first. Outputs are those of
    /// `samples` samples, work is that of one.
    pub modules: Vec<Traced>,
    /// Samples of the outputs: their first axis.
    pub samples: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// How many of them are trained.
    pub trained: usize,
    /// What a training step takes, where the config trains.
    pub step: Option<StepMemory>,
}

/// Bytes of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMemory {
    /// Samples of the batch.
    pub batch_size: usize,
    /// Weights and buffers.
    pub weights: usize,
    /// The gradients of the weights that are trained.
    pub gradients: usize,
    /// What was measured while the step was made: activations, their gradients, and what kernels work in.
    pub activations: Option<usize>,
}

/// The summary of a config. Its data sets are opened for a few samples; where they are not on this machine, samples of
/// the shape that the pipeline makes stand in for them.
///
/// # Errors
/// The mistakes of the config; data of which nothing is known; what the model says of a batch.
pub fn summary(node: &Node, name: Option<&str>) -> Result<Summary> {
    let Assembled { builder, stand_ins, .. } = assemble(node, name, Purpose::Look, None)?;
    let RunnerBuilder { model, optim, train_data, val, test, written, .. } = builder;
    let mut model = model.ok_or_else(|| Error::config("the config has no `model`"))?;
    let trains = train_data.as_ref().filter(|_| !headless(node)).map(|data| data.samples_per_batch());
    let evaluated = [("val", val), ("test", test)];
    let evaluated = evaluated.into_iter().filter_map(|(mode, evaluation)| Some((mode, evaluation?.data)));
    let stand_ins = stand_ins.into_iter().map(|part| (part.mode, part.data));
    let mut data = train_data.map(|data| ("train", data)).into_iter().chain(evaluated).chain(stand_ins);
    let (mode, data) = data.next().ok_or_else(|| {
        Error::config("there is nothing to feed the model: give a `train_dataloader` or another one, whose data are here")
    })?;
    // What `check` tells with its place is told so here.
    let placed = |error| match &written {
        Some(written) => written.failed(mode, error),
        None => error,
    };
    let batch =
        data.preview(0).map_err(placed)?.ok_or_else(|| Error::config("the data set has no samples"))?;
    let samples = batch.len();
    let [mut weights, mut parameters, mut trained] = [0; 3];
    model.infos(&mut |info| {
        let len: usize = info.shape.iter().product();
        weights += len;
        if matches!(info.role, Role::Weight | Role::Bias) {
            parameters += len;
            trained += if info.frozen { 0 } else { len };
        }
    });
    // Before a forward pass in single precision, and of other samples, leaves buffers of its own.
    let step = trains.map(|batch_size| {
        let rows: Vec<usize> = (0..batch_size).map(|i| i % samples).collect();
        let precision = optim.as_ref().map_or(Precision::Full, OptimWrapper::precision);
        train_step(&mut *model, &batch.rows(&rows), precision).map_err(placed)?;
        let (weights, gradients) = (weights * size_of::<Elem>(), trained * size_of::<Elem>());
        Ok::<_, Error>(StepMemory { batch_size, weights, gradients, activations: model.buffer_bytes() })
    });
    let step = step.transpose()?;
    let mut modules = Vec::new();
    let traced = refused("evaluation", || {
        modules = shapes_only(true, || model.trace(&batch))?;
        Ok(())
    });
    traced.map_err(placed)?;
    for module in &mut modules {
        module.work.multiply_adds /= samples as u64;
        module.work.activations /= samples as u64;
    }
    Ok(Summary { modules, samples, parameters, trained, step })
}

/// A step by its shapes, in the precision of the training.
fn train_step(model: &mut dyn Model, batch: &Batch, precision: Precision) -> Result<()> {
    let cx = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };
    let step = || with_precision(precision, || model.train_step(batch, &cx));
    refused("training", || Ok(shapes_only(true, step).map(drop)?))
}

/// Whether the model is a classifier with `head: null`: it has no loss to train by, but modules to look at.
fn headless(node: &Node) -> bool {
    let head = node.get("model").and_then(|model| model.get("head"));
    head.is_some_and(Node::is_null)
}
