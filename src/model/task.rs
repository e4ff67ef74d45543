//! From a network with losses to a model.

use std::any::Any;
use std::sync::Arc;

use super::{FieldNeeds, LossDict, Model, Outputs, StepCx};
use crate::base::{Error, Result, keyed};
use crate::comm::Comm;
use crate::data::{Batch, TargetScales};
use crate::nn::init::init_weights;
use crate::nn::{Autograd, Forward, FusedWeights, ModuleTree, Tape, Traced, named_modules};
use crate::params::Params;

/// A network that knows its losses and its predictions. It is a [`Model`]: tape, backward, buffers and noise are looked
/// after.
pub trait Task: ModuleTree + Params + Any + Send {
    /// The losses of a batch, and what else is logged in training.
    ///
    /// # Errors
    /// If the batch does not fit.
    fn loss<'t>(&mut self, batch: &Batch, tape: &'t Tape, cx: &mut Forward<'_>) -> Result<LossDict<'t>>;

    /// As [`Model::turns`].
    fn turns(&self) -> &'static [&'static str] {
        &[]
    }

    /// The losses of a batch in the turn of one optimizer.
    ///
    /// # Errors
    /// If the batch does not fit.
    fn turn_loss<'t>(
        &mut self,
        _optimizer: &str,
        batch: &Batch,
        tape: &'t Tape,
        cx: &mut Forward<'_>,
    ) -> Result<LossDict<'t>> {
        self.loss(batch, tape, cx)
    }

    /// What it predicts for a batch, and the loss of each sample where there are targets.
    ///
    /// # Errors
    /// If the batch does not fit.
    fn predict(&mut self, batch: &Batch, tape: &Tape, cx: &mut Forward<'_>) -> Result<Outputs>;

    /// The buffers of its steps, kept from one to the next.
    fn autograd(&mut self) -> &mut Autograd;

    /// The fields of a batch that it reads.
    fn reads(&self) -> FieldNeeds {
        FieldNeeds::default()
    }

    /// As [`Model::meets_in_steps`]: if it has a `SyncBatchNorm`.
    fn meets_in_steps(&self) -> bool
    where
        Self: Sized,
    {
        has_sync_batchnorm(self)
    }

    /// As [`Model::standardize`].
    ///
    /// # Errors
    /// As there.
    fn standardize(&mut self, _scales: &TargetScales) -> Result<()> {
        Err(Error::config("`standardize_target`: this model does not scale its targets, leave it out"))
    }
}

/// Whether a batch norm below this module takes its statistics over all ranks.
pub(super) fn has_sync_batchnorm(root: &dyn ModuleTree) -> bool {
    named_modules(root).iter().any(|(_, module)| module.type_name() == "SyncBatchNorm")
}

fn train<T: Task>(task: &mut T, turn: Option<&str>, batch: &Batch, step: &StepCx) -> Result<Outputs> {
    let mut rng = keyed(step.seed, "forward", step.iter, task.autograd().rank() as u64);
    let mut autograd = std::mem::take(task.autograd());
    let outputs = autograd.train(task, &mut rng, |task, tape, cx| {
        let losses = match turn {
            Some(optimizer) => task.turn_loss(optimizer, batch, tape, cx)?,
            None => task.loss(batch, tape, cx)?,
        };
        let (total, outputs) = losses.total()?;
        Ok((if step.loss_scale == 1.0 { total } else { total * step.loss_scale }, outputs))
    });
    *task.autograd() = autograd;
    outputs
}

impl<T: Task> Model for T {
    fn train_step(&mut self, batch: &Batch, step: &StepCx) -> Result<Outputs> {
        train(self, None, batch, step)
    }

    fn turns(&self) -> &'static [&'static str] {
        Task::turns(self)
    }

    fn train_turn(&mut self, optimizer: &str, batch: &Batch, step: &StepCx) -> Result<Outputs> {
        train(self, Some(optimizer), batch, step)
    }

    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        // Nothing draws in evaluation mode.
        let mut rng = keyed(0, "forward", 0, 0);
        let mut autograd = std::mem::take(self.autograd());
        let outputs = autograd.eval(self, &mut rng, |task, tape, cx| task.predict(batch, tape, cx));
        *self.autograd() = autograd;
        outputs
    }

    fn beside(&mut self, comm: Arc<dyn Comm>) {
        self.autograd().beside(comm);
    }

    fn meets_in_steps(&self) -> bool {
        Task::meets_in_steps(self)
    }

    fn sync_batchnorm(&mut self) -> usize {
        crate::nn::convert_sync_batchnorm(self)
    }

    fn trace(&mut self, batch: &Batch) -> Result<Vec<Traced>> {
        let mut autograd = std::mem::take(self.autograd());
        let traced = autograd
            .trace(self, &mut keyed(0, "forward", 0, 0), |task, tape, cx| task.predict(batch, tape, cx));
        *self.autograd() = autograd;
        traced.map(|(_, traced)| traced)
    }

    fn checkpoint_activations(&mut self, module: &str) -> Result<()> {
        crate::nn::checkpoint_activations(self, module)
    }

    fn buffer_bytes(&mut self) -> Option<usize> {
        Some(self.autograd().pool().bytes())
    }

    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        init_weights(self, seed)
    }

    fn fuse(&mut self, fuses: bool) -> bool {
        self.autograd().fuse(fuses);
        true
    }

    fn set_trainable(&mut self, module: &str, trainable: bool) -> Result<()> {
        crate::nn::set_trainable(self, module, trainable)
    }

    fn fuse_conv_bn(&mut self, batch: &Batch) -> Result<FusedWeights> {
        let mut autograd = std::mem::take(self.autograd());
        let fused = autograd.fuse_conv_bn(self, &mut keyed(0, "forward", 0, 0), |task, tape, cx| {
            task.predict(batch, tape, cx)
        });
        *self.autograd() = autograd;
        fused
    }

    fn take_fused_form(&mut self, has: &dyn Fn(&str) -> bool) -> Result<usize> {
        crate::nn::take_fused_form(self, has)
    }

    fn tied(&self) -> Vec<(String, String)> {
        crate::nn::tied_names(self)
    }

    fn number_mut(&mut self, module: &str, name: &str) -> Option<&mut f64> {
        crate::nn::find_mut(self, module)?.number_mut(name)
    }

    fn reads(&self) -> FieldNeeds {
        Task::reads(self)
    }

    fn standardize(&mut self, scales: &TargetScales) -> Result<()> {
        Task::standardize(self, scales)
    }
}
