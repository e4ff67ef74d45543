//! Orders of a commit that are wrong on purpose: a simulator is worth what it finds of them.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::base::durable::{parent, stands_for};
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
    /// What retention gives up after a save goes when the save is begun.
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

/// A file system that does one thing wrong. As long as nothing else goes wrong, nobody notices.
pub struct Broken<F> {
    inner: F,
    how: Sabotage,
    /// How many checkpoints the run keeps.
    keep: Option<usize>,
    /// Renames that wait for the pointer.
    held: Mutex<VecDeque<(PathBuf, PathBuf)>>,
}

impl<F: FileSystem> Broken<F> {
    /// Does what `inner` does, but for this, to a run that keeps so many checkpoints.
    pub fn new(inner: F, how: Sabotage, keep: Option<usize>) -> Self {
        Self { inner, how, keep, held: Mutex::default() }
    }

    /// Where a path leads: with [`Sabotage::InPlace`], what is written aside stands in its place at once.
    fn place(&self, path: &Path) -> PathBuf {
        if self.how != Sabotage::InPlace {
            return path.to_owned();
        }
        let bare = |part: &OsStr| checkpoint_aside(part).unwrap_or(part).to_owned();
        path.iter().map(bare).collect()
    }

    /// Deletes what retention would, once the checkpoint of this manifest were saved.
    fn delete_first(&self, aside: &Path, new: &[u8]) -> io::Result<()> {
        let (Some(keep), Ok(new)) = (self.keep, serde_json::from_slice::<Value>(new)) else { return Ok(()) };
        let dir = parent(aside);
        let mut older = Vec::new();
        for name in self.inner.list(dir)? {
            let (path, mut text) = (dir.join(name), String::new());
            if path == aside || self.inner.entry(&path.join(MANIFEST))?.is_none() {
                continue;
            }
            self.inner.open(&path.join(MANIFEST))?.read_to_string(&mut text)?;
            let old = serde_json::from_str::<Value>(&text)?;
            if (&old["run"], &old["series"]) == (&new["run"], &new["series"])
                && old["iter"].as_u64() < new["iter"].as_u64()
            {
                older.push((old["iter"].as_u64(), path));
            }
        }
        older.sort();
        let kept = older.len().min(keep.saturating_sub(1));
        older.truncate(older.len() - kept);
        older.iter().try_for_each(|(_, path)| self.inner.remove(path))
    }
}

/// `epoch_3` of what stands aside for it.
fn checkpoint_aside(name: &OsStr) -> Option<&OsStr> {
    let ("tmp", text) = stands_for(name.to_str()?)? else { return None };
    ["epoch_", "iter_"].iter().any(|kind| text.contains(kind)).then(|| OsStr::new(text))
}

const MANIFEST: &str = "manifest.json";

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
        self.inner.create_dir(&self.place(path))
    }

    fn write_with(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()> {
        let is_manifest = path.file_name().is_some_and(|name| name == MANIFEST);
        if self.how == Sabotage::DeleteFirst && is_manifest {
            let mut bytes = Vec::new();
            fill(&mut bytes)?;
            let aside = parent(path);
            let is_best = aside.to_string_lossy().contains("best_");
            if !is_best {
                self.delete_first(aside, &bytes)?;
            }
            return self.inner.write(path, &bytes);
        }
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
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        let aside = checkpoint_aside(&name(from)).map(OsStr::to_owned);
        // What stands in its place already need not come there, and does not step aside for itself.
        let old =
            |path: &Path| stands_for(&name(path).to_string_lossy()).is_some_and(|(what, _)| what == "old");
        let steps_aside = old(from) || old(to);
        if self.how == Sabotage::InPlace && (aside.is_some() || steps_aside) {
            return Ok(());
        }
        // The best ones do not move the pointer.
        if self.how == Sabotage::PointerFirst
            && aside.is_some_and(|name| !name.to_string_lossy().starts_with("best_"))
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.push_back((from.to_owned(), to.to_owned()));
            return Ok(());
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
