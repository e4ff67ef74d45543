//! The way back in memory: a run that met a bad batch returns to its last good state and goes on without those samples.

use std::sync::Arc;

use super::{Session, resume};
use crate::base::{Error, Result};
use crate::checkpoint::Checkpoint;
use crate::hook::Event;

/// What a session remembers besides the disk.
#[derive(Default)]
pub(crate) struct Rollback {
    snapshot: Option<Arc<Checkpoint>>,
    /// The snapshot of the checkpoint that the run was resumed from, until a hook asks for it.
    pub(super) resumed: Option<Arc<Checkpoint>>,
    /// Samples that are left out of training, ascending.
    pub(super) excluded: Vec<u64>,
    /// Class names of the checkpoint whose weights were loaded.
    pub(super) classes: Vec<String>,
    happened: bool,
}

impl Rollback {
    pub(super) fn without(mut excluded: Vec<u64>) -> Self {
        excluded.sort_unstable();
        Self { excluded, ..Self::default() }
    }
}

impl Session {
    /// Keeps the state of now, if a hook asked for it.
    pub(super) fn snapshot_if_asked(&mut self) -> Result<()> {
        let control = &mut self.state.control;
        let (fresh, resumed) =
            (std::mem::take(&mut control.snapshot), std::mem::take(&mut control.resume_snapshot));
        if resumed && self.rollback.resumed.is_some() {
            self.rollback.snapshot = self.rollback.resumed.take();
            return Ok(());
        }
        if !fresh && !resumed {
            return Ok(());
        }
        let mut snapshot = self.checkpoint(true)?;
        // Some hooks put their tensors in here, as they do on the way to the disk.
        self.fire_held(Event::BeforeSaveCheckpoint(&mut snapshot))?;
        self.rollback.snapshot = Some(Arc::new(snapshot));
        Ok(())
    }

    /// The state to go back to, for a checkpoint of now. Where both are one, the resumed run takes its snapshot itself.
    pub(super) fn earlier(&self) -> Option<Arc<Checkpoint>> {
        let (progress, excluded) = (&self.state.progress, &self.rollback.excluded);
        // A run that has just gone back stands where its snapshot does, and knows more.
        let now = |c: &&Arc<Checkpoint>| {
            (c.meta.epoch, c.meta.iter, c.meta.validated)
                == (progress.epoch, progress.iter, progress.validated)
                && c.meta.excluded == *excluded
        };
        self.rollback.snapshot.as_ref().filter(|snapshot| !now(snapshot)).cloned()
    }

    /// Fires an event in the midst of something: what its hooks ask for is dropped.
    pub(super) fn fire_held(&mut self, event: Event<'_>) -> Result<()> {
        self.state.control.hold += 1;
        let told = self.fire(event);
        self.state.control.hold -= 1;
        self.state.control.saves.clear();
        told
    }

    /// Goes back to the snapshot, if a hook asked for it in this iteration.
    pub(super) fn roll_back_if_asked(&mut self) -> Result<()> {
        let Some(asked) = self.state.control.rollback.take() else { return Ok(()) };
        let snapshot = self.rollback.snapshot.clone().ok_or_else(|| {
            let by = self.hooks.key(asked.by);
            Error::invalid(format!("hook `{by}` asked to go back, but there is no snapshot to go back to"))
        })?;
        let before = self.rollback.excluded.clone();
        let without = self.of_all_ranks(asked.what)?;
        self.rollback.excluded.extend(without);
        self.rollback.excluded.sort_unstable();
        self.rollback.excluded.dedup();
        self.leave_out();
        let from = self.state.progress.iter;
        resume::put_back(self, Arc::unwrap_or_clone(snapshot), asked.by)?;
        self.keep_a_sample(before)?;
        self.rollback.happened = true;
        let (to, without) = (self.state.progress.iter, &self.rollback.excluded);
        self.state
            .log
            .warn(format_args!("back from iteration {from} to {to}, on without samples {without:?}"));
        Ok(())
    }

    /// Ends the run if going back leaves nothing to go on with. It stands where it went back to, and whoever resumes it
    /// finds the samples that were there `before`.
    fn keep_a_sample(&mut self, before: Vec<u64>) -> Result<()> {
        let Some(data) = &self.state.data else { return Ok(()) };
        let is_left = !data.nothing_left(self.state.progress.pass())?;
        if self.any_rank(is_left)? {
            return Ok(());
        }
        let error = self.nothing_to_train();
        self.rollback.excluded = before;
        self.leave_out();
        self.saving.mid_step = false;
        Err(error)
    }

    /// Whether the run went back since this was asked last: a loop then fetches its batches from where the clock
    /// stands.
    pub fn take_rollback(&mut self) -> bool {
        std::mem::take(&mut self.rollback.happened)
    }

    /// Tells the loader which samples are left out; all else about their batches, and about every other one, is as
    /// before.
    pub(super) fn leave_out(&self) {
        if let Some(data) = self.state.data.as_ref().filter(|_| !self.state.info.placeholders) {
            data.exclude(&self.rollback.excluded);
        }
    }
}
