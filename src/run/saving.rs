//! How a run is saved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::interrupt::{ExitReason, Limits};
use super::made::Made;
use super::saver::{Background, Committed, Job, Saver};
use super::{Session, State};
use crate::base::fs::Lock;
use crate::base::{Error, Result, caught, codec};
use crate::checkpoint::{self, Checkpoint, EMERGENCY, Folders, Home, Meta, Prune};
use crate::hook::{Event, SaveRequest};
use crate::params::{Set, StateDict};

/// What a session knows about its checkpoints.
pub(crate) struct Saving {
    pub(super) saver: Saver,
    /// Write on the training thread.
    in_step: bool,
    pub(super) limits: Limits,
    /// When the run began, on its own timer.
    pub(super) began: f64,
    /// While the run holds its folders.
    pub(super) locks: Vec<Box<dyn Lock>>,
    /// What was made for a run that has not begun.
    pub(super) start: Made,
    /// What hooks call a folder, and its canonical path.
    pub(super) places: Vec<(PathBuf, PathBuf)>,
    /// The folders of the run.
    pub(super) folders: Folders,
    /// The run that checkpoints belong to; empty before it is known.
    pub(super) run: String,
    /// The work_dir as its checkpoints name it.
    pub(super) home: Home,
    /// Whether the folders have been taken for the run, that began in them or goes on.
    pub(super) holds: bool,
    /// The run is yet to take them: it begins there, or goes on without a checkpoint.
    pub(super) to_take: Option<bool>,
    /// The file of the config's dump.
    pub(super) dump: Option<PathBuf>,
    /// Delete the checkpoints of other runs.
    pub(super) overwrite: bool,
    /// The iteration of the newest checkpoint that a run can be resumed from.
    pub(super) saved_iter: Option<u64>,
    /// The iteration at which this process took the run up.
    pub(super) began_at: u64,
    /// The iteration that was made last, also if the run went back since.
    pub(super) made: u64,
    /// Iterations since the last one that had a sample.
    pub(super) idle: u64,
    /// An iteration is under way.
    pub(super) mid_step: bool,
    /// The run has failed in the midst of one.
    failed_mid_step: bool,
    /// What could not be deleted, and was told.
    pub(super) told: BTreeSet<String>,
    pub(super) interrupted: Option<ExitReason>,
    /// How many samples that cannot be read all ranks know of.
    pub(super) unreadable_of_all: usize,
    /// Why all ranks are to leave, and whether they are to save, since it was asked last.
    pub(super) agreed: Option<(Option<ExitReason>, bool)>,
    /// The checkpoint that the run goes on from.
    pub(super) resumed: Option<PathBuf>,
}

impl Saving {
    pub(super) fn new(
        in_step: bool,
        background: Option<Box<dyn Background>>,
        limits: Limits,
        overwrite: bool,
        dump: Option<PathBuf>,
        start: Made,
    ) -> Self {
        Self {
            saver: Saver::on(background),
            in_step,
            limits,
            began: 0.0,
            locks: Vec::new(),
            start,
            places: Vec::new(),
            folders: Folders::default(),
            run: String::new(),
            home: Home::default(),
            holds: true,
            to_take: None,
            dump,
            overwrite,
            saved_iter: None,
            began_at: 0,
            made: 0,
            idle: 0,
            mid_step: false,
            failed_mid_step: false,
            told: BTreeSet::new(),
            interrupted: None,
            unreadable_of_all: 0,
            agreed: None,
            resumed: None,
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
        self.settle()?;
        let (data, unreadable) = (self.fingerprints(), self.unreadable());
        let State { progress, model, optim, message_hub, info, batch_size, comm, vis, dirs, .. } =
            &mut self.state;
        let optimizer = match optim {
            Some(optim) if with_optimizer => {
                let mut record = optim.save_state(&**model)?;
                optim.add_windows(&**model, Some(&mut record))?;
                Some(record)
            }
            _ => None,
        };
        let meta = Meta {
            epoch: progress.epoch,
            iter: progress.iter,
            batch: if progress.by_epoch { progress.batch } else { 0 },
            epoch_len: progress.epoch_len,
            batch_size: *batch_size,
            world: Some(comm.place().world as u64).filter(|world| *world > 1).unwrap_or(0),
            validated: progress.validated,
            seed: info.seed,
            experiment_name: info.experiment_name.clone(),
            run: self.saving.run.clone(),
            inexact: self.saving.failed_mid_step,
            log_dir: dirs.log.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            events: vis.written(),
            excluded: self.rollback.excluded.clone(),
            classes: info.classes.clone(),
            fitted: info.fitted.clone(),
            data,
            unreadable,
            config: info.config.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let mut checkpoint = Checkpoint {
            model: spent.renewed(&**model)?,
            optimizer,
            message_hub: codec::to_json(&*message_hub)?,
            meta,
            ..Checkpoint::default()
        };
        for slot in self.hooks.slots() {
            if let Some(record) = caught(|| slot.hook.state().map(|state| state.save()).transpose())
                .map_err(|e| Error::Other(format!("hook `{}` cannot save its state: {e}", slot.key).into()))?
            {
                checkpoint.hooks.insert(slot.key.to_string(), record);
            }
        }
        Ok(checkpoint)
    }

    /// Saves the run. By default a thread of its own writes the snapshot that is taken here; a failure then ends the
    /// run at its next iteration.
    ///
    /// # Errors
    /// With the path and the cause; older checkpoints are as they were.
    pub fn save(&mut self, request: &SaveRequest) -> Result<PathBuf> {
        let dir = self.folder(request.out_dir.as_deref())?;
        let path = dir.join(&request.name);
        let at = Some(self.state.progress.iter);
        if request.is_last && self.saving.interrupted.is_some() && self.saving.saved_iter == at {
            return Ok(path);
        }
        self.join()?;
        if request.is_last {
            self.state.log.info(format_args!("saving checkpoint {}", request.name));
        }
        self.write(request, dir)?;
        Ok(path)
    }

    /// The locked folder that a hook means.
    fn folder(&self, declared: Option<&Path>) -> Result<PathBuf> {
        let Some(dir) = declared else { return Ok(self.state.dirs.work.clone()) };
        if self.state.info.dry_run {
            return Ok(dir.to_owned());
        }
        let place = self.saving.places.iter().find(|(name, _)| name == dir);
        place.map(|(_, path)| path.clone()).ok_or_else(|| {
            let dir = dir.display();
            Error::invalid(format!(
                "{dir} is no folder of this run: the hook that saves there must declare it"
            ))
        })
    }

    fn write(&mut self, request: &SaveRequest, dir: PathBuf) -> Result<()> {
        self.take_hold()?;
        self.state.control.hold += 1;
        let began = self.state.profile.begin();
        let begun = self.commit(request, dir);
        self.state.profile.end("save", began);
        self.state.control.hold -= 1;
        // What the save's own events ask for would never end.
        self.state.control.saves.clear();
        begun?;
        if request.is_last && request.optimizer {
            self.saving.saved_iter = Some(self.state.progress.iter);
        }
        Ok(())
    }

    fn commit(&mut self, request: &SaveRequest, dir: PathBuf) -> Result<()> {
        checkpoint::check_name(&request.name).map_err(Error::invalid)?;
        if !self.is_main() {
            return self.give_window(request);
        }
        let spent = self.saving.saver.spent();
        let mut checkpoint = self.snapshot(request.optimizer, spent)?;
        checkpoint.rollback = if request.optimizer { self.earlier() } else { None };
        self.fire(Event::BeforeSaveCheckpoint(&mut checkpoint))?;
        if self.state.info.dry_run {
            self.state.planned.push((request.clone(), self.state.progress.iter));
        }
        let job = Job {
            fs: self.state.fs.clone(),
            logs: self.state.vis.files(),
            checkpoint,
            name: request.name.clone(),
            home: self.saving.home.clone(),
            series: request.series.clone(),
            is_last: request.is_last,
            prune: self.prune(request, &dir),
            out_dir: dir,
        };
        if self.saving.in_step {
            let committed = self.saving.saver.run_now(&job)?;
            return self.notify_saved(committed);
        }
        if let Some(reason) = self.saving.saver.begin(job)? {
            let log = &self.state.log;
            log.warn(format_args!(
                "no thread is to be had for the save ({reason}): it was written in the step"
            ));
        }
        Ok(())
    }

    /// A rank that does not write gives the one that does what an open window holds of it.
    fn give_window(&self, request: &SaveRequest) -> Result<()> {
        match self.state.optim.as_ref().filter(|_| request.optimizer) {
            Some(optim) => Ok(optim.add_windows(&*self.state.model, None)?),
            None => Ok(()),
        }
    }

    /// What is given up once the checkpoint is safe: the surplus of its series, and what was saved without a plan.
    fn prune(&self, request: &SaveRequest, dir: &Path) -> Vec<Prune> {
        let of =
            |dir: &Path, series: &str, keep| Prune { dir: dir.to_owned(), series: series.to_owned(), keep };
        let mut all: Vec<_> = request.keep.map(|keep| of(dir, &request.series, keep)).into_iter().collect();
        if request.is_last && request.optimizer {
            let keep = usize::from(request.series == EMERGENCY);
            all.extend(self.saving.folders.all().map(|dir| of(dir, EMERGENCY, keep)));
        }
        all
    }

    /// Waits for the save in flight and tells the hooks that it is committed.
    ///
    /// This happens before the next save and at the end of the run, never when the disk happens to be ready: so the
    /// order of events does not depend on its speed.
    pub(super) fn join(&mut self) -> Result<()> {
        match self.saving.saver.finish()? {
            Some(saved) => self.notify_saved(saved),
            None => Ok(()),
        }
    }

    fn notify_saved(&mut self, committed: Committed) -> Result<()> {
        if let Some(name) = &committed.instead_of {
            let path = committed.saved.path.display();
            self.state.log.warn(format_args!(
                "something that this run did not write is called {name}: the checkpoint is {path}"
            ));
        }
        for error in committed.undone {
            let text = error.to_string();
            if self.saving.told.insert(text.clone()) {
                let log = &self.state.log;
                log.warn(format_args!("a save left something undone, the next one tries again: {text}"));
            }
        }
        self.log_checkpoint(&committed.saved.path, committed.at);
        self.fire_held(Event::AfterSaveCheckpoint(&committed.saved))
    }

    /// Takes the folders of the run: the work_dir, and those that hooks save to. What a dead run left in them is
    /// cleared away. A run that does not resume begins: it must find no checkpoints there, but nothing is deleted
    /// before its first step.
    pub(super) fn begin(&mut self, begins: bool) -> Result<()> {
        self.saving.limits.check(&*self.state.fs)?;
        self.meet()?;
        self.check_last_batch()?;
        if !self.state.info.dry_run {
            self.lock_dirs()?;
            if begins {
                self.look_at_dirs(true)?;
            }
        }
        self.saving.holds = false;
        self.saving.to_take = self.saving.to_take.or(begins.then_some(true));
        if self.saving.limits.max_seconds.is_some() {
            self.saving.began = (self.state.timer)();
        }
        (self.saving.saved_iter, self.saving.interrupted) = (None, None);
        // A run that fails before it trains has learned nothing that was to be kept.
        self.saving.began_at = u64::MAX;
        (self.saving.mid_step, self.saving.failed_mid_step) = (false, false);
        (self.saving.made, self.saving.idle) = (0, 0);
        Ok(())
    }

    /// From now on there is a run that its folders and logs tell of.
    pub(super) fn made_stays(&mut self) {
        self.saving.start.keep();
    }

    /// Lets the folders go.
    pub(super) fn end(&mut self) {
        self.saving.locks.clear();
    }

    /// A run that failed keeps what it has learned since the last checkpoint, in a checkpoint of its own that the next
    /// planned one replaces. If a save has failed, or weights are not finite, there is nothing to be kept.
    pub(super) fn save_after_failure(&mut self) {
        let iter = self.state.progress.iter;
        let earlier = self.saving.saver.finish();
        let log = &self.state.log;
        if let Err(error) = &earlier {
            log.error(format_args!("the save under way failed too: {error}"));
        }
        // From an older checkpoint the iterations without a sample are made again, when the data may be mended.
        let learned = iter.saturating_sub(self.saving.idle);
        let saved = self.saving.saved_iter.is_some_and(|saved| (learned..=iter).contains(&saved));
        // Of several ranks each has failed in another place: what they committed together is what there is.
        let at_hand = self.saving.locks.is_empty() || saved || self.state.comm.place().world > 1;
        if at_hand || self.saving.saver.take_failure() || learned <= self.saving.began_at {
            return;
        }
        let norm = self.state.model.norm(Set::Values, f64::INFINITY, &crate::params::all);
        if !norm.is_ok_and(f64::is_finite) {
            log.warn("no emergency checkpoint: there are weights that are not finite");
            return;
        }
        self.saving.failed_mid_step = self.saving.mid_step;
        let request = self.unplanned("emergency_iter");
        let work = self.state.dirs.work.clone();
        let exact = if self.saving.mid_step {
            ", which is not bit for bit: the iteration that failed may have left traces"
        } else {
            ""
        };
        let saved = self.write(&request, work).and_then(|()| self.join());
        let (log, name) = (&self.state.log, &request.name);
        match saved {
            Ok(()) => {
                log.warn(format_args!("emergency checkpoint {name}: `--resume` goes on from it{exact}"))
            }
            Err(error) => log.error(format_args!("no emergency checkpoint: {error}")),
        }
    }
}
