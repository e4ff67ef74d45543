//! The commit protocol: a crash at any step leaves an intact checkpoint that loads.
//!
//! 1. Write every file into `.shanty-tmp-<name>`, fsync each, the manifest last, fsync the directory.
//! 2. Rename it to `<name>` (an old one of that name steps aside as `.shanty-old-<name>` first), fsync the parent.
//! 3. Move the pointer `last_checkpoint`, written the same way.
//! 4. Only now delete what retention gives up: rename to `.shanty-del-<name>`, so that no half is taken for a whole, remove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Checkpoint;
use super::encode::Content;
use crate::base::durable::{self, TEMPORARY, sibling};
use crate::base::error::{IoContext, Result};
use crate::base::fs::FileSystem;

/// The file in the work_dir that names the newest checkpoint, relative to the work_dir where it can be.
pub const POINTER: &str = "last_checkpoint";
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Completed iterations: which of two checkpoints is newer.
    pub iter: u64,
    /// Whether a run can be resumed from it.
    pub resumable: bool,
    pub files: BTreeMap<String, FileSeal>,
}

/// Length and hash of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSeal {
    pub bytes: u64,
    pub xxh3_128: String,
}

impl FileSeal {
    pub fn new(bytes: u64, hash: u128) -> Self {
        Self { bytes, xxh3_128: format!("{hash:032x}") }
    }
}

/// Where and how a checkpoint is committed.
pub struct Commit<'a> {
    /// The disk.
    pub fs: &'a dyn FileSystem,
    /// The folder that will hold the checkpoint's directory.
    pub out_dir: &'a Path,
    /// Name of the directory: `epoch_3`.
    pub name: &'a str,
    /// The folder of [`POINTER`]; `None` leaves the pointer where it is.
    pub pointer_in: Option<&'a Path>,
    /// Checkpoint directories to delete afterwards.
    pub then_remove: &'a [PathBuf],
}

impl Commit<'_> {
    /// Writes the checkpoint and returns its directory.
    ///
    /// # Errors
    /// With the path that failed. Then neither the pointer nor an old checkpoint was touched.
    pub fn run(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let home = self.out_dir.join(self.name);
        self.write_aside(checkpoint, &self.aside("tmp"))?;
        self.put_in_place(&home).at(&home)?;
        if let Some(work_dir) = self.pointer_in {
            self.point(work_dir, &home)?;
        }
        for path in self.then_remove {
            discard(self.fs, path).at(path)?;
        }
        Ok(home)
    }

    fn aside(&self, what: &str) -> PathBuf {
        sibling(&self.out_dir.join(self.name), what)
    }

    fn write_aside(&self, checkpoint: &Checkpoint, tmp: &Path) -> Result<()> {
        let contents = checkpoint.contents()?;
        self.fs.remove(tmp).at(tmp)?;
        self.fs.create_dir(tmp).at(tmp)?;
        let mut files = BTreeMap::new();
        for (name, content) in &contents {
            files.insert((*name).to_owned(), self.write_file(&tmp.join(name), content)?);
        }
        let (iter, resumable) = (checkpoint.meta.iter, checkpoint.optimizer.is_some());
        let manifest = serde_json::to_vec_pretty(&Manifest { iter, resumable, files })
            .map_err(|e| crate::base::Error::Other(e.into()))?;
        self.write_file(&tmp.join(MANIFEST_FILE), &Content::Text(manifest))?;
        self.fs.sync(tmp).at(tmp)
    }

    /// Writes a file, durably; what the manifest says of it.
    fn write_file(&self, path: &Path, content: &Content<'_>) -> Result<FileSeal> {
        let mut seal = None;
        let mut fill = |out: &mut dyn io::Write| {
            seal = Some(content.pour(out)?);
            Ok(())
        };
        self.fs.write_with(path, content.len(), &mut fill).at(path)?;
        self.fs.sync(path).at(path)?;
        seal.ok_or_else(|| io::Error::other("the disk took no bytes")).at(path)
    }

    fn put_in_place(&self, home: &Path) -> io::Result<()> {
        let old = self.aside("old");
        let replaces = self.fs.entry(home)?.is_some();
        if replaces {
            self.fs.remove(&old)?;
            self.fs.rename(home, &old)?;
        }
        self.fs.rename(&self.aside("tmp"), home)?;
        self.fs.sync(self.out_dir)?;
        if replaces { self.fs.remove(&old) } else { Ok(()) }
    }

    fn point(&self, work_dir: &Path, home: &Path) -> Result<()> {
        let target = home.strip_prefix(work_dir).unwrap_or(home);
        durable::replace(self.fs, &work_dir.join(POINTER), target.to_string_lossy().as_bytes())
    }
}

fn discard(fs: &dyn FileSystem, home: &Path) -> io::Result<()> {
    let gone = sibling(home, "del");
    if fs.entry(home)?.is_some() {
        fs.remove(&gone)?;
        fs.rename(home, &gone)?;
    }
    fs.remove(&gone)
}

/// Clears away what a run that died in the middle of a commit left in `dir`. A checkpoint that had stepped aside
/// comes back if its successor did not arrive.
///
/// # Errors
/// When the disk refuses.
pub fn recover(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    if fs.entry(dir).at(dir)?.is_none() {
        return Ok(());
    }
    for name in fs.list(dir).at(dir)? {
        let path = dir.join(&name);
        let Some(what) = name.to_str().and_then(|n| n.strip_prefix(TEMPORARY)) else { continue };
        if let Some(name) = what.strip_prefix("old-") {
            let home = dir.join(name);
            if fs.entry(&home).at(&home)?.is_some() {
                fs.remove(&path).at(&path)?;
            } else {
                fs.rename(&path, &home).at(&path)?;
            }
        } else if what.starts_with("tmp-") || what.starts_with("del-") {
            fs.remove(&path).at(&path)?;
        }
    }
    fs.sync(dir).at(dir)
}
