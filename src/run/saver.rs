//! Writing beside the training: the next step goes on while a snapshot becomes files.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::base::fs::FileSystem;
use crate::base::{Error, Result};
use crate::checkpoint::{Checkpoint, Commit, Home, Prune};
use crate::hook::CheckpointSaved;
use crate::params::StateDict;

/// The writing of one checkpoint.
pub type Task = Box<dyn FnOnce() + Send>;

/// Runs one task at a time beside the training. A thread does, unless a test wants to say when.
pub trait Background: Send {
    /// Takes a task, to be run soon or at the latest by [`wait`](Self::wait).
    ///
    /// # Errors
    /// When there is nobody to run it; the task is dropped then.
    fn start(&mut self, task: Task) -> io::Result<()>;

    /// Whether the task was run.
    fn is_done(&mut self) -> bool;

    /// Returns when the task was run.
    fn wait(&mut self);
}

/// A thread for each task.
#[derive(Default)]
struct Thread(Option<JoinHandle<()>>);

impl Background for Thread {
    fn start(&mut self, task: Task) -> io::Result<()> {
        self.0 = Some(thread::Builder::new().name("shanty-save".into()).spawn(task)?);
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn wait(&mut self) {
        if let Some(worker) = self.0.take() {
            // Of a panic the result is missing, and that is told.
            let _ = worker.join();
        }
    }
}

/// A snapshot with everything that its commit needs.
pub(super) struct Job {
    pub fs: Arc<dyn FileSystem>,
    /// Logs whose lines the checkpoint counts.
    pub logs: Vec<PathBuf>,
    pub checkpoint: Checkpoint,
    pub out_dir: PathBuf,
    pub name: String,
    pub home: Home,
    pub series: String,
    pub is_last: bool,
    pub prune: Vec<Prune>,
}

/// A save that ended.
pub(super) struct Committed {
    pub saved: CheckpointSaved,
    /// The name that it was to have, if that was taken.
    pub instead_of: Option<String>,
    /// The epoch and the iteration that it is of.
    pub at: (u64, u64),
    /// Old checkpoints that had to stay.
    pub undone: Vec<Error>,
}

impl Job {
    /// The whole commit protocol, pointer and retention included.
    pub fn run(&self) -> Result<Committed> {
        // A disk that cannot keep the curves does not cost the checkpoint.
        self.logs.iter().for_each(|log| drop(self.fs.sync(log)));
        let commit = Commit {
            fs: &*self.fs,
            out_dir: &self.out_dir,
            name: &self.name,
            home: &self.home,
            series: &self.series,
            is_last: self.is_last,
            prune: &self.prune,
        };
        let (path, undone) = commit.run(&self.checkpoint)?;
        let instead_of = (path.file_name() != Some(self.name.as_ref())).then(|| self.name.clone());
        let saved = CheckpointSaved { path, is_last: self.is_last };
        let at = (self.checkpoint.meta.epoch, self.checkpoint.meta.iter);
        Ok(Committed { saved, instead_of, at, undone })
    }
}

/// Where a save in flight stands. It is shared with whoever runs it.
enum Flight {
    Waiting(Box<Job>),
    Ended(StateDict, Result<Committed>),
    /// Taken by its task, which did not come back yet.
    UnderWay,
}

type Shared = Arc<Mutex<Flight>>;

fn swap(flight: &Shared, with: Flight) -> Flight {
    std::mem::replace(&mut *flight.lock().unwrap_or_else(PoisonError::into_inner), with)
}

/// At most one save in flight.
pub(super) struct Saver {
    background: Box<dyn Background>,
    in_flight: Option<Shared>,
    /// The weights of the snapshot that was written last: their memory serves the next one.
    spent: StateDict,
    /// Committed, but the hooks were not told yet.
    done: Option<Committed>,
    failed: bool,
}

impl Saver {
    pub fn on(background: Option<Box<dyn Background>>) -> Self {
        let background = background.unwrap_or_else(|| Box::new(Thread::default()));
        Self { background, in_flight: None, spent: StateDict::default(), done: None, failed: false }
    }

    /// Starts a save. The one before must have been taken by [`finish`](Self::finish). If nobody can run it beside the
    /// training it is done at once, and the reason is given back.
    pub fn begin(&mut self, job: Job) -> Result<Option<io::Error>> {
        let flight = Arc::new(Mutex::new(Flight::Waiting(Box::new(job))));
        let shared = Arc::clone(&flight);
        let refused = self.background.start(Box::new(move || carry_out(&shared))).err();
        self.in_flight = Some(Arc::clone(&flight));
        if refused.is_some() {
            carry_out(&flight);
            self.land()?;
        }
        Ok(refused)
    }

    /// Saves on the calling thread.
    pub fn run_now(&mut self, job: &Job) -> Result<Committed> {
        let result = job.run();
        self.failed = result.is_err();
        result
    }

    /// The memory of the last snapshot, once.
    pub fn spent(&mut self) -> StateDict {
        std::mem::take(&mut self.spent)
    }

    /// Looks without waiting: fails if the save in flight has failed.
    pub fn check(&mut self) -> Result<()> {
        if self.in_flight.is_some() && self.background.is_done() { self.land() } else { Ok(()) }
    }

    /// Waits for the save in flight; what was committed, once.
    pub fn finish(&mut self) -> Result<Option<Committed>> {
        self.land()?;
        Ok(self.done.take())
    }

    /// Waits for the save in flight; the hooks are told later.
    pub fn wait(&mut self) -> Result<()> {
        self.land()
    }

    /// Whether the save that ended last failed; told once.
    pub fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.failed)
    }

    fn land(&mut self) -> Result<()> {
        let Some(flight) = self.in_flight.take() else { return Ok(()) };
        self.background.wait();
        let Flight::Ended(spent, result) = swap(&flight, Flight::UnderWay) else {
            self.failed = true;
            return Err(Error::Other("the saving thread panicked".into()));
        };
        self.spent = spent;
        self.failed = result.is_err();
        self.done = Some(result?);
        Ok(())
    }
}

fn carry_out(flight: &Shared) {
    if let Flight::Waiting(job) = swap(flight, Flight::UnderWay) {
        let result = job.run();
        swap(flight, Flight::Ended(job.checkpoint.model, result));
    }
}

impl Drop for Saver {
    /// A runner that is dropped in the middle of a save lets it end.
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
