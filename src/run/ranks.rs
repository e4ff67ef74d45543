//! Ranks that train one model: what they add up in a step, and what they agree on between two. Each is a run of its own
//! that makes the same calls in the same order; alone, nothing here costs more than a look at the number of ranks.

use std::borrow::Cow;
use std::sync::Arc;

use super::{ExitReason, RunnerBuilder, Session};
use crate::base::rng::fresh_seed;
use crate::base::{Elem, Error, Result};
use crate::checkpoint::digest;
use crate::comm::{Comm, Place};
use crate::config::Diag;
use crate::data::{Batch, DataLoader, Shard};
use crate::hook::{Asked, Event, Step};
use crate::model::{Model, Outputs};
use crate::params::{Params, Set, Want, all};

/// Iterations between two looks at whether all ranks hold equal weights.
const COMPARED: u64 = 100;

/// What a rank asks all for; the bits below are those of an [`ExitReason`].
const SAVE: u64 = 1 << 56;
const STOP: u64 = 1 << 57;
const VALIDATE: u64 = 1 << 58;
const ROLL_BACK: u64 = 1 << 59;
const UNREADABLE: u64 = 1 << 60;

/// The part of the samples that this rank has.
pub(super) fn shard(comm: &dyn Comm) -> Shard {
    let Place { rank, world, .. } = comm.place();
    Shard { rank, world }
}

/// A seed that all ranks have, where none of them was given one; alone whoever needs one draws it.
pub(super) fn drawn_together(comm: &dyn Comm) -> Result<Option<u64>> {
    if comm.place().world == 1 {
        return Ok(None);
    }
    let mut bytes = fresh_seed().to_le_bytes().to_vec();
    comm.broadcast(0, &mut bytes)?;
    let seed = bytes.try_into().map(u64::from_le_bytes);
    seed.map(Some).map_err(|_| Error::Comm("the first rank did not give its seed".into()))
}

/// Lets batch norms take their statistics over all ranks; what is odd where there are none.
pub(super) fn sync_batchnorm(model: &mut dyn Model) -> Option<Diag> {
    if model.sync_batchnorm() > 0 {
        return None;
    }
    let mut own = false;
    model.infos(&mut |p| own |= p.layer.starts_with("BatchNorm"));
    Some(match own {
        true => Diag::error(format!(
            "the batch norms of `{}` keep to the samples of their rank: leave `sync_bn` out; SyncBuffersHook takes the \
             mean of their statistics over the ranks",
            model.name()
        )),
        false => Diag::warning("the model has no batch norm whose statistics ranks could share"),
    })
}

/// Gives all ranks the values that the first one has of these tensors.
pub(super) fn take_values(model: &mut (impl Params + ?Sized), comm: &dyn Comm, want: Want<'_>) -> Result<()> {
    let Place { rank, world, .. } = comm.place();
    let mut own: Vec<u8> = Vec::new();
    if world > 1 {
        model.read(Set::Values, want, &mut |_, value| {
            own.extend(value.iter().flat_map(|number| number.to_le_bytes()));
        })?;
    }
    if own.is_empty() {
        return Ok(());
    }
    let len = own.len();
    comm.broadcast(0, &mut own)?;
    if own.len() != len {
        return Err(Error::Comm("the ranks have models of different sizes".into()));
    }
    if rank == 0 {
        return Ok(());
    }
    let (numbers, _) = own.as_chunks::<{ size_of::<Elem>() }>();
    let mut numbers = numbers.iter().map(|bytes| Elem::from_le_bytes(*bytes));
    model.edit(Set::Values, want, &mut |_, mut value| {
        value.iter_mut().zip(numbers.by_ref()).for_each(|(value, number)| *value = number);
    })
}

impl RunnerBuilder {
    /// Draws a seed with the other ranks, for a run that is given none.
    pub(super) fn draw_seed(mut self) -> Result<Self> {
        if self.drawn.is_none() {
            self.drawn = drawn_together(&*self.comm)?;
        }
        Ok(self)
    }

    /// Gives each loader the part of this rank, and lets model and optimizer know of the others.
    pub(super) fn beside_others(&mut self) {
        if self.comm.place().world == 1 {
            return;
        }
        let shard = shard(&*self.comm);
        let evaluated = [&mut self.val, &mut self.test].into_iter().flatten().map(|e| &mut e.data);
        for data in self.train_data.iter_mut().chain(evaluated) {
            *data = data.clone().shard(shard);
        }
        if let Some(model) = &mut self.model {
            model.beside(Arc::clone(&self.comm));
        }
        if let Some(optim) = &mut self.optim {
            optim.beside(Arc::clone(&self.comm));
        }
    }
}

impl Session {
    /// Whether there are no other ranks.
    pub(super) fn is_alone(&self) -> bool {
        self.state.comm.place().world == 1
    }

    /// Whether this holds on any rank; all of them ask.
    pub(super) fn any_rank(&self, own: bool) -> Result<bool> {
        if self.is_alone() { Ok(own) } else { Ok(self.state.comm.agree(u64::from(own))? != 0) }
    }

    /// Whether no rank has a sample in this iteration. Where none may be without, nobody is asked.
    ///
    /// # Errors
    /// When some ranks have none, of a model whose steps all of them must take.
    pub(super) fn nobody_has_samples(&self, batch: &Batch) -> Result<bool> {
        if self.is_alone() || !self.state.data.as_ref().is_some_and(DataLoader::may_come_empty) {
            return Ok(batch.is_empty());
        }
        const NONE: u64 = 1;
        const SOME: u64 = 2;
        let of_all = self.state.comm.agree(if batch.is_empty() { NONE } else { SOME })?;
        if of_all == NONE | SOME {
            self.refuse_without("in this iteration some ranks have no sample")?;
        }
        Ok(of_all == NONE)
    }

    /// Refuses ranks without samples, if all of them are needed in a step.
    fn refuse_without(&self, when: &str) -> Result<()> {
        if !self.state.model.meets_in_steps() {
            return Ok(());
        }
        let text = format!(
            "{when}, while others have some, and the model's steps take numbers of all ranks (a SyncBatchNorm, a weighting of \
             losses): let all have as many, by `round_up: true` of the sampler, `drop_last: true` or another `batch_size`"
        );
        Err(self.state.failed("the ranks", "training", text.into()))
    }

    /// Refuses a training at its beginning whose passes will end so.
    pub(super) fn check_last_batch(&self) -> Result<()> {
        let max_iters = self.state.progress.max_iters;
        match self.state.data.as_ref().is_some_and(|d| d.ends_without_some() && d.len() <= max_iters) {
            true => self.refuse_without("in the last iteration of an epoch some ranks will have no sample"),
            false => Ok(()),
        }
    }

    /// Before the first step of a run: whatever a hook made of the weights by the batch of its rank, all begin with those
    /// of the first.
    pub(super) fn begin_alike(&mut self) -> Result<()> {
        if self.state.progress.iter > 0 || self.is_alone() {
            return Ok(());
        }
        take_values(&mut *self.state.model, &*self.state.comm, &all)
    }

    /// Buffers belong to a rank, as the running means of its batches. What is evaluated are those of the first rank,
    /// which a checkpoint has too.
    pub(super) fn evaluate_alike(&mut self) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        take_values(&mut *self.state.model, &*self.state.comm, &|p| !p.role.is_trained())
    }

    /// Makes the numbers of a step those of the samples of all ranks: hooks see, log and judge the same everywhere.
    pub(super) fn mean_of_ranks(&self, outputs: &mut Outputs, samples: usize) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        outputs.settle()?;
        let mut own = Vec::new();
        let vars = outputs.vars.iter().map(|(name, value)| (&**name, *value)).collect::<Vec<_>>();
        ciborium::into_writer(&(samples as u64, vars), &mut own).map_err(garbled)?;
        let given = self.state.comm.gather(&own)?;
        let mut means: Vec<(String, f64, f64)> = Vec::new();
        for bytes in given {
            let (samples, vars): (u64, Vec<(String, f64)>) =
                ciborium::from_reader(&bytes[..]).map_err(garbled)?;
            for (name, value) in vars.into_iter().filter(|_| samples > 0) {
                let (sum, count) = (value * samples as f64, samples as f64);
                match means.iter_mut().find(|(own, ..)| *own == name) {
                    Some((_, all, of)) => (*all, *of) = (*all + sum, *of + count),
                    None => means.push((name, sum, count)),
                }
            }
        }
        outputs.vars = means.into_iter().map(|(name, sum, of)| (Cow::Owned(name), sum / of)).collect();
        Ok(())
    }

    /// The end of an iteration: its hooks, then what any of them asked for on any rank.
    pub(super) fn after_iter(&mut self, step: Step<'_>) -> Result<()> {
        if self.is_alone() {
            return self.fire(Event::AfterTrainIter(step));
        }
        self.state.control.hold += 1;
        let told = self.fire(Event::AfterTrainIter(step));
        self.state.control.hold -= 1;
        told?;
        if self.state.progress.iter.is_multiple_of(COMPARED) {
            self.compare_ranks()?;
        }
        // As far as limits go, the iteration is made.
        self.saving.made = self.state.progress.iter;
        self.agree()?;
        self.apply_requests()
    }

    /// Asks all ranks whether one of them is to stop, validate, go back, save or leave: then all do.
    pub(super) fn agree(&mut self) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        let (leave, save) = self.asked_here();
        let control = &self.state.control;
        let flag = |bit: u64, is_set: bool| if is_set { bit } else { 0 };
        let own = leave.as_ref().map_or(0, ExitReason::bit)
            | flag(SAVE, save)
            | flag(STOP, control.stop.is_some())
            | flag(VALIDATE, control.validate)
            | flag(ROLL_BACK, control.rollback.is_some())
            | flag(UNREADABLE, self.met_unreadable());
        let of_all = self.state.comm.agree(own)?;
        let has = |bit: u64| of_all & bit != 0;
        if has(STOP) {
            self.stop_alike()?;
        }
        if has(UNREADABLE) {
            self.share_unreadable()?;
        }
        let control = &mut self.state.control;
        control.validate |= has(VALIDATE);
        if has(ROLL_BACK) {
            control.rollback.get_or_insert(Asked { by: usize::MAX, what: Vec::new() });
        }
        self.saving.add_agreed(of_all, has(SAVE));
        Ok(())
    }

    /// All ranks stop for the reason of the first that has one.
    fn stop_alike(&mut self) -> Result<()> {
        let reason = self.state.control.stop.as_ref().map_or("", |asked| &asked.what);
        let given = self.state.comm.gather(reason.as_bytes())?;
        if self.state.control.stop.is_none() {
            let first = given.iter().enumerate().find(|(_, reason)| !reason.is_empty());
            let what = first.map_or_else(
                || "another rank asked for it".to_owned(),
                |(rank, reason)| format!("rank {rank}: {}", String::from_utf8_lossy(reason)),
            );
            self.state.control.stop = Some(Asked { by: usize::MAX, what });
        }
        Ok(())
    }

    /// Whether this rank has met samples that cannot be read and that not all know of.
    fn met_unreadable(&self) -> bool {
        let data = self.state.data.as_ref().filter(|data| data.most_bad_samples() > 0);
        data.is_some_and(|data| data.bad_samples().len() > self.saving.unreadable_of_all)
    }

    /// `max_bad_samples` counts those of all ranks, which a checkpoint has too.
    fn share_unreadable(&mut self) -> Result<()> {
        let Some(data) = &self.state.data else { return Ok(()) };
        let (mut own, mut all) = (Vec::new(), data.bad_samples());
        ciborium::into_writer(&all, &mut own).map_err(garbled)?;
        all.truncate(self.saving.unreadable_of_all);
        for bytes in self.state.comm.gather(&own)? {
            let given: Vec<(usize, String)> = ciborium::from_reader(&bytes[..]).map_err(garbled)?;
            for (index, why) in given {
                if all.iter().all(|(known, _)| *known != index) {
                    all.push((index, why));
                }
            }
        }
        let (found, most) = (all.len(), data.most_bad_samples());
        self.saving.unreadable_of_all = found;
        data.remember_bad(all);
        if found > most {
            let text = format!("{found} samples of all ranks cannot be read, and max_bad_samples is {most}");
            return Err(self.state.failed("the data", "train_dataloader", text.into()));
        }
        Ok(())
    }

    /// The samples of all ranks that are to be left out.
    pub(super) fn of_all_ranks(&self, own: Vec<u64>) -> Result<Vec<u64>> {
        if self.is_alone() {
            return Ok(own);
        }
        let bytes: Vec<u8> = own.iter().flat_map(|id| id.to_le_bytes()).collect();
        let given = self.state.comm.gather(&bytes)?;
        Ok(given.iter().flat_map(|own| own.as_chunks::<8>().0).map(|id| u64::from_le_bytes(*id)).collect())
    }

    /// Makes sure that all ranks hold equal weights.
    ///
    /// # Errors
    /// The first rank that does not, and its first tensor that differs.
    pub fn compare_ranks(&mut self) -> Result<()> {
        digest::same_on_all_ranks(&*self.state.model, &*self.state.comm).map_err(|error| match error {
            Error::Invalid(text) => self.state.failed("the ranks", "training", text.into()),
            error => error,
        })
    }
}

fn garbled(error: impl std::fmt::Display) -> Error {
    Error::Comm(format!("the ranks do not understand each other: {error}"))
}
