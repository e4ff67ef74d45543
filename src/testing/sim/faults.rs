//! What goes wrong in one life of a run, and what was counted.

use std::fmt;
use std::path::PathBuf;

use super::Crash;

/// An operation of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Act {
    Entry,
    List,
    Open,
    Canonical,
    CreateDir,
    Write,
    OpenLog,
    Append,
    Truncate,
    Sync,
    Rename,
    Remove,
    Lock,
}

impl Act {
    /// Those that change something.
    pub const CHANGING: [Self; 9] = [
        Self::CreateDir,
        Self::Write,
        Self::OpenLog,
        Self::Append,
        Self::Truncate,
        Self::Sync,
        Self::Rename,
        Self::Remove,
        Self::Lock,
    ];

    /// Whether it only reads.
    pub fn reads(self) -> bool {
        !Self::CHANGING.contains(&self)
    }
}

/// An error that the operating system gives instead of doing what it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The first operation of the life, from 1, that may be refused.
    pub from: u64,
    /// Operations of this kind; all that change something if `None`; readings have `unreadable`.
    pub act: Option<Act>,
    /// The number of the error: 5 is EIO, 13 EACCES, 28 ENOSPC.
    pub errno: i32,
    /// How many are refused; `u64::MAX` for ever.
    pub times: u64,
}

impl Refusal {
    /// Whether this operation is refused; counts it.
    pub(super) fn meets(&mut self, number: u64, act: Act) -> bool {
        let meets =
            self.times > 0 && number >= self.from && self.act.map_or(!act.reads(), |wanted| wanted == act);
        self.times = self.times.saturating_sub(u64::from(meets && self.times != u64::MAX));
        meets
    }
}

/// An operation that failed, by a [`Refusal`] or because the disk was full.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Refused {
    pub act: Act,
    /// Of a rename the old path.
    pub path: PathBuf,
    pub errno: i32,
}

/// What goes wrong in one life.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// The operation, from 1, in the middle of which the process ends.
    pub crash: Option<(u64, Crash)>,
    /// Errors.
    pub refusals: Vec<Refusal>,
    /// One reading of a file in this many fails.
    pub unreadable: Option<u64>,
    /// Bytes that still fit on the disk.
    pub room: Option<u64>,
    /// One operation in this many takes seconds.
    pub slow: Option<u64>,
}

/// What happened in a simulation, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tally {
    pub lives: u64,
    pub operations: u64,
    pub kills: u64,
    pub power_failures: u64,
    pub refused: u64,
    pub full: u64,
    pub slow: u64,
    pub alarms: u64,
    pub locked_out: u64,
}

impl Tally {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.operations += other.operations;
        self.kills += other.kills;
        self.power_failures += other.power_failures;
        self.refused += other.refused;
        self.full += other.full;
        self.slow += other.slow;
        self.alarms += other.alarms;
        self.locked_out += other.locked_out;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives, {} operations; faults: {} power failures, {} kills, {} operations refused, {} on a full disk, \
             {} slow ones, {} signals, time limits and stop files, {} met a lock",
            self.lives,
            self.operations,
            self.power_failures,
            self.kills,
            self.refused,
            self.full,
            self.slow,
            self.alarms,
            self.locked_out
        )
    }
}
