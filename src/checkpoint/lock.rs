//! One run at a time in a folder.

use std::io;
use std::path::Path;

use crate::base::error::IoContext;
use crate::base::fs::{FileKind, FileSystem, Lock};
use crate::base::{Error, Result};

/// The file in a folder that a run holds while it trains.
pub const LOCK_FILE: &str = ".shanty-lock";

/// Takes a folder for this run. The operating system lets go of it when the process ends, however it ends, so a lock is
/// never stale; the file itself stays.
///
/// # Errors
/// [`Error::Invalid`] with the holder's process id if another run has it; the file system's own.
pub fn lock_dir(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join(LOCK_FILE);
    if fs.entry(&path).at(&path)?.is_some_and(|entry| entry.kind != FileKind::File) {
        // It would be opened to be written: a link leads elsewhere, a pipe waits for ever.
        return Err(io::Error::other("it is no plain file: remove it")).at(&path);
    }
    fs.lock(&path, &std::process::id().to_string()).at(&path)?.map_err(|holder| {
        let is_process = !holder.is_empty() && holder.bytes().all(|byte| byte.is_ascii_digit());
        let process = if is_process { format!(" (process {holder})") } else { String::new() };
        Error::invalid(format!(
            "{} is in use by another run{process}: wait for it, or give this run its own work_dir",
            dir.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fs::Disk;

    #[test]
    fn the_second_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock_dir(&Disk, dir.path()).unwrap();
        let error = lock_dir(&Disk, dir.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        lock_dir(&Disk, dir.path()).unwrap();
    }
}
