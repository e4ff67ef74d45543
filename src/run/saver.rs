//! Writing on a thread of its own: training goes on with the next step while a snapshot becomes files.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::base::{Error, Result};
use crate::checkpoint::{Checkpoint, Commit, Storage};
use crate::hook::CheckpointSaved;
use crate::params::StateDict;

/// A snapshot with everything that its commit needs.
pub(super) struct Job {
    pub storage: Arc<dyn Storage>,
    pub checkpoint: Checkpoint,
    pub out_dir: PathBuf,
    pub name: String,
    pub pointer_in: Option<PathBuf>,
    pub then_remove: Vec<PathBuf>,
}

impl Job {
    /// The whole commit protocol, pointer and retention included.
    pub fn run(&self) -> Result<CheckpointSaved> {
        let commit = Commit {
            storage: &*self.storage,
            out_dir: &self.out_dir,
            name: &self.name,
            pointer_in: self.pointer_in.as_deref(),
            then_remove: &self.then_remove,
        };
        Ok(CheckpointSaved { path: commit.run(&self.checkpoint)?, is_last: self.pointer_in.is_some() })
    }
}

/// At most one save in flight.
#[derive(Default)]
pub(super) struct Saver {
    in_flight: Option<JoinHandle<(StateDict, Result<CheckpointSaved>)>>,
    /// The weights of the snapshot that was written last: their memory serves the next one.
    spent: StateDict,
    /// Committed, but the hooks were not told yet.
    done: Option<CheckpointSaved>,
}

impl Saver {
    /// Starts a save. The one before must have been taken by [`finish`](Self::finish).
    pub fn begin(&mut self, job: Job) -> Result<()> {
        let write = move || {
            let result = job.run();
            (job.checkpoint.model, result)
        };
        let worker = thread::Builder::new().name("shanty-save".into()).spawn(write);
        self.in_flight = Some(worker.map_err(|e| Error::Other(e.into()))?);
        Ok(())
    }

    /// The memory of the last snapshot, once.
    pub fn spent(&mut self) -> StateDict {
        std::mem::take(&mut self.spent)
    }

    /// Looks without waiting: fails if the save in flight has failed.
    pub fn check(&mut self) -> Result<()> {
        match self.in_flight.take_if(|worker| worker.is_finished()) {
            Some(worker) => self.join(worker),
            None => Ok(()),
        }
    }

    /// Waits for the save in flight; what was committed, once.
    pub fn finish(&mut self) -> Result<Option<CheckpointSaved>> {
        if let Some(worker) = self.in_flight.take() {
            self.join(worker)?;
        }
        Ok(self.done.take())
    }

    fn join(&mut self, worker: JoinHandle<(StateDict, Result<CheckpointSaved>)>) -> Result<()> {
        let panicked = |_| (StateDict::default(), Err(Error::Other("the saving thread panicked".into())));
        let (spent, result) = worker.join().unwrap_or_else(panicked);
        self.spent = spent;
        self.done = Some(result?);
        Ok(())
    }
}

impl Drop for Saver {
    /// A runner that is dropped in the middle of a save lets it end.
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
