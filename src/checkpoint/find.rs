//! Which checkpoint a run goes on with.

use std::path::{Path, PathBuf};

use super::folders::Folders;
use super::owned::Folder;
use super::{Checkpoint, POINTER, read};
use crate::base::durable::{self, sibling};
use crate::base::error::IoContext;
use crate::base::fs::{FileKind, FileSystem};
use crate::base::{Error, Result};

/// The newest checkpoint of a run that can be resumed from.
#[derive(Debug, Default)]
pub struct Found {
    /// Where it is and what is in it; `None` if there is none.
    pub checkpoint: Option<(PathBuf, Checkpoint)>,
    /// Why others, that would have come first, were refused.
    pub refused: Vec<String>,
}

/// Looks for the checkpoint to resume from: what `last_checkpoint` names, else the intact one with most iterations in
/// any folder of the run. One that had stepped aside for a successor that never came counts. With `run`, checkpoints of
/// other runs are refused.
///
/// # Errors
/// When a folder cannot be read.
pub fn newest(fs: &dyn FileSystem, folders: &Folders, run: Option<&str>) -> Result<Found> {
    let mut found = Found::default();
    let mut candidates = Vec::new();
    match pointed(fs, folders) {
        Ok(None) => {}
        Ok(Some(named)) => {
            let aside = sibling(&named, "old");
            let stepped_aside = fs.entry(&aside).at(&aside)?.is_some();
            candidates.push(named);
            candidates.extend(stepped_aside.then_some(aside));
        }
        Err(why) => found.refused.push(why.to_string()),
    }
    candidates.extend(by_iterations(fs, folders, &mut found.refused)?);
    for path in candidates {
        match read(fs, &path).and_then(|checkpoint| of_run(run, &path, checkpoint)) {
            Ok(checkpoint) => {
                found.checkpoint = Some((path, checkpoint));
                break;
            }
            Err(why) => found.refused.push(why.to_string()),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.refused.retain(|why| seen.insert(why.clone()));
    Ok(found)
}

fn of_run(run: Option<&str>, path: &Path, checkpoint: Checkpoint) -> Result<Checkpoint> {
    match run {
        Some(run) if checkpoint.meta.run != run => {
            Err(Error::checkpoint(path, "it is of another run: name it with `--resume` if it is meant"))
        }
        _ => Ok(checkpoint),
    }
}

/// The checkpoint that `last_checkpoint` names, whether it is there or not.
fn pointed(fs: &dyn FileSystem, folders: &Folders) -> Result<Option<PathBuf>> {
    let file = folders.work().join(POINTER);
    if fs.entry(&file).at(&file)?.is_none() {
        return Ok(None);
    }
    let text = durable::read_plain(fs, &file, 1 << 16)?;
    let text = String::from_utf8(text)
        .map_err(|_| Error::checkpoint(folders.work(), "`last_checkpoint` is no text"))?;
    folders.resolve(fs, text.trim()).map(Some)
}

/// Resumable checkpoints of all folders, newest first. What looks like one and cannot be told to be is refused.
fn by_iterations(fs: &dyn FileSystem, folders: &Folders, refused: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for dir in folders.all() {
        for listed in Folder::new(fs, dir).checkpoints()? {
            match listed.manifest {
                Ok(manifest) if manifest.resumable => all.push((manifest.iter, listed.path)),
                Ok(_) => {}
                Err(why) => refused.push(why.to_string()),
            }
        }
        refused.extend(linked(fs, dir)?);
    }
    all.sort_by(|a, b| b.cmp(a));
    Ok(all.into_iter().map(|(_, path)| path).collect())
}

/// Links to checkpoints: the run does not follow them, and says so.
fn linked(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    if fs.entry(dir).at(dir)?.is_none() {
        return Ok(all);
    }
    for name in fs.list(dir).at(dir)? {
        let path = dir.join(name);
        let is_link = fs.entry(&path).at(&path)?.is_some_and(|entry| entry.kind == FileKind::Link);
        if is_link && fs.entry(&path.join("manifest.json")).is_ok_and(|entry| entry.is_some()) {
            let why = "it is a link: name what it leads to with `--resume`";
            all.push(Error::checkpoint(&path, why).to_string());
        }
    }
    Ok(all)
}
