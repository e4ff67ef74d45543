//! The disk as checkpoints see it: five operations, so that a test can fail each of them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Where checkpoints are written. Nothing is durable before [`sync`](Storage::sync).
pub trait Storage: Send + Sync {
    /// Makes a directory and its parents.
    ///
    /// # Errors
    /// What the operating system says; so for all methods.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Writes a whole new file.
    ///
    /// # Errors
    /// As above.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file, or the entries of a directory, durable.
    ///
    /// # Errors
    /// As above.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames within one file system.
    ///
    /// # Errors
    /// As above.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file or a whole directory; one that is not there is no error.
    ///
    /// # Errors
    /// As above.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
