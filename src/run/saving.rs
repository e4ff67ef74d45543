//! How a run is saved, and how it leaves when it is told to.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::leave::{Leave, Limits};
use super::saver::{Background, Job, Saver};
use super::{Session, State};
use crate::base::error::IoContext;
use crate::base::fs::Lock;
use crate::base::{Error, Result};
use crate::checkpoint::{self, Checkpoint, Meta};
use crate::hook::{Asked, CheckpointSaved, Event, SaveRequest};
use crate::params::StateDict;

/// What a session knows about its checkpoints.
pub(crate) struct Saving {
    saver: Saver,
    /// Write on the training thread.
    in_step: bool,
    limits: Limits,
    /// When the run began, on its own timer.
    began: f64,
    /// Folders that this run holds.
    claimed: Vec<(PathBuf, Box<dyn Lock>)>,
    /// The iteration of the newest checkpoint that a run can be resumed from.
    pub(super) saved_iter: Option<u64>,
    /// A checkpoint that someone outside asked for; the next one replaces it.
    pub(super) interim: Option<PathBuf>,
    left: Option<Leave>,
}

impl Saving {
    pub(super) fn new(in_step: bool, background: Option<Box<dyn Background>>, limits: Limits) -> Self {
        Self {
            saver: Saver::on(background),
            in_step,
            limits,
            began: 0.0,
            claimed: Vec::new(),
            saved_iter: None,
            interim: None,
            left: None,
        }
    }
}

impl Session {
    /// The run as a checkpoint.
    ///
    /// # Errors
    /// When a hook or the optimizer cannot give its state.
    pub fn checkpoint(&mut self, with_optimizer: bool) -> Result<Checkpoint> {
        self.snapshot(with_optimizer, StateDict::default())
    }

    /// The run as a checkpoint, its weights in the memory of an older one.
    fn snapshot(&mut self, with_optimizer: bool, spent: StateDict) -> Result<Checkpoint> {
        let State { clock, model, optim, board, info, batch_size, vis, dirs, .. } = &mut self.state;
        let optimizer = match optim {
            Some(optim) if with_optimizer => Some(optim.save_state(&**model)?),
            _ => None,
        };
        let meta = Meta {
            epoch: clock.epoch,
            iter: clock.iter,
            batch: if clock.by_epoch { clock.batch } else { 0 },
            epoch_len: clock.epoch_len,
            batch_size: *batch_size,
            validated: clock.validated,
            seed: info.seed,
            experiment_name: info.experiment_name.clone(),
            interim: false,
            log_dir: dirs.log.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            scalars: vis.written(),
            excluded: self.memory.excluded.clone(),
            classes: info.classes.clone(),
            config: info.config.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let mut checkpoint = Checkpoint {
            model: spent.renewed(&**model),
            optimizer,
            board: serde_json::to_value(&*board).map_err(|e| Error::Other(e.into()))?,
            meta,
            ..Checkpoint::default()
        };
        for slot in self.hooks.slots() {
            if let Some(record) = slot
                .hook
                .save_state()
                .map_err(|e| Error::Other(format!("hook `{}` cannot save its state: {e}", slot.key).into()))?
            {
                checkpoint.hooks.insert(slot.key.to_string(), record);
            }
        }
        Ok(checkpoint)
    }

    /// Saves the run. By default a thread of its own writes the snapshot that is taken here; a failure then ends the run
    /// at its next iteration.
    ///
    /// # Errors
    /// With the path and the cause; older checkpoints are as they were.
    pub fn save(&mut self, request: &SaveRequest) -> Result<PathBuf> {
        self.write(request, false)
    }

    fn write(&mut self, request: &SaveRequest, interim: bool) -> Result<PathBuf> {
        let out_dir = request.out_dir.clone().unwrap_or_else(|| self.state.dirs.work.clone());
        let path = out_dir.join(&request.name);
        let at = Some(self.state.clock.iter);
        if request.is_last && self.saving.left.is_some() && self.saving.saved_iter == at {
            return Ok(path);
        }
        self.join()?;
        self.claim(&out_dir)?;
        self.state.control.hold += 1;
        let began = self.state.profile.begin();
        let begun = self.commit(request, interim, out_dir);
        self.state.profile.end("save", began);
        self.state.control.hold -= 1;
        // What the save's own events ask for would never end.
        self.state.control.saves.clear();
        begun?;
        if request.is_last && request.optimizer {
            self.saving.saved_iter = at;
        }
        Ok(path)
    }

    fn commit(&mut self, request: &SaveRequest, interim: bool, out_dir: PathBuf) -> Result<()> {
        let spent = self.saving.saver.spent();
        let mut checkpoint = self.snapshot(request.optimizer, spent)?;
        checkpoint.meta.interim = interim;
        self.fire(Event::BeforeSaveCheckpoint(&mut checkpoint))?;
        if self.state.info.dry_run {
            self.state.planned.push((request.clone(), self.state.clock.iter));
        }
        let mut then_remove: Vec<_> = request.then_remove.iter().map(|name| out_dir.join(name)).collect();
        if request.is_last {
            let home = out_dir.join(&request.name);
            then_remove.extend(self.saving.interim.take().filter(|old| *old != home));
            self.saving.interim = interim.then_some(home);
        }
        let job = Job {
            fs: self.state.fs.clone(),
            checkpoint,
            name: request.name.clone(),
            pointer_in: request.is_last.then(|| self.state.dirs.work.clone()),
            then_remove,
            out_dir,
        };
        if self.saving.in_step {
            return self.tell(&job.run()?);
        }
        if let Some(reason) = self.saving.saver.begin(job)? {
            let log = &self.state.log;
            log.warn(format_args!(
                "no thread is to be had for the save ({reason}): it was written in the step"
            ));
        }
        Ok(())
    }

    /// Waits for the save in flight and tells the hooks that it is committed.
    ///
    /// This happens before the next save and at the end of the run, never when the disk happens to be ready: so the
    /// order of events does not depend on its speed.
    pub(super) fn join(&mut self) -> Result<()> {
        match self.saving.saver.finish()? {
            Some(saved) => self.tell(&saved),
            None => Ok(()),
        }
    }

    /// Waits for the save in flight of a run that has failed already.
    pub(super) fn join_after_failure(&mut self) {
        if let Err(error) = self.saving.saver.finish() {
            self.state.log.error(format_args!("the save under way failed too: {error}"));
        }
    }

    fn tell(&mut self, saved: &CheckpointSaved) -> Result<()> {
        self.fire_held(Event::AfterSaveCheckpoint(saved))
    }

    /// Takes a folder for this run, and clears away what a dead one left there.
    pub(super) fn claim(&mut self, dir: &Path) -> Result<()> {
        if self.state.info.dry_run || self.saving.claimed.iter().any(|(held, _)| held == dir) {
            return Ok(());
        }
        let fs = &*self.state.fs;
        fs.create_dir(dir).at(dir)?;
        let lock = checkpoint::lock_dir(fs, dir)?;
        checkpoint::recover(fs, dir)?;
        self.saving.claimed.push((dir.to_owned(), lock));
        Ok(())
    }

    /// Takes the work_dir, and the folder of its newest checkpoint if that is another.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.saving.limits.check()?;
        let work = self.state.dirs.work.clone();
        self.claim(&work)?;
        let elsewhere =
            checkpoint::pointed(&*self.state.fs, &work).and_then(|path| path.parent().map(Path::to_owned));
        if let Some(dir) =
            elsewhere.filter(|dir| *dir != work && self.state.fs.entry(dir).is_ok_and(|e| e.is_some()))
        {
            self.claim(&dir)?;
        }
        if self.saving.limits.max_seconds.is_some() {
            self.saving.began = (self.state.timer)();
        }
        (self.saving.saved_iter, self.saving.left) = (None, None);
        Ok(())
    }

    /// Lets the folders go.
    pub(super) fn end(&mut self) {
        self.saving.claimed.clear();
    }

    /// Between two steps: a save that failed ends the run, and so does whoever asks for it from outside, after a
    /// checkpoint. Loops call it after each step.
    ///
    /// # Errors
    /// The failure of a save.
    pub(super) fn heed(&mut self) -> Result<()> {
        self.saving.saver.check()?;
        if self.saving.left.is_some() {
            return Ok(());
        }
        let (timer, began) = (&mut self.state.timer, self.saving.began);
        if let Some(leave) = self.saving.limits.due(|| timer() - began) {
            self.state.log.warn(format_args!("{leave}: saving and leaving"));
            self.save_interim()?;
            self.join()?;
            let asked = Asked { by: usize::MAX, what: leave.to_string() };
            self.state.control.stop.get_or_insert(asked);
            self.saving.left = Some(leave);
        } else if self.saving.limits.interrupt.save.swap(false, Ordering::Relaxed) {
            self.state.log.info("asked to save");
            self.save_interim()?;
        }
        Ok(())
    }

    fn save_interim(&mut self) -> Result<()> {
        let iter = self.state.clock.iter;
        if self.saving.saved_iter != Some(iter) {
            self.write(&SaveRequest::new(format!("iter_{iter}")), true)?;
        }
        Ok(())
    }

    /// Why the run was told to leave.
    pub fn left(&self) -> Option<&Leave> {
        self.saving.left.as_ref()
    }
}
