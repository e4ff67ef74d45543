//! What a checkpoint keeps of optimizer and accumulation window.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::OptimWrapper;
use super::wrapper::Window;
use crate::base::{BoxError, Elem, Record, Result};
use crate::params::{OptimState, Params, Set};

/// What stands beside the tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// The type of the optimizer: the state of one means nothing to another.
    optimizer: String,
    window: Window,
    nonfinite_updates: u64,
    /// The updates of each parameter.
    steps: BTreeMap<String, u64>,
    /// What optimizers keep of each parameter beside tensors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    scalars: BTreeMap<String, Vec<f64>>,
    /// What schedules have observed, by their place in the list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    schedules: BTreeMap<usize, serde_json::Value>,
}

/// How the sums of an open window are called.
const GRAD: &str = "grad.";

impl OptimWrapper {
    /// The state of optimizer and window. The sums of an open window are part of it.
    ///
    /// # Errors
    /// When the state cannot be written, or read from a device.
    pub fn save_state(&self, params: &dyn Params) -> Result<Record, BoxError> {
        let mut schedules = BTreeMap::new();
        for (place, schedule) in self.schedules.iter().enumerate() {
            schedules.extend(schedule.state()?.map(|state| (place, state.data)));
        }
        let mut record = Record::of(&Saved {
            optimizer: self.name(),
            window: self.window,
            nonfinite_updates: self.nonfinite_updates,
            steps: self.state.steps(),
            scalars: self.state.scalars(),
            schedules,
        })?;
        self.state.save(params, &mut record)?;
        if self.window.batches > 0 {
            params.read(Set::Grads, &crate::params::all, &mut |p, grad| {
                record.tensors.insert(format!("{GRAD}{}", p.name), grad.to_owned());
            })?;
        }
        Ok(record)
    }

    /// Takes the state back.
    ///
    /// # Errors
    /// A record of another optimizer, or state of a parameter that the model has not.
    pub fn load_state(&mut self, mut record: Record, params: &mut dyn Params) -> Result<(), BoxError> {
        let Saved { optimizer, window, nonfinite_updates, steps, scalars, schedules } = record.read()?;
        let own = self.name();
        if optimizer != own {
            return Err(format!(
                "it holds the state of the optimizer {optimizer}, and this run has {own}: resume with {optimizer}, or \
                 begin a new run from its weights with `load_from` and without `resume`"
            )
            .into());
        }
        check_fits(&record, params)?;
        (self.window, self.nonfinite_updates) = (window, nonfinite_updates);
        let sum = |(key, tensor): (&String, &ArrayD<Elem>)| {
            Some((key.strip_prefix(GRAD)?.to_owned(), tensor.clone()))
        };
        for (place, data) in schedules {
            if let Some(schedule) =
                self.schedules.get_mut(place).filter(|schedule| schedule.watches().is_some())
            {
                schedule.load_state(&Record { data, ..Record::default() })?;
            }
        }
        params.put_grads(&record.tensors.iter().filter_map(sum).collect())?;
        record.tensors.retain(|key, _| !key.starts_with(GRAD));
        self.state = OptimState::load(steps, scalars, record.tensors);
        Ok(())
    }
}

/// Every tensor of the state must belong to a parameter of the model and have its shape.
fn check_fits(record: &Record, params: &dyn Params) -> Result<(), BoxError> {
    let mut shapes = BTreeMap::new();
    params.infos(&mut |p| drop(shapes.insert(p.name.to_owned(), p.shape.to_vec())));
    for (key, tensor) in &record.tensors {
        let name = key.split_once('.').map_or(key.as_str(), |(_, name)| name);
        match shapes.get(name) {
            None => {
                return Err(format!("optimizer state `{key}` of a parameter that the model has not").into());
            }
            Some(shape) if shape != tensor.shape() => {
                let own = tensor.shape();
                let text = format!("optimizer state `{key}` has shape {own:?}, its parameter {shape:?}");
                return Err(text.into());
            }
            Some(_) => {}
        }
    }
    Ok(())
}
