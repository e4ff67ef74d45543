//! The disk as checkpoints see it: six operations, so that a test can fail each of them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

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

/// Bytes after which the disk is told to begin.
const EARLY: u64 = 64 << 20;

/// Fills a file. The disk begins with what it has after every `early` bytes, while the rest is still copied and hashed: the
/// fsync at the end waits less.
fn fill_pushing(file: &File, early: u64, fill: Fill<'_>) -> io::Result<()> {
    thread::scope(|scope| {
        let (tell, told) = mpsc::sync_channel(1);
        let push = || told.into_iter().try_for_each(|()| file.sync_data());
        let beside = thread::Builder::new().spawn_scoped(scope, push)?;
        let filled = fill(&mut Telling { file, early, since: 0, tell });
        let pushed = beside.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")));
        // The system tells an error of the disk to one caller only: it must not be lost here.
        filled.and(pushed)
    })
}

/// Writes to a file, and tells after every `early` bytes.
struct Telling<'a> {
    file: &'a File,
    early: u64,
    since: u64,
    tell: mpsc::SyncSender<()>,
}

impl Write for Telling<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.since += written as u64;
        if self.since >= self.early {
            self.since = 0;
            // If it is still busy with what came before, it takes this along next time.
            let _ = self.tell.try_send(());
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn write_pieces(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()> {
        let file = File::create(path)?;
        if len < 2 * EARLY { fill(&mut &file) } else { fill_pushing(&file, EARLY, fill) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_pushed_out_while_it_is_filled_holds_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        let pieces: Vec<Vec<u8>> = (0..100u8).map(|i| vec![i; 37]).collect();
        fill_pushing(&file, 100, &mut |out| pieces.iter().try_for_each(|piece| out.write_all(piece)))
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), pieces.concat());
        let full = fill_pushing(&file, 1, &mut |out| {
            out.write_all(b"some")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    /// Nothing of `/dev/full` is ever written: the error is that of the writer, and it ends.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_refuses_ends_the_filling() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let refused = fill_pushing(&file, 10, &mut |out| (0..100).try_for_each(|_| out.write_all(&[1; 20])));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
