//! The commit protocol: a crash at any step leaves an intact checkpoint that loads.
//!
//! 1. Write every file into `.tmp-<name>`, fsync each, the manifest last, fsync the directory.
//! 2. Rename it to `<name>` (an old one of that name steps aside as `.old-<name>` first), fsync the parent.
//! 3. Move the pointer `last_checkpoint`, written the same way.
//! 4. Only now delete what retention gives up: rename to `.del-<name>`, so that no half is taken for a whole, remove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::encode::Content;
use super::{Checkpoint, Storage};
use crate::base::durable;
use crate::base::error::{IoContext, Result};

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
    pub storage: &'a dyn Storage,
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
            self.point(work_dir, &home).at(work_dir.join(POINTER))?;
        }
        for path in self.then_remove {
            discard(self.storage, path).at(path)?;
        }
        Ok(home)
    }

    fn aside(&self, what: &str) -> PathBuf {
        sibling(&self.out_dir.join(self.name), what)
    }

    fn write_aside(&self, checkpoint: &Checkpoint, tmp: &Path) -> Result<()> {
        let contents = checkpoint.contents()?;
        self.storage.remove(tmp).at(tmp)?;
        self.storage.create_dir(tmp).at(tmp)?;
        let mut files = BTreeMap::new();
        for (name, content) in &contents {
            files.insert((*name).to_owned(), self.write_file(&tmp.join(name), content)?);
        }
        let (iter, resumable) = (checkpoint.meta.iter, checkpoint.optimizer.is_some());
        let manifest = serde_json::to_vec_pretty(&Manifest { iter, resumable, files })
            .map_err(|e| crate::base::Error::Other(e.into()))?;
        self.write_file(&tmp.join(MANIFEST_FILE), &Content::Text(manifest))?;
        self.storage.sync(tmp).at(tmp)
    }

    /// Writes a file, durably; what the manifest says of it.
    fn write_file(&self, path: &Path, content: &Content<'_>) -> Result<FileSeal> {
        let mut seal = None;
        let mut fill = |out: &mut dyn io::Write| {
            seal = Some(content.pour(out)?);
            Ok(())
        };
        self.storage.write_pieces(path, content.len(), &mut fill).at(path)?;
        self.storage.sync(path).at(path)?;
        seal.ok_or_else(|| io::Error::other("the storage took no bytes")).at(path)
    }

    fn put_in_place(&self, home: &Path) -> io::Result<()> {
        let old = self.aside("old");
        let replaces = home.exists();
        if replaces {
            self.storage.remove(&old)?;
            self.storage.rename(home, &old)?;
        }
        self.storage.rename(&self.aside("tmp"), home)?;
        self.storage.sync(self.out_dir)?;
        if replaces { self.storage.remove(&old) } else { Ok(()) }
    }

    fn point(&self, work_dir: &Path, home: &Path) -> io::Result<()> {
        let target = home.strip_prefix(work_dir).unwrap_or(home);
        let tmp = work_dir.join(format!(".tmp-{POINTER}"));
        self.storage.write(&tmp, target.to_string_lossy().as_bytes())?;
        self.storage.sync(&tmp)?;
        self.storage.rename(&tmp, &work_dir.join(POINTER))?;
        self.storage.sync(work_dir)
    }
}

fn discard(storage: &dyn Storage, home: &Path) -> io::Result<()> {
    let gone = sibling(home, "del");
    if home.exists() {
        storage.remove(&gone)?;
        storage.rename(home, &gone)?;
    }
    storage.remove(&gone)
}

/// `.old-epoch_3` beside `epoch_3`.
pub(super) fn sibling(home: &Path, what: &str) -> PathBuf {
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    home.with_file_name(format!(".{what}-{name}"))
}

/// Clears away what a run that died in the middle of a commit left in `dir`. A checkpoint that had stepped aside
/// comes back if its successor did not arrive.
///
/// # Errors
/// When the disk refuses.
pub fn recover(storage: &dyn Storage, dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        let Some(file_name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if let Some(name) = file_name.strip_prefix(".old-") {
            let home = dir.join(name);
            if home.exists() {
                storage.remove(&path).at(&path)?;
            } else {
                storage.rename(&path, &home).at(&path)?;
            }
        } else if file_name.starts_with(".tmp-") || file_name.starts_with(".del-") {
            storage.remove(&path).at(&path)?;
        }
    }
    durable::sync_dir(dir)
}
