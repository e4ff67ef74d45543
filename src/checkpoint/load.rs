//! Reading a checkpoint: everything is verified before anything is believed.

use std::io;
use std::path::Path;
use std::thread;

use super::content::{Files, HOOKS_FILE, OPTIMIZER_FILE, ROLLBACK_FILE, STATE_FILE};
use super::decode::Source;
use super::manifest::{FileSeal, MANIFEST_FILE, Manifest};
use super::{Checkpoint, MODEL_FILE};
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
    let Ok(real) = fs.canonical(path) else {
        return Err(Error::checkpoint(path, "there is no such checkpoint"));
    };
    let weights = match fs.entry(&real).at(path)?.map(|entry| entry.kind) {
        Some(FileKind::Dir) => !has(fs, &real, MANIFEST_FILE)? && !has(fs, &real, STATE_FILE)?,
        Some(FileKind::File) => return of_file(fs, path, &real),
        _ => return Err(Error::checkpoint(path, "it is neither a directory nor a plain file")),
    };
    if weights && has(fs, &real, MODEL_FILE)? {
        return Ok(Checkpoint {
            model: super::tensors::read_file(&path.join(MODEL_FILE))?,
            ..Checkpoint::default()
        });
    }
    let mut all = Manifest::read(fs, path)?.files;
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

fn has(fs: &dyn FileSystem, dir: &Path, file: &str) -> Result<bool> {
    Ok(fs.entry(&dir.join(file)).at(dir)?.is_some())
}

/// Weights alone. The file of a checkpoint is verified as the checkpoint would be.
fn of_file(fs: &dyn FileSystem, path: &Path, real: &Path) -> Result<Checkpoint> {
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let sealed = match real.parent().filter(|_| name == MODEL_FILE) {
        Some(dir) if has(fs, dir, MANIFEST_FILE)? => {
            let seal = Manifest::read(fs, dir)?.files.remove(name);
            seal.map(|seal| read_sealed(fs, dir, name, &seal)).transpose()?
        }
        _ => None,
    };
    let model = match sealed {
        Some(Read::Tensors(model)) => model,
        _ => super::tensors::read_file(path)?,
    };
    Ok(Checkpoint { model, ..Checkpoint::default() })
}

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
        MODEL_FILE | OPTIMIZER_FILE | HOOKS_FILE | ROLLBACK_FILE => source.tensors().map(Read::Tensors),
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

/// A file that the manifest names: a plain file of this directory with the length that it says. A manifest of someone
/// else must not lead elsewhere, or to a file without end.
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
