//! A disk that fails, or dies, at a chosen operation.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkpoint::{Disk, Storage};

/// What an operation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    CreateDir,
    Write,
    Sync,
    Rename,
    Remove,
}

/// The real disk up to the `at`-th operation (from 1), which fails; every one after it fails too, as if the machine had
/// stopped there. A write that fails has written `partial` bytes.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    done: Arc<Mutex<Vec<Op>>>,
    at: u64,
    partial: usize,
}

impl FaultyDisk {
    /// A disk that stops at the `at`-th operation after `partial` bytes of a write.
    pub fn stopping_at(at: u64, partial: usize) -> Self {
        Self { done: Arc::default(), at, partial }
    }

    /// A disk that only counts.
    pub fn counting() -> Self {
        Self::stopping_at(u64::MAX, 0)
    }

    /// Operations so far, the failed ones included.
    pub fn operations(&self) -> u64 {
        self.list().len() as u64
    }

    /// What they were, in order.
    pub fn list(&self) -> Vec<Op> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next(&self, op: Op, path: &Path) -> io::Result<()> {
        let number = {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(op);
            done.len() as u64
        };
        if number < self.at {
            return Ok(());
        }
        Err(io::Error::other(format!("injected: {op:?} of {} is operation {number}", path.display())))
    }
}

impl Storage for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.next(Op::CreateDir, path)?;
        Disk.create_dir(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.next(Op::Write, path) {
            if self.operations() == self.at {
                Disk.write(path, &bytes[..self.partial.min(bytes.len())])?;
            }
            return Err(e);
        }
        Disk.write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.next(Op::Sync, path)?;
        Disk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.next(Op::Rename, from)?;
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.next(Op::Remove, path)?;
        Disk.remove(path)
    }
}
