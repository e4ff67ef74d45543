//! Reading a checkpoint: everything is verified before anything is believed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use super::commit::{FileSeal, MANIFEST_FILE, Manifest, POINTER, sibling};
use super::content::{Files, HOOKS_FILE, OPTIMIZER_FILE, STATE_FILE};
use super::decode::Source;
use super::{Checkpoint, MODEL_FILE};
use crate::base::error::IoContext;
use crate::base::{Error, Result, durable};
use crate::params::StateDict;

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
    let mut all = manifest(path)?.files;
    // The two large files are read side by side: one thread is kept waiting by its hash and by fresh memory.
    let optimizer = all.remove_entry(OPTIMIZER_FILE);
    let read = |(name, seal): (String, FileSeal)| read_sealed(path, &name, &seal).map(|file| (name, file));
    let (rest, optimizer) = thread::scope(|scope| {
        let beside = optimizer.map(|file| thread::Builder::new().spawn_scoped(scope, move || read(file)));
        let rest: Result<Vec<_>> = all.into_iter().map(read).collect();
        (rest, beside.map(|worker| joined(path, worker)))
    });
    let mut files = Files::default();
    for (name, file) in rest?.into_iter().chain(optimizer.transpose()?) {
        match file {
            Read::Tensors(tensors) => drop(files.tensors.insert(name, tensors)),
            Read::State(bytes) => files.state = Some(bytes),
            Read::Other => {}
        }
    }
    Checkpoint::from_files(path, files)
}

fn joined<T>(path: &Path, worker: std::io::Result<thread::ScopedJoinHandle<'_, Result<T>>>) -> Result<T> {
    let cannot = |e: &dyn std::fmt::Display| {
        Error::checkpoint(path, format!("`{OPTIMIZER_FILE}` cannot be read: {e}"))
    };
    worker.map_err(|e| cannot(&e))?.join().unwrap_or_else(|_| Err(cannot(&"its thread panicked")))
}

/// A file whose hash is right.
enum Read {
    Tensors(StateDict),
    State(Vec<u8>),
    /// Of a later version, perhaps.
    Other,
}

/// Reads a file in one pass, and believes it when its hash is right.
fn read_sealed(dir: &Path, name: &str, seal: &FileSeal) -> Result<Read> {
    let cannot = |e: std::io::Error| Error::checkpoint(dir, format!("`{name}` cannot be read: {e}"));
    let mut source = Source::hashed(sealed(dir, name, seal)?, seal.bytes);
    let read = match name {
        MODEL_FILE | OPTIMIZER_FILE | HOOKS_FILE => source.tensors().map(Read::Tensors),
        STATE_FILE => Ok(Read::State(source.rest().map_err(cannot)?)),
        _ => Ok(Read::Other),
    };
    let found = source.seal().map_err(cannot)?;
    if found != *seal {
        let reason = format!(
            "`{name}` is damaged: {} bytes with hash {}, the manifest says {} with {}",
            found.bytes, found.xxh3_128, seal.bytes, seal.xxh3_128
        );
        return Err(Error::checkpoint(dir, reason));
    }
    read.map_err(|why| Error::checkpoint(dir.join(name), why))
}

/// A file that the manifest names: a plain file of this directory with the length that it says. A manifest of someone else
/// must not lead elsewhere, or to a file without end.
fn sealed(dir: &Path, name: &str, seal: &FileSeal) -> Result<File> {
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
    File::open(dir.join(name)).map_err(|e| cannot(&e))
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
