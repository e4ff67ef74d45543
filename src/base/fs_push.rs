//! A large file on its way to the disk: the disk begins while the rest is still copied and hashed.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;

use super::fs::Fill;

/// Bytes after which the disk is told to begin.
pub(super) const EARLY: u64 = 64 << 20;

/// Fills a file; see [`fill_pushing`].
pub(super) fn fill(file: &File, fill: Fill<'_>) -> io::Result<()> {
    fill_pushing(file, EARLY, fill)
}

/// Fills a file. The disk begins with what it has after every `early` bytes, while the rest is still copied and hashed:
/// the fsync at the end waits less.
fn fill_pushing(file: &File, early: u64, fill: Fill<'_>) -> io::Result<()> {
    thread::scope(|scope| {
        let (tell, told) = mpsc::sync_channel(1);
        let push = || told.into_iter().try_for_each(|()| file.sync_data());
        let Ok(beside) = thread::Builder::new().spawn_scoped(scope, push) else {
            // No thread is to be had: the disk begins at the fsync.
            return fill(&mut &*file);
        };
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

#[cfg(test)]
mod tests {
    use std::fs;

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
