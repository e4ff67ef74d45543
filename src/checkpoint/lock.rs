//! One run at a time in a folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::base::error::IoContext;
use crate::base::{Error, Result};

const LOCK_FILE: &str = ".lock";

/// Holds a folder for this run. The operating system lets go of it when the process ends, however it ends, so a lock is
/// never stale; the file itself stays.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the folder.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the holder's process id if another run has it; the file system's own.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK_FILE);
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.at(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
                return Err(Error::invalid(format!(
                    "{} is in use by another run (process {holder}): wait for it, or give this run its own work_dir",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(e).at(&path),
        }
        file.set_len(0).at(&path)?;
        writeln!(file, "{}", std::process::id()).at(&path)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::take(dir.path()).unwrap();
        let error = DirLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DirLock::take(dir.path()).unwrap();
    }
}
