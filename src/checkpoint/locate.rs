//! Which checkpoint a person means: its directory, a name in the work_dir, or a whole work_dir.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::MANIFEST_FILE;
use super::{Folders, MODEL_FILE, newest};
use crate::base::error::IoContext;
use crate::base::escape::escaped;
use crate::base::fs::{Disk, FileSystem};
use crate::base::suggest::nearest;
use crate::base::{Error, Result};

/// The checkpoint directory, or the file of weights, that `named` stands for. What is not there from here is looked for in
/// the work_dir; of a work_dir, the newest checkpoint is taken.
///
/// # Errors
/// [`Error::Checkpoint`] when there is none.
pub fn locate(named: &Path, work_dir: &Path) -> Result<PathBuf> {
    let inside = work_dir.join(named);
    let there = |path: &Path| !named.as_os_str().is_empty() && path.exists();
    let path = match (there(named), there(&inside)) {
        (true, _) => named.to_owned(),
        (false, true) => inside,
        (false, false) => return Err(Error::checkpoint(named, missing(named, work_dir))),
    };
    if !path.is_dir() || is_checkpoint(&path) {
        return Ok(path);
    }
    let folders = Folders::of(Disk.canonical(&path).at(&path)?);
    let found = newest(&Disk, &folders, None)?;
    found.checkpoint.map(|(path, _)| path).ok_or_else(|| {
        let refused: String = found.refused.iter().map(|why| format!("; refused {why}")).collect();
        Error::checkpoint(&path, format!("it is neither a checkpoint nor a work_dir that holds one{refused}"))
    })
}

/// As [`locate`], to resume from.
///
/// # Errors
/// As there; [`Error::Config`] for a file: weights alone are no run.
pub fn locate_run(named: &Path, work_dir: &Path) -> Result<PathBuf> {
    let path = locate(named, work_dir)?;
    if path.is_dir() {
        return Ok(path);
    }
    let whole = path.parent().filter(|dir| is_checkpoint(dir) && dir.join(MANIFEST_FILE).exists());
    let whole = whole.map(|dir| format!("resume the directory `{}`, or ", escaped(&dir.to_string_lossy())));
    Err(Error::config(format!(
        "{} is a file of weights, and a run is more than that: {}start from the weights alone with \
         `load_from`, without `resume`",
        path.display(),
        whole.unwrap_or_default(),
    )))
}

fn is_checkpoint(dir: &Path) -> bool {
    dir.join(MANIFEST_FILE).exists() || dir.join(MODEL_FILE).exists()
}

fn missing(named: &Path, work_dir: &Path) -> String {
    let entries = fs::read_dir(work_dir).into_iter().flatten().flatten();
    let is_one = |name: &String| !name.starts_with('.') && work_dir.join(name).join(MANIFEST_FILE).exists();
    let mut names: Vec<_> = entries.filter_map(|e| e.file_name().into_string().ok()).filter(is_one).collect();
    names.sort();
    let near =
        named.file_name().and_then(|n| n.to_str()).and_then(|n| nearest(n, names.iter().map(String::as_str)));
    match (near, names.as_slice()) {
        (Some(near), _) => format!("there is no such checkpoint; did you mean `{}`?", escaped(near)),
        (None, []) => "there is no such checkpoint".to_owned(),
        (None, names) => {
            let shown: Vec<_> = names.iter().take(8).map(|name| escaped(name)).collect();
            format!("there is no such checkpoint; {} holds {}", work_dir.display(), shown.join(", "))
        }
    }
}
