//! One place for the update: accumulate over micro-batches, clip, step, clear.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clip::Clipped;
use super::{ClipGrad, Group, Optimizer, Schedule};
use crate::base::{BoxError, Elem, Record, Result};
use crate::params::{Params, check_distinct};

/// The optimizer of a run with everything around it.
///
/// With `accumulative_counts: k` the gradients of k batches are added, weighted by their samples, so that k batches of
/// b samples equal one batch of k·b. A window ends early at the end of an epoch (of the run, in the iteration loop).
pub struct OptimWrapper {
    optimizer: Box<dyn Optimizer>,
    group: Group,
    schedules: Vec<Schedule>,
    clip: Option<ClipGrad>,
    accumulate: u64,
    window: Window,
    /// Whether the parameters were looked through.
    checked: bool,
    /// Updates that were skipped because the norm of the gradients was not finite.
    nonfinite_updates: u64,
}

/// What a checkpoint keeps beside the tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// The type of the optimizer: the state of one means nothing to another.
    optimizer: String,
    window: Window,
    nonfinite_updates: u64,
    /// The optimizer's own data.
    data: serde_json::Value,
}

/// The open accumulation window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    batches: u64,
    samples: u64,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Update {
    /// The optimizer stepped; with the norm of the gradients before clipping, where it was measured.
    Stepped(Option<f64>),
    /// The norm was not finite: weights are as they were.
    Skipped(f64),
}

impl OptimWrapper {
    /// Steps after every batch, without clipping or schedules.
    pub fn new(optimizer: impl Optimizer) -> Self {
        Self::boxed(Box::new(optimizer))
    }

    /// As [`new`](Self::new), for an optimizer from the registry.
    pub fn boxed(optimizer: Box<dyn Optimizer>) -> Self {
        let group = optimizer.defaults();
        Self {
            optimizer,
            group,
            schedules: Vec::new(),
            clip: None,
            accumulate: 1,
            window: Window::default(),
            checked: false,
            nonfinite_updates: 0,
        }
    }

    /// Limits gradients before each step.
    #[must_use]
    pub fn clip(mut self, clip: ClipGrad) -> Self {
        self.clip = Some(clip);
        self
    }

    /// Adds the gradients of `batches` batches (at least 1) before each step.
    #[must_use]
    pub fn accumulate(mut self, batches: u64) -> Self {
        self.accumulate = batches.max(1);
        self
    }

    /// Adds a schedule; all of them are folded in this order.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    /// The optimizer's name.
    pub fn name(&self) -> &'static str {
        self.optimizer.name()
    }

    /// The parameter groups.
    pub fn groups(&self) -> &[Group] {
        std::slice::from_ref(&self.group)
    }

    /// The parameter groups, to change. A schedule overwrites its value at its next point.
    pub fn groups_mut(&mut self) -> &mut [Group] {
        std::slice::from_mut(&mut self.group)
    }

    /// The schedules.
    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// Multiplies the base learning rate (linear scaling rule); before the first update.
    pub fn scale_lr(&mut self, factor: f64) {
        self.group.base_lr *= factor;
        self.group.lr *= factor;
    }

    /// Sets every scheduled value to what it has after `epoch` epochs and `iter` iterations. A pure function of these.
    pub fn set_progress(&mut self, epoch: u64, iter: u64) {
        if !self.schedules.is_empty() {
            self.group.lr = self.lr_at(epoch, iter);
        }
    }

    /// The learning rate after `epoch` epochs and `iter` iterations.
    pub fn lr_at(&self, epoch: u64, iter: u64) -> f64 {
        let base = self.group.base_lr;
        self.schedules.iter().fold(base, |lr, s| s.apply(lr, base, epoch, iter))
    }

    /// What the loss of a batch of `samples` is multiplied by: its weight in the window.
    pub fn loss_scale(&self, samples: usize) -> Elem {
        if self.accumulate == 1 { 1.0 } else { samples as Elem }
    }

    /// Counts a batch whose gradients were added. True when an update is due.
    pub fn backward_done(&mut self, samples: usize, last: bool) -> bool {
        self.window.batches += 1;
        self.window.samples += samples as u64;
        last || self.window.batches >= self.accumulate
    }

    /// Turns the sum of the window into a mean over its samples; before hooks see the gradients.
    pub fn finish_window(&mut self, params: &mut dyn Params) {
        if self.accumulate > 1 && self.window.samples > 0 {
            let scale = 1.0 / self.window.samples as Elem;
            params.visit_mut(&mut |p| {
                if let Some(mut grad) = p.grad {
                    grad.mapv_inplace(|g| g * scale);
                }
            });
        }
    }

    /// Clips and steps, then clears the gradients.
    ///
    /// # Errors
    /// A norm that is not finite under `error_if_nonfinite`; a parameter that changed its shape, or has two names.
    pub fn update(&mut self, params: &mut dyn Params) -> Result<Update> {
        if !std::mem::replace(&mut self.checked, true) {
            check_distinct(params)?;
        }
        let clipped = match &self.clip {
            Some(clip) => clip.apply(params)?,
            None => Clipped::Norm(None),
        };
        let done = match clipped {
            Clipped::Norm(norm) => {
                self.optimizer.step(params, &self.group)?;
                Update::Stepped(norm)
            }
            Clipped::NonFinite(norm) => {
                self.nonfinite_updates += 1;
                Update::Skipped(norm)
            }
        };
        self.clear(params);
        Ok(done)
    }

    /// Drops the gradients and closes the window.
    pub fn clear(&mut self, params: &mut dyn Params) {
        self.window = Window::default();
        params.clear_grads();
    }

    /// The state of optimizer and window. The sums of an open window are part of it.
    ///
    /// # Errors
    /// When the optimizer cannot write its state.
    pub fn save_state(&self, params: &dyn Params) -> Result<Record, BoxError> {
        let own = self.optimizer.save_state()?;
        let mut record = Record::of(&Saved {
            optimizer: self.optimizer.name().to_owned(),
            window: self.window,
            nonfinite_updates: self.nonfinite_updates,
            data: own.data,
        })?;
        record.tensors = own.tensors;
        if self.window.batches > 0 {
            params.visit(&mut |p| {
                if let Some(grad) = p.grad {
                    record.tensors.insert(format!("grad.{}", p.name), grad.to_owned());
                }
            });
        }
        Ok(record)
    }

    /// Takes the state back.
    ///
    /// # Errors
    /// A record of another optimizer, or state of a parameter that the model has not.
    pub fn load_state(&mut self, mut record: Record, params: &mut dyn Params) -> Result<(), BoxError> {
        let Saved { optimizer, window, nonfinite_updates, data } = record.read()?;
        let own = self.optimizer.name();
        if optimizer != own {
            return Err(format!(
                "it holds the state of the optimizer {optimizer}, and this run has {own}: resume with {optimizer}, or \
                 begin a new run from its weights with `load_from` and without `resume`"
            )
            .into());
        }
        check_slots(&record, params)?;
        (self.window, self.nonfinite_updates) = (window, nonfinite_updates);
        let own = |(k, t): (&String, &ndarray::ArrayD<Elem>)| {
            Some((k.strip_prefix("grad.")?.to_owned(), t.clone()))
        };
        params.put_grads(&record.tensors.iter().filter_map(own).collect());
        record.tensors.retain(|k, _| !k.starts_with("grad."));
        self.optimizer.load_state(Record { data, tensors: record.tensors })
    }
}

/// Every tensor of the state must belong to a parameter of the model and have its shape.
fn check_slots(record: &Record, params: &dyn Params) -> Result<(), BoxError> {
    let mut shapes = BTreeMap::new();
    params.visit(&mut |p| drop(shapes.insert(p.name.to_owned(), p.value.shape().to_vec())));
    for (key, tensor) in &record.tensors {
        let name = key.split_once('.').map_or(key.as_str(), |(_, name)| name);
        match shapes.get(name) {
            None => {
                return Err(format!("optimizer state `{key}` of a parameter that the model has not").into());
            }
            Some(shape) if shape != tensor.shape() => {
                let text = format!(
                    "optimizer state `{key}` has shape {:?}, its parameter {shape:?}",
                    tensor.shape()
                );
                return Err(text.into());
            }
            Some(_) => {}
        }
    }
    Ok(())
}
