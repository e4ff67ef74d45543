//! What a checkpoint keeps of optimizer and accumulation window.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::OptimWrapper;
use super::amp::{Scaler, ScalerState};
use super::window::Window;
use crate::base::number::count;
use crate::base::{BoxError, Elem, Record, Result};
use crate::comm::Place;
use crate::params::{OptimState, Params, Set};

/// What stands beside the tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// The type of the optimizer: the state of one means nothing to another.
    optimizer: String,
    window: Window,
    /// The samples that an open window holds of each rank, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    samples_of_ranks: Vec<u64>,
    /// Updates in a row that were left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    left_out: BTreeMap<String, u64>,
    /// The scale of mixed precision, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scaler: Option<ScalerState>,
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
/// What comes before the number of a rank in the names of its sums; those of rank 0 go by [`GRAD`].
const GRAD_OF: &str = "grad@";

/// The samples of a rank's open window, and its sums with their names and shapes.
type OfRank = (u64, Vec<(String, Vec<usize>, Vec<Elem>)>);

impl OptimWrapper {
    /// The state of optimizer and window. The sums of an open window are part of it. Those of one that waits for its update
    /// are not: a run that failed there computes its last batch again, and a mean is nothing to add it to. The batches
    /// before it in the window are lost.
    ///
    /// # Errors
    /// When the state cannot be written, or read from a device.
    pub fn save_state(&self, params: &dyn Params) -> Result<Record, BoxError> {
        let mut schedules = BTreeMap::new();
        for (place, schedule) in self.schedules.iter().enumerate() {
            schedules.extend(schedule.state()?.map(|state| (place, state.data)));
        }
        let window = self.window.open();
        let mut record = Record::of(&Saved {
            optimizer: self.name(),
            window,
            samples_of_ranks: Vec::new(),
            left_out: self.left_out.clone(),
            loss_scaler: self.scaler.as_ref().map(Scaler::state),
            steps: self.state.steps(),
            scalars: self.state.scalars(),
            schedules,
        })?;
        self.state.save(params, &mut record)?;
        if window.batches > 0 {
            params.read(Set::Grads, &crate::params::all, &mut |p, grad| {
                record.tensors.insert(format!("{GRAD}{}", p.name), grad.to_owned());
            })?;
        }
        Ok(record)
    }

    /// Adds to a state what an open window holds of the other ranks, all of which call this, with a state or without;
    /// without an open window, or on one rank, there is nothing to add.
    ///
    /// # Errors
    /// Those of the other ranks, and of a device.
    pub fn add_windows(&self, params: &dyn Params, record: Option<&mut Record>) -> Result<(), BoxError> {
        let Some(comm) = self.ranks.as_ref().filter(|_| self.has_open_window()) else {
            return Ok(());
        };
        let mut own: OfRank = (self.window.samples, Vec::new());
        params.read(Set::Grads, &crate::params::all, &mut |p, grad| {
            own.1.push((p.name.to_owned(), p.shape.to_vec(), grad.iter().copied().collect()));
        })?;
        let mut bytes = Vec::new();
        ciborium::into_writer(&own, &mut bytes)?;
        let given = comm.gather(&bytes)?;
        let Some(record) = record else { return Ok(()) };
        let mut saved: Saved = record.read()?;
        for (rank, bytes) in given.iter().enumerate() {
            let (samples, sums): OfRank = ciborium::from_reader(&bytes[..])?;
            saved.samples_of_ranks.push(samples);
            for (name, shape, sum) in sums.into_iter().filter(|_| rank > 0) {
                let sum = ArrayD::from_shape_vec(shape, sum)?;
                record.tensors.insert(format!("{}{name}", sums_of(rank)), sum);
            }
        }
        record.data = Record::of(&saved)?.data;
        Ok(())
    }

    /// Takes the state back. Gives what somebody should know: that mixed precision has come or gone.
    ///
    /// # Errors
    /// A record of another optimizer, or state of a parameter that the model has not.
    pub fn load_state(
        &mut self,
        mut record: Record,
        params: &mut dyn Params,
    ) -> Result<Vec<String>, BoxError> {
        let Saved {
            optimizer,
            mut window,
            samples_of_ranks,
            left_out,
            loss_scaler,
            steps,
            scalars,
            schedules,
        } = record.read()?;
        let own = self.name();
        if optimizer != own {
            return Err(format!(
                "it holds the state of the optimizer {optimizer}, and this run has {own}: resume with {optimizer}, or \
                 begin a new run from its weights with `load_from` and without `resume`"
            )
            .into());
        }
        check_fits(&record, params)?;
        let mut sums = GRAD.to_owned();
        if !samples_of_ranks.is_empty() {
            let place = self.ranks.as_ref().map_or(Place::SOLO, |comm| comm.place());
            let of_all = samples_of_ranks.len();
            let own = samples_of_ranks.get(place.rank).filter(|_| of_all == place.world);
            window.samples = *own.ok_or_else(|| other_ranks(of_all, place.world))?;
            sums = sums_of(place.rank);
        }
        self.window = window;
        let notes = self.take_scale(loss_scaler);
        // With another scale, or with none any more, gradients may be finite again.
        let same_scale = loss_scaler.map(|then| then.scale) == self.amp_scale();
        self.left_out = if same_scale { left_out } else { BTreeMap::new() };
        // Sums of losses that had another scale.
        let rescaled = self.amp_scale().unwrap_or(1.0) / loss_scaler.map_or(1.0, |then| then.scale);
        let sum = |(key, tensor): (&String, &ArrayD<Elem>)| {
            Some((key.strip_prefix(&sums)?.to_owned(), tensor * rescaled as Elem))
        };
        for (place, data) in schedules {
            if let Some(schedule) =
                self.schedules.get_mut(place).filter(|schedule| schedule.watches().is_some())
            {
                schedule.load_state(&Record { data, ..Record::default() })?;
            }
        }
        params.put_grads(&record.tensors.iter().filter_map(sum).collect())?;
        record.tensors.retain(|key, _| !key.starts_with(GRAD) && !key.starts_with(GRAD_OF));
        self.state = OptimState::load(steps, scalars, record.tensors);
        Ok(notes)
    }

    /// Goes on with the scale of mixed precision, where both runs have one; what is to be said where one has not.
    fn take_scale(&mut self, then: Option<ScalerState>) -> Vec<String> {
        let note = match (&mut self.scaler, then) {
            (None, None) => return Vec::new(),
            (Some(scaler), Some(then)) => {
                scaler.take_up(then);
                return Vec::new();
            }
            (Some(_), None) => {
                "the checkpoint is of a run without mixed precision, and this one has it: its loss scale begins anew"
            }
            (None, Some(_)) => {
                "the checkpoint is of a run with mixed precision, and this one has none: its loss scale is dropped, and the \
                 run goes on in single precision"
            }
        };
        vec![note.to_owned()]
    }
}

/// How the sums of a rank are called.
fn sums_of(rank: usize) -> String {
    if rank == 0 { GRAD.to_owned() } else { format!("{GRAD_OF}{rank}.") }
}

/// What is said of an open window that other ranks filled.
pub(crate) fn other_ranks(then: usize, now: usize) -> String {
    format!(
        "it stands within an accumulation window, of which each of {} holds a part, and this run has {}: resume with as \
         many, or from a checkpoint at the end of an epoch",
        count(then as u64, "rank"),
        count(now as u64, "rank")
    )
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
