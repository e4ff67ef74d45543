//! What a start has made before the run begins: where it is refused, nothing of it stays.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::fs::FileSystem;
use crate::checkpoint;

/// Folders and files that a run has made; dropped before the run has begun, they go again.
#[derive(Default)]
pub(super) struct Made {
    /// Until the run has begun.
    fs: Option<Arc<dyn FileSystem>>,
    /// The folder of its logs: all of it, unless a hook has put something there.
    logs: Option<PathBuf>,
    files: Vec<PathBuf>,
    locks: Vec<PathBuf>,
    /// Those within others first.
    folders: Vec<PathBuf>,
}

impl Made {
    pub fn on(fs: Arc<dyn FileSystem>) -> Self {
        Self { fs: Some(fs), logs: None, files: Vec::new(), locks: Vec::new(), folders: Vec::new() }
    }

    /// A folder is going to be made.
    pub fn folder(&mut self, dir: &Path) {
        let Some(fs) = &self.fs else { return };
        let missing = |dir: &&Path| fs.entry(dir).is_ok_and(|entry| entry.is_none());
        let mut new: Vec<_> = dir.ancestors().take_while(missing).map(Path::to_owned).collect();
        new.append(&mut self.folders);
        self.folders = new;
    }

    /// The folder of the logs is going to be made.
    pub fn logs(&mut self, dir: &Path) {
        self.logs = Some(dir.to_owned());
    }

    /// A file is going to be written.
    pub fn file(&mut self, path: PathBuf) {
        if self.is_new(&path) {
            self.files.push(path);
        }
    }

    /// A folder is going to be locked by this file.
    pub fn lock(&mut self, path: PathBuf) {
        if self.is_new(&path) {
            self.locks.push(path);
        }
    }

    fn is_new(&self, path: &Path) -> bool {
        self.fs.as_ref().is_some_and(|fs| fs.entry(path).is_ok_and(|entry| entry.is_none()))
    }

    /// The log says what an error leaves out.
    pub fn keep_logs(&mut self) {
        self.logs = None;
    }

    /// The run has begun: all of it stays.
    pub fn keep(&mut self) {
        self.fs = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(fs) = &self.fs else { return };
        // What cannot be removed stays: the error that was told is worth more.
        let of_hooks =
            |name: &OsString| name != checkpoint::VIS_DATA && !name.to_string_lossy().ends_with(".log");
        let logs = self.logs.iter().filter(|dir| fs.list(dir).is_ok_and(|names| !names.iter().any(of_hooks)));
        for path in self.files.iter().chain(logs) {
            let _ = fs.remove(path);
        }
        for path in &self.locks {
            // Only while nobody else holds it.
            if let Ok(Ok(held)) = fs.lock(path, "") {
                let _ = fs.remove(path);
                drop(held);
            }
        }
        for dir in &self.folders {
            if fs.list(dir).is_ok_and(|names| names.is_empty()) {
                let _ = fs.remove(dir);
            }
        }
    }
}
