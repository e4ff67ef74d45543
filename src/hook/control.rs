//! What hooks may ask of the session, until it settles.

use std::sync::Arc;

/// Asks for a checkpoint after the last hook of the current point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveRequest {
    /// Directory name below the checkpoint folder: `epoch_3`.
    pub name: String,
    /// The folder, one that the hook declares by [`save_dir`](super::Hook::save_dir); `None` is the work_dir.
    pub out_dir: Option<std::path::PathBuf>,
    /// Keep the optimizer's state, so that the run can be resumed from it.
    pub optimizer: bool,
    /// Let `last_checkpoint` name it.
    pub is_last: bool,
    /// Checkpoints of one series in one folder replace each other.
    pub series: String,
    /// How many of the series stay once this one is safe, this one included; `None` for all.
    pub keep: Option<usize>,
}

impl SaveRequest {
    /// A full checkpoint in the work_dir that `last_checkpoint` will name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            out_dir: None,
            optimizer: true,
            is_last: true,
            series: String::new(),
            keep: None,
        }
    }
}

/// Who ended a run before its schedule did, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReason {
    /// The hook's key.
    pub by: String,
    /// Its words.
    pub reason: String,
}

/// A request with the index of the hook that made it.
#[derive(Debug, Clone)]
pub(crate) struct Asked<T> {
    pub by: usize,
    pub what: T,
}

/// The requests of the current point, and who is being called.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// The slot being called: who asks, and who fails.
    pub current: usize,
    /// The keys of all hooks, in their order.
    pub keys: Arc<[Arc<str>]>,
    /// The hook called did not override the point.
    pub unsubscribed: bool,
    /// The hook called had nothing to do this time.
    pub idle: bool,
    /// Above zero inside a save or a validation: requests wait for the outermost settle.
    pub hold: u32,
    pub stop: Option<Asked<String>>,
    pub skip_update: Option<Asked<String>>,
    pub saves: Vec<SaveRequest>,
    pub validate: bool,
    /// Keep the state in memory.
    pub snapshot: bool,
    pub resume_snapshot: bool,
    /// Go back to the kept state and leave these samples out.
    pub rollback: Option<Asked<Vec<u64>>>,
}
