//! What is not compared, and how often: exemptions that the promises know.

use std::path::Path;

/// What was not compared, by story or life, for a reason that the promises know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spared {
    /// Stories whose end came from an iteration that had failed.
    pub inexact: u64,
    /// Stories without some lines of scalars that the disk refused.
    pub lines: u64,
    /// Stories with a checkpoint more, because nothing was saved after it or it could not be deleted.
    pub surplus: u64,
    /// Lives that went on from an older checkpoint, because the newest could not be read.
    pub passed_over: u64,
    /// Lives whose text log may be torn.
    pub text_log: u64,
}

impl Spared {
    pub fn add(&mut self, other: &Self) {
        self.inexact += other.inexact;
        self.lines += other.lines;
        self.surplus += other.surplus;
        self.passed_over += other.passed_over;
        self.text_log += other.text_log;
    }
}

/// Whether an operation on this path has to do with checkpoints (the best ones) of a run, not with its logs.
pub fn is_of_a_checkpoint(path: &Path, best: bool) -> bool {
    let text = path.to_string_lossy();
    // A folder that cannot be listed, read or synced is its checkpoints' trouble, too.
    let log = ["vis_data", ".log", "replay_iter"].iter().any(|part| text.contains(part));
    !log && (!best || text.contains("best_") || !text.contains("_iter_"))
}
