//! Orders of a commit that are wrong on purpose: a simulator is worth what it finds of them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::base::durable::{TEMPORARY, parent};
use crate::base::fs::{Append, Entry, FileKind, FileSystem, Fill, Lock};

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Files are never synced.
    NoFileSync,
    /// Directories are never synced.
    NoDirSync,
    /// The pointer moves before the checkpoint that it names has its name.
    PointerFirst,
    /// The checkpoint before goes when the next one is begun.
    DeleteFirst,
    /// A checkpoint is written where it will stand, instead of aside.
    InPlace,
    /// A write that failed counts as done.
    ErrorsSwallowed,
    /// Everybody gets the lock.
    NoLock,
    /// Whatever begins with `.tmp-` is swept away, whoever made it.
    SweepAll,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoFileSync,
        Self::NoDirSync,
        Self::PointerFirst,
        Self::DeleteFirst,
        Self::InPlace,
        Self::ErrorsSwallowed,
        Self::NoLock,
        Self::SweepAll,
    ];
}

/// A file system that does one thing wrong.
pub struct Broken<F> {
    inner: F,
    how: Sabotage,
    /// Renames that wait for the pointer.
    held: Mutex<VecDeque<(PathBuf, PathBuf)>>,
    /// Checkpoints so far.
    homes: Mutex<Vec<PathBuf>>,
}

impl<F: FileSystem> Broken<F> {
    /// Does what `inner` does, but for this.
    pub fn new(inner: F, how: Sabotage) -> Self {
        Self { inner, how, held: Mutex::default(), homes: Mutex::default() }
    }

    /// Where a path leads: with [`Sabotage::InPlace`], what is written aside stands in its place at once.
    fn place(&self, path: &Path) -> PathBuf {
        if self.how != Sabotage::InPlace {
            return path.to_owned();
        }
        path.iter().map(|part| bare_checkpoint(part).unwrap_or_else(|| part.to_owned())).collect()
    }
}

/// `epoch_3` of what stands aside for it.
fn bare_checkpoint(name: &std::ffi::OsStr) -> Option<OsString> {
    let text = name.to_str()?.strip_prefix(TEMPORARY)?.strip_prefix("tmp-")?;
    ["epoch_", "iter_"].iter().any(|kind| text.contains(kind)).then(|| text.into())
}

fn is_checkpoint_aside(path: &Path) -> bool {
    path.file_name().is_some_and(|name| bare_checkpoint(name).is_some())
}

impl<F: FileSystem> FileSystem for Broken<F> {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.inner.entry(&self.place(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.inner.list(&self.place(dir))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.inner.open(&self.place(path))
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.canonical(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if self.how == Sabotage::DeleteFirst && is_checkpoint_aside(path) {
            let before = self.homes.lock().unwrap_or_else(PoisonError::into_inner).pop();
            before.map_or(Ok(()), |home| self.inner.remove(&home))?;
        }
        self.inner.create_dir(&self.place(path))
    }

    fn write_with(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()> {
        let done = self.inner.write_with(&self.place(path), len, fill);
        if self.how == Sabotage::ErrorsSwallowed { Ok(()) } else { done }
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        self.inner.append(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let path = self.place(path);
        if matches!(self.how, Sabotage::NoFileSync | Sabotage::NoDirSync) {
            let is_dir = self.inner.entry(&path)?.is_some_and(|entry| entry.kind == FileKind::Dir);
            if is_dir == (self.how == Sabotage::NoDirSync) {
                return Ok(());
            }
        }
        let done = self.inner.sync(&path);
        if self.how == Sabotage::ErrorsSwallowed { Ok(()) } else { done }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if is_checkpoint_aside(from) {
            match self.how {
                Sabotage::InPlace => return Ok(()),
                Sabotage::PointerFirst => {
                    let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                    held.push_back((from.to_owned(), to.to_owned()));
                    return Ok(());
                }
                _ => self.homes.lock().unwrap_or_else(PoisonError::into_inner).push(to.to_owned()),
            }
        }
        self.inner.rename(from, to)?;
        if to.file_name().is_some_and(|name| name == crate::checkpoint::POINTER) {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some((from, to)) = held.pop_front() {
                self.inner.rename(&from, &to)?;
                self.inner.sync(parent(&to))?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(&self.place(path))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn Lock>, String>> {
        match self.how {
            Sabotage::NoLock => return Ok(Ok(Box::new(NoLock))),
            Sabotage::SweepAll => {
                let dir = parent(path);
                let names = self.inner.list(dir)?;
                let aside = names.iter().filter(|name| name.to_string_lossy().starts_with(".tmp-"));
                aside.map(|name| dir.join(name)).try_for_each(|path| self.inner.remove(&path))?;
            }
            _ => {}
        }
        self.inner.lock(path, holder)
    }
}

/// It holds nothing.
struct NoLock;

impl Lock for NoLock {}
