//! What shows the events of a run in another form.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::VisEvent;
use crate::base::Result;
use crate::base::fs::FileSystem;

crate::registry!(dyn VisBackend, "vis_backend", VisConfig);

/// A view of the event log: files in other forms, a server.
///
/// It opens what it writes to when it is told the first event. Nothing that it does can end a run: an error is a
/// warning, and the event is lost to it.
pub trait VisBackend: Send {
    /// Takes an event.
    ///
    /// # Errors
    /// Why this event is not shown.
    fn add(&mut self, event: &VisEvent, cx: &VisCx<'_>) -> Result<()>;

    /// Forgets all that it was told: the events of the run come again, from the first one on. A run does so when it
    /// goes back to an earlier state of itself.
    ///
    /// # Errors
    /// Why what was written cannot be taken back.
    fn restart(&mut self) -> Result<()>;

    /// The names of its files in `vis_data`, which are to be nobody else's.
    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where it writes what has no name yet, as messages say it: ``a file of TensorBoard in `vis_data` ``. No two
    /// backends of a run may say the same.
    fn place(&self) -> Option<String> {
        None
    }

    /// Of one that sends later what it could not send at once: how many events it has not sent. An error of its `add`
    /// is then no loss yet.
    fn held(&self) -> Option<u64> {
        None
    }
}

/// Where a backend is at work.
pub struct VisCx<'a> {
    /// The disk: what a backend writes goes through it, so that a test can take the disk's place.
    pub fs: &'a dyn FileSystem,
    /// `vis_data` of the log folder.
    pub dir: &'a Path,
    /// The work_dir, which paths of events begin at.
    pub work: &'a Path,
}

/// The keys that every backend of a config may carry beside its own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VisConfig {
    /// What messages call it; its type if absent. Two backends of one type need names.
    pub name: Option<String>,
    /// What is said of an event that it does not take: none ends the run.
    pub on_error: OnVisError,
}

/// What is said when a backend fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnVisError {
    /// Each failure is a warning; after ten in a row it is told nothing more. The end of the run says what was lost.
    #[default]
    Warn,
    /// Only the end of the run says what was lost.
    Quiet,
}

impl OnVisError {
    /// Failures in a row after which a backend is told nothing more.
    pub(super) const IN_A_ROW: u32 = 10;
}
