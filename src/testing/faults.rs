//! The real disk with someone in between: who counts, waits, refuses, tears a write, or stops the machine.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::fs::{Append, Disk, Entry, FileSystem, Fill, Lock};

/// An operation that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    CreateDir,
    Write,
    Append,
    Truncate,
    Sync,
    Rename,
    Remove,
    Lock,
}

/// What becomes of an operation.
#[derive(Debug)]
pub enum Verdict {
    /// It is carried out.
    Go,
    /// It is not, and nobody is told.
    Skip,
    /// It fails.
    Fail(io::Error),
    /// A write or an append fails after so many bytes.
    Torn(usize, io::Error),
}

type Judge = dyn Fn(Op, &Path, u64) -> Verdict + Send + Sync;

/// The real disk, which asks a function before each operation that changes something.
#[derive(Clone)]
pub struct JudgedDisk(Arc<Judge>);

impl JudgedDisk {
    /// A disk that asks `judge`, which gets the path (of a rename: the old one) and the bytes of a write or an append.
    pub fn new(judge: impl Fn(Op, &Path, u64) -> Verdict + Send + Sync + 'static) -> Self {
        Self(Arc::new(judge))
    }

    fn ask(&self, op: Op, path: &Path, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match (self.0)(op, path, 0) {
            Verdict::Go => act(),
            Verdict::Skip => Ok(()),
            Verdict::Fail(e) | Verdict::Torn(_, e) => Err(e),
        }
    }
}

impl FileSystem for JudgedDisk {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        Disk.entry(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        Disk.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Disk.open(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        Disk.canonical(path)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<String>> {
        Disk.identity(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::CreateDir, path, || Disk.create_dir(path))
    }

    fn write_with(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()> {
        match (self.0)(Op::Write, path, len) {
            Verdict::Go => Disk.write_with(path, len, fill),
            Verdict::Skip => fill(&mut io::sink()),
            Verdict::Fail(e) => Err(e),
            Verdict::Torn(after, e) => {
                let mut bytes = Vec::new();
                fill(&mut bytes)?;
                Disk.write(path, bytes.get(..after).unwrap_or(&bytes))?;
                Err(e)
            }
        }
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        let (path, judge) = (path.to_owned(), self.clone());
        Ok(Box::new(JudgedLog { log: Disk.append(&path)?, path, judge }))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::Sync, path, || Disk.sync(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Op::Rename, from, || Disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::Remove, path, || Disk.remove(path))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn Lock>, String>> {
        self.ask(Op::Lock, path, || Ok(()))?;
        Disk.lock(path, holder)
    }
}

/// A log of a [`JudgedDisk`].
struct JudgedLog {
    log: Box<dyn Append>,
    path: PathBuf,
    judge: JudgedDisk,
}

impl Append for JudgedLog {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match (self.judge.0)(Op::Append, &self.path, bytes.len() as u64) {
            Verdict::Go => self.log.append(bytes),
            Verdict::Skip => Ok(()),
            Verdict::Fail(e) => Err(e),
            Verdict::Torn(after, e) => {
                self.log.append(bytes.get(..after).unwrap_or(bytes))?;
                Err(e)
            }
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.judge.ask(Op::Truncate, &self.path, || self.log.truncate(len))
    }
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

    /// The disk for a run.
    pub fn disk(&self) -> JudgedDisk {
        let this = self.clone();
        JudgedDisk::new(move |op, path, _| this.judge(op, path))
    }

    fn judge(&self, op: Op, path: &Path) -> Verdict {
        let number = {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(op);
            done.len() as u64
        };
        let error =
            || io::Error::other(format!("injected: {op:?} of {} is operation {number}", path.display()));
        match number.cmp(&self.at) {
            std::cmp::Ordering::Less => Verdict::Go,
            std::cmp::Ordering::Equal => Verdict::Torn(self.partial, error()),
            std::cmp::Ordering::Greater => Verdict::Fail(error()),
        }
    }
}
