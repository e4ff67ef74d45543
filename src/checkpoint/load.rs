//! Reading a checkpoint: everything is verified before anything is believed.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use super::commit::{FileSeal, MANIFEST_FILE, Manifest, POINTER};
use super::content::{Files, HOOKS_FILE, OPTIMIZER_FILE, STATE_FILE};
use super::decode::Source;
use super::{Checkpoint, MODEL_FILE};
use crate::base::durable::{self, sibling};
use crate::base::error::IoContext;
use crate::base::fs::{Disk, FileKind, FileSystem};
use crate::base::{Error, Result};
use crate::params::StateDict;

/// Reads a checkpoint from the real disk; see [`read`].
///
/// # Errors
/// As there.
pub fn load(path: &Path) -> Result<Checkpoint> {
    read(&Disk, path)
}

/// Reads a checkpoint directory after checking each file against the manifest. A bare `.safetensors` file gives a
/// checkpoint of weights alone.
///
/// # Errors
/// [`Error::Checkpoint`] with the reason.
pub fn read(fs: &dyn FileSystem, path: &Path) -> Result<Checkpoint> {
    let there = |path: &Path| fs.entry(path).at(path).map(|entry| entry.is_some());
    let Ok(real) = fs.canonical(path) else {
        return Err(Error::checkpoint(path, "there is no such checkpoint"));
    };
    let is_file = fs.entry(&real).at(path)?.is_some_and(|entry| entry.kind == FileKind::File);
    if is_file || (!there(&path.join(MANIFEST_FILE))? && there(&path.join(MODEL_FILE))?) {
        return Ok(Checkpoint { model: super::read_tensors(path)?, ..Checkpoint::default() });
    }
    let mut all = manifest(fs, path)?.files;
    // The two large files are read side by side: one thread is kept waiting by its hash and by fresh memory.
    let optimizer = all.remove_entry(OPTIMIZER_FILE);
    let one = |(name, seal): &(String, FileSeal)| Ok((name.clone(), read_sealed(fs, path, name, seal)?));
    let (rest, optimizer) = thread::scope(|scope| {
        let beside = optimizer.as_ref().map(|file| thread::Builder::new().spawn_scoped(scope, || one(file)));
        let rest: Result<Vec<_>> = all.into_iter().map(|file| one(&file)).collect();
        let optimizer = optimizer.as_ref().zip(beside).map(|(file, beside)| match beside {
            Ok(worker) => worker.join().unwrap_or_else(|_| {
                Err(Error::checkpoint(path, format!("reading `{OPTIMIZER_FILE}` panicked")))
            }),
            // No thread is to be had: it is read after the others.
            Err(_) => one(file),
        });
        (rest, optimizer)
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

/// Bytes of a manifest: it names a handful of files.
const LONGEST_MANIFEST: u64 = 1 << 20;

/// A file whose hash is right.
enum Read {
    Tensors(StateDict),
    State(Vec<u8>),
    /// Of a later version, perhaps.
    Other,
}

/// Reads a file in one pass, and believes it when its hash is right.
fn read_sealed(fs: &dyn FileSystem, dir: &Path, name: &str, seal: &FileSeal) -> Result<Read> {
    let cannot = |e: std::io::Error| Error::checkpoint(dir, format!("`{name}` cannot be read: {e}"));
    let mut source = Source::hashed(sealed(fs, dir, name, seal)?, seal.bytes);
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
fn sealed(fs: &dyn FileSystem, dir: &Path, name: &str, seal: &FileSeal) -> Result<Box<dyn io::Read + Send>> {
    let cannot = |e: &dyn std::fmt::Display| Error::checkpoint(dir, format!("`{name}` cannot be read: {e}"));
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    if !plain {
        return Err(cannot(&"it is no name of a file in the directory"));
    }
    let Some(about) = fs.entry(&dir.join(name)).map_err(|e| cannot(&e))? else {
        return Err(Error::checkpoint(dir, format!("`{name}` is missing")));
    };
    if about.kind != FileKind::File {
        return Err(cannot(&"it is no plain file"));
    }
    if about.len != seal.bytes {
        let (has, says) = (about.len, seal.bytes);
        let reason = format!("`{name}` is damaged: {has} bytes, the manifest says {says}");
        return Err(Error::checkpoint(dir, reason));
    }
    fs.open(&dir.join(name)).map_err(|e| cannot(&e))
}

fn manifest(fs: &dyn FileSystem, path: &Path) -> Result<Manifest> {
    let file = path.join(MANIFEST_FILE);
    if fs.entry(&file).at(&file)?.is_none() {
        return Err(Error::checkpoint(path, format!("it has no `{MANIFEST_FILE}`: its save did not end")));
    }
    let bytes = durable::read_plain(fs, &file, LONGEST_MANIFEST)
        .map_err(|e| Error::checkpoint(path, format!("`{MANIFEST_FILE}` cannot be read: {e}")))?;
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
pub fn pointed(fs: &dyn FileSystem, work_dir: &Path) -> Option<PathBuf> {
    let text = String::from_utf8(durable::read_plain(fs, &work_dir.join(POINTER), 1 << 16).ok()?).ok()?;
    Some(work_dir.join(text.trim()))
}

/// Looks for the checkpoint to resume from: what `last_checkpoint` names, else the valid one with most iterations, in
/// the work_dir or beside the one that was named. One that had stepped aside for a successor that never came counts.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(fs: &dyn FileSystem, work_dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut candidates = Vec::new();
    let named = pointed(fs, work_dir);
    if let Some(named) = &named {
        candidates.push(named.clone());
        let aside = sibling(named, "old");
        candidates.extend(fs.entry(&aside).at(&aside)?.is_some().then_some(aside));
    }
    candidates.extend(by_iterations(fs, work_dir)?);
    if let Some(beside) = named.as_deref().and_then(Path::parent).filter(|dir| *dir != work_dir) {
        candidates.extend(by_iterations(fs, beside)?);
    }
    for path in candidates {
        match read(fs, &path) {
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
fn by_iterations(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>> {
    if fs.entry(dir).at(dir)?.is_none() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for name in fs.list(dir).at(dir)? {
        let path = dir.join(name);
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if let Some(manifest) = (!hidden).then(|| manifest(fs, &path).ok()).flatten().filter(|m| m.resumable)
        {
            all.push((manifest.iter, path));
        }
    }
    all.sort_by(|a, b| b.cmp(a));
    Ok(all.into_iter().map(|(_, path)| path).collect())
}
