//! The disk as checkpoints see it: six operations, so that a test can fail each of them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Gives all bytes of a file to a writer.
pub type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

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
    /// Writes a whole new file of `len` bytes, which `fill` hands over a piece at a time; it is called once. If this is not
    /// overridden, the pieces are gathered in memory and go through [`write`](Storage::write).
    ///
    /// # Errors
    /// As above.
    fn write_pieces(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        fill(&mut bytes)?;
        self.write(path, &bytes)
    }
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

    fn write_pieces(&self, path: &Path, _len: u64, fill: Fill<'_>) -> io::Result<()> {
        fill(&mut File::create(path)?)
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
