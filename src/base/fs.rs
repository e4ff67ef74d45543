//! The file system as a run sees it: one small trait, so that a test can train on a disk that crashes, tears, forgets,
//! fills up and refuses.
//!
//! Everything that a run writes, renames, deletes or locks goes through it: checkpoints, the pointer, the lock, logs,
//! scalars, dumps, replay bundles. Nothing is durable before [`FileSystem::sync`]: a file's bytes and the entry in its
//! directory are two things, and each needs a sync of its own.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Hands all bytes of a file to a writer, a piece at a time.
pub type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// What kind of thing a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A plain file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link; it was not followed.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its kind.
    pub kind: FileKind,
    /// Bytes of a plain file.
    pub len: u64,
}

/// A file that grows at its end: a log.
pub trait Append: Send {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// What the operating system says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file down to its first `len` bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// A file that this process holds alone, until this is dropped or the process ends.
pub trait Lock: Send + Sync {}

/// A file system. All errors are those of the operating system.
pub trait FileSystem: Send + Sync {
    /// What `path` names, without following a link there; `None` if nothing is there.
    ///
    /// # Errors
    /// When it cannot be told.
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>>;

    /// The names in a directory, sorted: `epoch_2` before `epoch_10`.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Opens a plain file to be read. What is none (a pipe has no end, a device may block) is refused.
    ///
    /// # Errors
    /// When there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// The absolute path without links, of something that exists.
    ///
    /// # Errors
    /// When it does not exist.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;

    /// What tells something from its copies, also after a rename: device and inode. `None` where there is no such thing.
    ///
    /// # Errors
    /// When it does not exist.
    fn identity(&self, path: &Path) -> io::Result<Option<String>> {
        self.entry(path).map(|_| None)
    }

    /// Makes a directory and its parents.
    ///
    /// # Errors
    /// When the disk refuses.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory that nobody else has, in one that is there: of several who try at once one succeeds.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something has this name; when the disk refuses.
    fn create_new_dir(&self, path: &Path) -> io::Result<()> {
        match self.entry(path)? {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => self.create_dir(path),
        }
    }

    /// Writes a whole new file of `len` bytes, which `fill` hands over; it is called once.
    ///
    /// # Errors
    /// When the disk refuses, and those of `fill`; the file may be torn then.
    fn write_with(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()>;

    /// Writes a whole new file.
    ///
    /// # Errors
    /// As [`write_with`](Self::write_with).
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_with(path, bytes.len() as u64, &mut |out| out.write_all(bytes))
    }

    /// Opens a file to grow; it is made if it is not there.
    ///
    /// # Errors
    /// When the disk refuses.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>>;

    /// Makes the bytes of a file, or the entries of a directory, durable.
    ///
    /// # Errors
    /// When the disk refuses.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Renames within one file system; what `to` names is replaced if it is a file.
    ///
    /// # Errors
    /// When the disk refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file, a link (not what it leads to) or a whole directory; one that is not there is no error.
    ///
    /// # Errors
    /// When the disk refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Takes a file for this process alone and writes `holder` into it; `Err` with the text in it if another holds it.
    /// The file itself stays when the lock goes.
    ///
    /// # Errors
    /// When the disk refuses.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn Lock>, String>>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// The order of names in which numbers count by their value.
fn natural(a: &OsStr, b: &OsStr) -> Ordering {
    fn runs(name: &OsStr) -> impl Iterator<Item = (bool, usize, &[u8])> {
        let runs = name.as_encoded_bytes().chunk_by(|x, y| x.is_ascii_digit() == y.is_ascii_digit());
        runs.map(|run| match run.first() {
            Some(first) if first.is_ascii_digit() => {
                let zeros = run.iter().take_while(|digit| **digit == b'0').count();
                let value = run.get(zeros..).unwrap_or_default();
                (false, value.len(), value)
            }
            _ => (true, 0, run),
        })
    }
    runs(a).cmp(runs(b)).then_with(|| a.cmp(b))
}

impl FileSystem for Disk {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let about = match fs::symlink_metadata(path) {
            Ok(about) => about,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        Ok(Some(Entry { kind: kind(about.file_type()), len: if about.is_file() { about.len() } else { 0 } }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_by(|a, b| natural(a, b));
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        // Asked before it is opened: to open a pipe that nobody writes to would wait for ever.
        if fs::metadata(path)?.is_file() {
            Ok(Box::new(File::open(path)?))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"))
        }
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    #[cfg(unix)]
    fn identity(&self, path: &Path) -> io::Result<Option<String>> {
        use std::os::unix::fs::MetadataExt;
        let about = fs::symlink_metadata(path)?;
        Ok(Some(format!("{}:{}", about.dev(), about.ino())))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create_new_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn write_with(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()> {
        let file = File::create(path)?;
        if len < 2 * super::fs_push::EARLY { fill(&mut &file) } else { super::fs_push::fill(&file, fill) }
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        Ok(Box::new(Log(File::options().create(true).append(true).open(path)?)))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let result = match fs::symlink_metadata(path) {
            Ok(about) if about.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn Lock>, String>> {
        let mut file = loop {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                // Whoever held it may have removed it since it was opened.
                Ok(()) if is_at(&file, path)? => break file,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    // Whoever holds it may not be shanty: its text is not believed to be short.
                    let mut other = String::new();
                    let _ = (&file).take(HOLDER).read_to_string(&mut other);
                    return Ok(Err(other.trim().to_owned()));
                }
                Err(TryLockError::Error(e)) => return Err(e),
            }
        };
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{holder}")?;
        Ok(Ok(Box::new(Held(file))))
    }
}

/// Bytes of the text that says who holds a lock.
const HOLDER: u64 = 64;

/// Whether a path still names this open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let own = file.metadata()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Ok((there.dev(), there.ino()) == (own.dev(), own.ino()))
    }
    #[cfg(not(unix))]
    Ok(there.file_type() == own.file_type())
}

fn kind(of: fs::FileType) -> FileKind {
    if of.is_file() {
        FileKind::File
    } else if of.is_dir() {
        FileKind::Dir
    } else if of.is_symlink() {
        FileKind::Link
    } else {
        FileKind::Other
    }
}

/// A log on the real disk.
struct Log(File);

impl Append for Log {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// The operating system lets go of the lock when the process ends, however it ends.
struct Held(File);

impl Lock for Held {}

impl Drop for Held {
    /// A program that is being started meanwhile has the open file, too, until it is itself: that the lock goes is not
    /// left to the last who closes it.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `epoch_10` was listed before `epoch_2`.
    #[test]
    fn numbers_in_names_count_by_their_value() {
        let dir = tempfile::tempdir().unwrap();
        let ordered =
            ["epoch_2", "epoch_3", "epoch_3-1", "epoch_10", "epoch_10_best", "iter_007", "iter_8", "x"];
        ordered.iter().rev().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        assert_eq!(Disk.list(dir.path()).unwrap(), ordered);
        assert_eq!(
            natural("a1".as_ref(), "a01".as_ref()),
            Ordering::Greater,
            "of equal value by their bytes"
        );
    }

    #[test]
    fn a_link_is_removed_and_not_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (home, link) = (dir.path().join("home"), dir.path().join("link"));
        fs::create_dir(&home).unwrap();
        fs::write(home.join("kept"), "text").unwrap();
        std::os::unix::fs::symlink(&home, &link).unwrap();
        assert_eq!(Disk.entry(&link).unwrap().unwrap().kind, FileKind::Link);
        Disk.remove(&link).unwrap();
        assert_eq!(Disk.entry(&link).unwrap(), None);
        assert_eq!(fs::read_to_string(home.join("kept")).unwrap(), "text");
    }

    #[test]
    fn a_lock_goes_though_somebody_else_has_its_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = File::create(&path).unwrap();
        file.lock().unwrap();
        let child = file.try_clone().unwrap();
        drop(Held(file));
        assert!(Disk.lock(&path, "43").unwrap().is_ok());
        drop(child);
    }

    #[test]
    fn the_second_to_lock_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Disk.lock(&path, "42").unwrap().ok().unwrap();
        assert_eq!(Disk.lock(&path, "43").unwrap().err().unwrap(), "42");
        drop(first);
        assert!(Disk.lock(&path, "43").unwrap().is_ok());
    }
}
