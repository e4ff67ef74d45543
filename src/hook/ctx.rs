//! What a hook sees of the run: borrowed fields, so that two can be used at once, and verbs that ask.

use std::path::PathBuf;

use super::{Asked, Control, HookResult, MessageHub, Point, Profile, Progress, RunLog, SaveRequest};
use crate::base::fs::FileSystem;
use crate::base::{Rng, keyed};
use crate::comm::Comm;
use crate::data::{DataLoader, Fitted};
use crate::model::Model;
use crate::optim::OptimWrapper;
use crate::vis::Visualizer;

/// The folders of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirs {
    /// `work_dir`: checkpoints, the config dump and `last_checkpoint`.
    pub work: PathBuf,
    /// `work_dir/<timestamp>`: the text log and `vis_data`.
    pub log: PathBuf,
}

/// What does not change during a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunInfo {
    /// `<name>_<timestamp>`.
    pub experiment_name: String,
    /// `%Y%m%d_%H%M%S`, local time.
    pub timestamp: String,
    /// The resolved config; empty for a run without one.
    pub config: String,
    /// The seed in force, whether the config named it or not.
    pub seed: u64,
    /// Class names of the training data, where known.
    pub classes: Vec<String>,
    /// What the training data are fitted with: means, categories, vocabularies.
    pub fitted: Fitted,
    /// Nothing is trained or written: `shanty check` rehearses the first iteration, `shanty plan` walks through the
    /// schedule. A hook must not reach outside of the run then.
    pub dry_run: bool,
    /// The model has no weights, the data no values, a validation no metrics: a dry run of `shanty plan`. A hook passes
    /// over what needs them, and nothing else: all that it would refuse in a run, `shanty check` is to find.
    pub placeholders: bool,
}

/// The run as a hook sees it.
pub struct Ctx<'r> {
    /// The point being called.
    pub point: Point,
    /// Completed epochs and iterations, totals, phase.
    pub progress: &'r Progress,
    /// The model, with its weights through [`crate::params::Params`]; in its box, so that a hook can wrap it for a
    /// while.
    pub model: &'r mut Box<dyn Model>,
    /// Optimizer, parameter groups and schedules; `None` in a run that only evaluates.
    pub optim: Option<&'r mut OptimWrapper>,
    /// Scalars with history, shared by all hooks.
    pub message_hub: &'r mut MessageHub,
    /// Name, seed, config.
    pub info: &'r RunInfo,
    /// Folders.
    pub dirs: &'r Dirs,
    /// The processes that train together: what a hook decides by numbers of its own rank, all must agree on.
    pub comm: &'r dyn Comm,
    /// The disk: what a hook writes in those folders goes through it, so that a test can take the disk's place.
    pub fs: &'r dyn FileSystem,
    /// The text log.
    pub log: &'r RunLog,
    /// The event log, `vis_data/events.jsonl`, and the backends that show it.
    pub vis: &'r mut Visualizer,
    /// The training data, in a run that trains.
    pub data: Option<&'r DataLoader>,
    /// The data of the validation or test under way.
    pub evaluated: Option<&'r DataLoader>,
    /// Times of hooks and of the run.
    pub profile: &'r mut Profile,
    pub(crate) control: &'r mut Control,
}

impl Ctx<'_> {
    /// Leaves this point for the rest of the run; what default methods do.
    ///
    /// # Errors
    /// Never.
    pub fn unsubscribe(&mut self) -> HookResult {
        self.control.unsubscribed = true;
        Ok(())
    }

    /// Says that there is nothing to do this time: `shanty plan` lists the calls that did something.
    ///
    /// # Errors
    /// Never.
    pub fn no_op(&mut self) -> HookResult {
        self.control.idle = true;
        Ok(())
    }

    /// Whether this is the process that writes the files of the run; the only one of a run that trains alone.
    pub fn is_main(&self) -> bool {
        self.comm.place().is_main()
    }

    /// The key of the hook being called: its name in checkpoints.
    pub fn key(&self) -> &str {
        self.control.keys.get(self.control.current).map_or("", |key| key)
    }

    /// The keys of all hooks, in the order of their calls.
    pub fn keys(&self) -> &[std::sync::Arc<str>] {
        &self.control.keys
    }

    /// Asks the loop to end after this iteration (at an iteration's point) or this epoch. The first request counts.
    pub fn stop(&mut self, reason: impl Into<String>) {
        let asked = Asked { by: self.control.current, what: reason.into() };
        self.control.stop.get_or_insert(asked);
    }

    /// In `after_backward`: drops the gradients instead of stepping the optimizer. The iteration still counts.
    pub fn skip_update(&mut self, reason: impl Into<String>) {
        let asked = Asked { by: self.control.current, what: reason.into() };
        self.control.skip_update.get_or_insert(asked);
    }

    /// Asks for a checkpoint after the last hook of this point; a second request of the same name is dropped.
    pub fn save(&mut self, request: SaveRequest) {
        let saves = &mut self.control.saves;
        if !saves.iter().any(|r| r.name == request.name && r.out_dir == request.out_dir) {
            saves.push(request);
        }
    }

    /// Asks for a validation after the last hook of this point.
    pub fn val(&mut self) {
        self.control.validate = true;
    }

    /// Asks for a copy of the whole run's state in memory after the last hook of this point; it replaces the one
    /// before.
    pub fn snapshot(&mut self) {
        self.control.snapshot = true;
    }

    /// In `before_train`: asks for the snapshot of the run that is resumed, which its checkpoint carries, or for one of
    /// now.
    pub fn resume_snapshot(&mut self) {
        self.control.resume_snapshot = true;
    }

    /// Asks to return to the last [`snapshot`](Self::snapshot) at the end of this iteration, and to go on without these
    /// samples. Checkpoints asked for in this iteration are dropped. The hook that asks keeps its state, so that it can
    /// count; all others go back too.
    pub fn rollback(&mut self, without: Vec<u64>) {
        let asked = Asked { by: self.control.current, what: without };
        self.control.rollback.get_or_insert(asked);
    }

    /// A generator for this purpose at the current iteration: equal in a resumed run, no state to keep.
    pub fn rng(&self, purpose: &str) -> Rng {
        keyed(self.info.seed, purpose, self.progress.iter, self.progress.epoch)
    }
}
