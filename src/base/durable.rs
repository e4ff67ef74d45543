//! Files that are either whole or not there: write beside, fsync, rename, fsync the folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::error::{Error, IoContext, Result};
use super::fs::{FileKind, FileSystem};

/// What every name of a run begins with that no person gives.
pub const TEMPORARY: &str = ".shanty-";

/// The name that a run gives for a while to what belongs beside `path`: `.shanty-tmp-epoch_3-bf8b2f6a` to the `tmp` of
/// `epoch_3`. Its end is a mark that nobody else hits on, so that nothing else is ever swept away.
pub fn sibling(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{what}-{name}-{}", mark(what, &name)))
}

/// What a name stands for that [`sibling`] gave: `tmp` and `epoch_3`. None of a name that anybody else may have given.
pub fn stands_for(name: &str) -> Option<(&str, &str)> {
    let (what, rest) = name.strip_prefix(TEMPORARY)?.split_once('-')?;
    let (name, end) = rest.rsplit_once('-')?;
    (end == mark(what, name)).then_some((what, name))
}

fn mark(what: &str, name: &str) -> String {
    format!("{:08x}", xxh3_64(format!("{what}-{name}").as_bytes()) as u32)
}

/// Makes a directory and its parents, each durably: what is saved below one that is forgotten is lost with it.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn make_dir(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    let Some(above) = dir.parent() else { return Ok(()) };
    make_dir(fs, above)?;
    let is_new = fs.entry(dir).at(dir)?.is_none();
    fs.create_dir(dir).at(dir)?;
    let above = parent(dir);
    match fs.sync(above).at(above) {
        Err(error) if is_new => Err(error),
        // Whoever made it may have died before this; a folder of someone else need not let itself be synced.
        _ => Ok(()),
    }
}

/// Writes `bytes` to a file of the run so that a crash at any instant leaves the old file or the new one.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn replace(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = sibling(path, "tmp");
    for place in [&*temporary, path] {
        in_the_way(fs, place)?.map_or(Ok(()), Err)?;
    }
    fs.remove(&temporary).at(&temporary)?;
    let written = fs.write(&temporary, bytes).and_then(|()| fs.sync(&temporary)).at(&temporary);
    // What a full disk took of it would keep the disk full.
    written.inspect_err(|_| drop(fs.remove(&temporary)))?;
    fs.rename(&temporary, path).at(path)?;
    fs.sync(parent(path)).at(path)
}

/// What has the name of a file of the run and is none: a folder, a link, a pipe or a device is not the run's to replace.
///
/// # Errors
/// When it cannot be told.
pub fn in_the_way(fs: &dyn FileSystem, path: &Path) -> Result<Option<Error>> {
    let kind = fs.entry(path).at(path)?.map(|entry| entry.kind);
    let why = "it is no plain file, and has the name of a file of the run: move it away";
    let refused = || Error::Io { path: path.to_owned(), source: io::Error::other(why) };
    Ok(kind.filter(|kind| *kind != FileKind::File).map(|_| refused()))
}

/// Writes `bytes` to a file outside of any run so that a crash at any instant leaves the old file or the new one. What
/// is there and no plain file is never replaced: as root, that would cost the machine a device.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(io::Error::other("it is no plain file, and is not replaced by one")).at(path);
    }
    let parent = parent(path);
    let mut file =
        tempfile::Builder::new().prefix(".tmp-").tempfile_in(parent).map_err(of_system).at(path)?;
    file.write_all(bytes).at(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // tempfile makes private files; ours are read by other tools.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).at(path)?;
    }
    file.as_file().sync_all().at(path)?;
    file.persist(path).map_err(|e| e.error).at(path)?;
    File::open(parent).and_then(|dir| dir.sync_all()).at(parent)
}

/// What the system said, without the name of the temporary file: nobody gave that.
fn of_system(error: io::Error) -> io::Error {
    let text = error.to_string();
    let said = text.split_once(" at path ").map_or(&*text, |(said, _)| said);
    io::Error::new(error.kind(), said)
}

/// No file system takes a longer name.
const LONGEST_NAME: usize = 255;

/// Why no file can be written at `path`, with its temporary one beside it.
pub fn unwritable(path: &Path) -> Option<String> {
    let most = LONGEST_NAME - TEMPORARY.len() - "tmp--".len() - mark("tmp", "").len();
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    if name.len() > most {
        return Some(format!("its name is longer than {most} bytes"));
    }
    if name.contains(&0) { Some("its name holds a NUL".into()) } else { unusable(parent(path)) }
}

/// Why a folder cannot be made, or nothing be written in it; a file without a name is tried where it would stand.
pub fn unusable(dir: &Path) -> Option<String> {
    if dir.as_os_str().as_encoded_bytes().contains(&0) {
        return Some("the name holds a NUL".into());
    }
    if dir.components().any(|part| part.as_os_str().len() > LONGEST_NAME) {
        return Some(format!("a part of it is longer than {LONGEST_NAME} bytes"));
    }
    if dir.to_str().is_some_and(|dir| dir.contains("://") || dir.starts_with('~')) {
        return Some("it would be a folder of that very name: give a local path, written out".into());
    }
    for at in dir.ancestors() {
        let here = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        let shown = here.display();
        match fs::metadata(here) {
            Ok(about) if about.is_dir() => {
                let tried = tempfile::tempfile_in(here).map_err(of_system);
                return tried.err().map(|error| format!("nothing can be written in {shown}: {error}"));
            }
            Ok(_) => return Some(format!("{shown} is a file")),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound if fs::symlink_metadata(here).is_ok() => {
                    return Some(format!("{shown} is a link that leads nowhere"));
                }
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                _ => return Some(format!("{shown}: {error}")),
            },
        }
    }
    None
}

/// The folder that holds `path`: `.` for a bare file name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// The bytes of a plain file; what is none, or longer than `limit` bytes, is refused.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn read_plain(fs: &dyn FileSystem, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why)).at(path);
    match fs.entry(path).at(path)? {
        None => return Err(io::Error::from(io::ErrorKind::NotFound)).at(path),
        Some(entry) if entry.kind != FileKind::File => {
            return refused("it is no plain file: move it away".into());
        }
        Some(entry) if entry.len > limit => {
            return refused(format!("{} bytes, and at most {limit} make sense", entry.len));
        }
        Some(_) => {}
    }
    let mut bytes = Vec::new();
    fs.open(path).at(path)?.take(limit).read_to_end(&mut bytes).at(path)?;
    Ok(bytes)
}

/// The first bytes of a plain file, at most `count`.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn read_begin(fs: &dyn FileSystem, path: &Path, count: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if fs.entry(path).at(path)?.is_some_and(|entry| entry.kind == FileKind::File) {
        fs.open(path).at(path)?.take(count).read_to_end(&mut bytes).at(path)?;
    }
    Ok(bytes)
}

/// The bytes of a file outside of any run.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).at(path)
}
