//! Averages of a model's weights over time, for any model that is known by its [`Params`].

use std::collections::BTreeMap;

use crate::params::{Op, OwnSet};
use crate::plugin::prelude::*;

/// How a new model enters the average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Averaging {
    /// `avg = (1 - momentum) * avg + momentum * new`.
    ExponentialMovingAverage,
    /// The mean of all models that were taken (Izmailov et al. 2018).
    StochasticWeightAverage,
    /// As the first, with `max(momentum, gamma / (gamma + steps))` for the momentum.
    MomentumAnnealingEMA,
}

/// An average of a model's weights, kept where the weights are: MMEngine's averaged models.
///
/// The first update copies; of the later ones every `interval`-th enters the average. Without `update_buffers` the
/// buffers (running means and variances) are those of the model itself.
#[derive(Debug)]
pub struct AveragedModel {
    /// How a new model enters.
    pub averaging: Averaging,
    /// The weight of the newest model.
    pub momentum: f64,
    /// How fast the momentum of [`Averaging::MomentumAnnealingEMA`] falls.
    pub gamma: f64,
    /// Updates of which one is taken.
    pub interval: u64,
    /// Whether buffers are averaged too; counters are copied.
    pub update_buffers: bool,
    steps: u64,
    /// Empty before the first update.
    tensors: OwnSet,
}

impl AveragedModel {
    /// An average of nothing yet.
    pub fn new(averaging: Averaging, momentum: f64) -> Self {
        Self {
            averaging,
            momentum,
            gamma: 100.0,
            interval: 1,
            update_buffers: false,
            steps: 0,
            tensors: OwnSet::default(),
        }
    }

    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether there is an average: some update was made.
    pub fn is_started(&self) -> bool {
        !self.tensors.is_empty()
    }

    /// Copies of the averaged tensors, by name.
    ///
    /// # Errors
    /// What the device of the model says.
    pub fn tensors(&self, model: &dyn Params) -> Result<BTreeMap<String, ndarray::ArrayD<Elem>>> {
        let mut copies = BTreeMap::new();
        model.read_own(&self.tensors, &mut |name, tensor| {
            copies.insert(name.to_owned(), tensor.to_owned());
        })?;
        Ok(copies)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.steps = 0;
        self.tensors = OwnSet::default();
    }

    /// Whether tensors of this role are part of the average.
    pub fn takes(&self, role: Role) -> bool {
        role.is_trained() || self.update_buffers
    }

    /// The weight of the new model in the update under way.
    fn weight(&self) -> f64 {
        match self.averaging {
            Averaging::ExponentialMovingAverage => self.momentum,
            Averaging::StochasticWeightAverage => 1.0 / ((self.steps / self.interval) as f64 + 1.0),
            Averaging::MomentumAnnealingEMA => {
                self.momentum.max(self.gamma / (self.gamma + self.steps as f64))
            }
        }
    }

    /// Takes the model as it is now.
    ///
    /// # Errors
    /// What the device of the model says.
    pub fn update(&mut self, source: &mut dyn Params) -> Result<()> {
        let (weight, buffers) = (self.weight(), self.update_buffers);
        if self.steps == 0 {
            self.tensors = OwnSet::default();
            source.apply(Op::CopyTo(&mut self.tensors), &|p| p.role.is_trained() || buffers)?;
        } else if self.steps.is_multiple_of(self.interval) {
            let mixed = |p: &Info<'_>| p.role.is_trained() || (buffers && p.role != Role::Counter);
            source.apply(Op::LerpTo(&mut self.tensors, weight), &mixed)?;
            if buffers {
                source.apply(Op::CopyTo(&mut self.tensors), &|p| p.role == Role::Counter)?;
            }
        }
        self.steps += 1;
        Ok(())
    }

    /// Exchanges the average with the model's own weights; a second call puts both back. Nothing before the first
    /// update.
    ///
    /// # Errors
    /// What the device of the model says.
    pub fn swap(&mut self, model: &mut dyn Params) -> Result<()> {
        let buffers = self.update_buffers;
        if self.tensors.is_empty() {
            return Ok(());
        }
        model.apply(Op::Swap(&mut self.tensors), &|p| p.role.is_trained() || buffers)
    }

    /// For a checkpoint that is about to be written: puts the average in the place of the weights, and the weights into
    /// `record`. Before the first update both are the weights.
    ///
    /// # Errors
    /// What the device of the model says.
    pub fn exchange_into(
        &self,
        checkpoint: &mut Checkpoint,
        record: &mut Record,
        model: &dyn Params,
    ) -> Result<()> {
        let averages = self.tensors(model)?;
        for (name, tensor) in &mut checkpoint.model.0 {
            if self.takes(tensor.role) {
                record.tensors.insert(name.clone(), tensor.value.clone());
                if let Some(average) = averages.get(name) {
                    tensor.value.assign(average);
                }
            }
        }
        Ok(())
    }

    /// The way back: takes the average out of the checkpoint and puts the weights from `record` in its place.
    ///
    /// # Errors
    /// When the record has no weights, or one of another shape.
    pub fn exchange_back(&mut self, checkpoint: &mut Checkpoint, record: &Record, steps: u64) -> Result<()> {
        self.reset();
        self.steps = steps;
        // A file keeps neither the model's order nor which tensors are buffers: the record has those that were
        // exchanged.
        let mut averages = BTreeMap::new();
        for (name, tensor) in &mut checkpoint.model.0 {
            let Some(raw) = record.tensors.get(name) else { continue };
            if raw.shape() != tensor.value.shape() {
                let (a, b) = (tensor.value.shape(), raw.shape());
                return Err(Error::invalid(format!(
                    "the average of `{name}` has shape {a:?}, its weights {b:?}"
                )));
            }
            averages.insert(name.clone(), std::mem::replace(&mut tensor.value, raw.clone()));
        }
        if averages.is_empty() {
            return Err(Error::invalid("the checkpoint has an average, but not the weights that it is of"));
        }
        if steps > 0 {
            self.tensors = OwnSet::of(averages);
        }
        Ok(())
    }
}
