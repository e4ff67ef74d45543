//! Reading a checkpoint: everything is verified before anything is believed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::commit::{FileSeal, MANIFEST_FILE, Manifest, POINTER, sibling};
use super::{Checkpoint, MODEL_FILE};
use crate::base::error::IoContext;
use crate::base::{Error, Result, durable};

/// Reads a checkpoint directory after checking each file against the manifest. A bare `.safetensors` file gives a
/// checkpoint of weights alone.
///
/// # Errors
/// [`Error::Checkpoint`] with the reason.
pub fn load(path: &Path) -> Result<Checkpoint> {
    if !path.exists() {
        return Err(Error::checkpoint(path, "there is no such checkpoint"));
    }
    if path.is_file() || (!path.join(MANIFEST_FILE).exists() && path.join(MODEL_FILE).exists()) {
        return Ok(Checkpoint { model: super::read_tensors(path)?, ..Checkpoint::default() });
    }
    let mut files = BTreeMap::new();
    for (name, seal) in manifest(path)?.files {
        let bytes = sealed(path, &name, &seal)?;
        let found = FileSeal::of(&bytes);
        if found != seal {
            let reason = format!(
                "`{name}` is damaged: {} bytes with hash {}, the manifest says {} with {}",
                found.bytes, found.xxh3_128, seal.bytes, seal.xxh3_128
            );
            return Err(Error::checkpoint(path, reason));
        }
        files.insert(name, bytes);
    }
    Checkpoint::from_files(path, &files)
}

/// The bytes of a file that the manifest names: a plain file of this directory with the length that it says. A manifest of
/// someone else must not lead elsewhere, or to a file without end.
fn sealed(dir: &Path, name: &str, seal: &FileSeal) -> Result<Vec<u8>> {
    let cannot = |e: &dyn std::fmt::Display| Error::checkpoint(dir, format!("`{name}` cannot be read: {e}"));
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    if !plain {
        return Err(cannot(&"it is no name of a file in the directory"));
    }
    let about = fs::symlink_metadata(dir.join(name)).map_err(|e| cannot(&e))?;
    if !about.is_file() {
        return Err(cannot(&"it is no plain file"));
    }
    if about.len() != seal.bytes {
        let (has, says) = (about.len(), seal.bytes);
        let reason = format!("`{name}` is damaged: {has} bytes, the manifest says {says}");
        return Err(Error::checkpoint(dir, reason));
    }
    durable::read(&dir.join(name)).map_err(|e| cannot(&e))
}

fn manifest(path: &Path) -> Result<Manifest> {
    let bytes = durable::read(&path.join(MANIFEST_FILE))
        .map_err(|_| Error::checkpoint(path, format!("it has no `{MANIFEST_FILE}`: its save did not end")))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::checkpoint(path, format!("`{MANIFEST_FILE}` cannot be read: {e}")))
}

/// The newest checkpoint of a work_dir that can be resumed from.
#[derive(Debug, Default)]
pub struct Found {
    /// Where it is and what is in it; `None` if there is none.
    pub checkpoint: Option<(PathBuf, Checkpoint)>,
    /// Why others, that would have come first, were refused.
    pub refused: Vec<String>,
}

/// The checkpoint that the `last_checkpoint` of a work_dir names, whether it is there or not.
pub fn pointed(work_dir: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(work_dir.join(POINTER)).ok()?;
    Some(work_dir.join(text.trim()))
}

/// Looks for the checkpoint to resume from: what `last_checkpoint` names, else the valid one with most iterations, in
/// the work_dir or beside the one that was named. One that had stepped aside for a successor that never came counts.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(work_dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut candidates = Vec::new();
    let named = pointed(work_dir);
    if let Some(named) = &named {
        candidates.push(named.clone());
        let aside = sibling(named, "old");
        candidates.extend(aside.exists().then_some(aside));
    }
    candidates.extend(by_iterations(work_dir)?);
    if let Some(beside) = named.as_deref().and_then(Path::parent).filter(|dir| *dir != work_dir) {
        candidates.extend(by_iterations(beside)?);
    }
    for path in candidates {
        match load(&path) {
            Ok(checkpoint) => {
                found.checkpoint = Some((path, checkpoint));
                return Ok(found);
            }
            Err(why) => {
                let why = why.to_string();
                if !found.refused.contains(&why) {
                    found.refused.push(why);
                }
            }
        }
    }
    Ok(found)
}

/// Resumable checkpoints of a folder, newest first.
fn by_iterations(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if let Some(manifest) = (!hidden).then(|| manifest(&path).ok()).flatten().filter(|m| m.resumable) {
            all.push((manifest.iter, path));
        }
    }
    all.sort_by(|a, b| b.cmp(a));
    Ok(all.into_iter().map(|(_, path)| path).collect())
}
