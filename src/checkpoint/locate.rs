//! Which checkpoint a person means: its directory, a name in the work_dir, or a whole work_dir.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::manifest::MANIFEST_FILE;
use super::obstacles::checkpoint_around;
use super::{Folders, MODEL_FILE, POINTER, kind, newest};
use crate::base::error::IoContext;
use crate::base::escape::escaped;
use crate::base::fs::{Disk, FileKind, FileSystem};
use crate::base::suggest::nearest;
use crate::base::{Error, Result};

/// The checkpoint directory, or the file of weights, that `named` stands for. What is not there from here is looked for
/// in the work_dir; of a work_dir, the newest checkpoint is taken.
///
/// # Errors
/// [`Error::Checkpoint`] when there is none.
pub fn locate(fs: &dyn FileSystem, named: &Path, work_dir: &Path) -> Result<PathBuf> {
    let inside = work_dir.join(named);
    let there = |path: &Path| !named.as_os_str().is_empty() && kind_of(fs, path).is_some();
    let path = match (there(named), there(&inside)) {
        (true, _) => named.to_owned(),
        (false, true) => inside,
        (false, false) => return Err(Error::checkpoint(named, missing(fs, named, work_dir))),
    };
    if kind_of(fs, &path) != Some(FileKind::Dir) || is_checkpoint(fs, &path) {
        return Ok(path);
    }
    let folders = Folders::of(fs.canonical(&path).at(&path)?);
    let found = newest(fs, &folders, None)?;
    found.checkpoint.map(|(path, _)| path).ok_or_else(|| {
        let refused: String = found.refused.iter().map(|why| format!("; refused {why}")).collect();
        Error::checkpoint(&path, format!("it is neither a checkpoint nor a work_dir that holds one{refused}"))
    })
}

/// As [`locate`], to resume from.
///
/// # Errors
/// As there; [`Error::Config`] for a file, which is no run: says what it is and what to give instead.
pub fn locate_run(fs: &dyn FileSystem, named: &Path, work_dir: &Path) -> Result<PathBuf> {
    let path = locate(fs, named, work_dir)?;
    if kind_of(fs, &path) == Some(FileKind::Dir) {
        return Ok(path);
    }
    let shown = |path: &Path| escaped(&path.to_string_lossy()).into_owned();
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
    let whole = path.parent().filter(|dir| kind_of(fs, &dir.join(MANIFEST_FILE)).is_some());
    let (is, then) = match (name, ending.as_str(), whole) {
        (POINTER, ..) => (
            "the name of the newest checkpoint".to_owned(),
            "give `--resume` alone to go on with that".to_owned(),
        ),
        (MODEL_FILE, _, Some(dir)) => {
            (WEIGHTS.to_owned(), format!("resume the directory `{}`, or {ALONE}", shown(dir)))
        }
        (_, _, Some(dir)) => {
            ("a part of a checkpoint".to_owned(), format!("resume the directory `{}`", shown(dir)))
        }
        (_, "yaml" | "yml" | "json" | "py", _) => (
            "a config".to_owned(),
            "give it before the options; `--resume` takes a checkpoint directory, or nothing".to_owned(),
        ),
        _ => match kind::on(fs, &path) {
            Ok(_) => (WEIGHTS.to_owned(), ALONE.to_owned()),
            Err(Error::Checkpoint { reason, .. }) => ("no checkpoint".to_owned(), reason),
            Err(other) => return Err(other),
        },
    };
    Err(Error::config(format!("{} is {is}: {then}", shown(&path))))
}

const WEIGHTS: &str = "a file of weights, and a run is more than that";
const ALONE: &str = "start from the weights alone with `load_from`, without `resume`";

/// Whether a file of this path would stand in a checkpoint, whose files are sealed, or under a name of a run's own.
pub fn is_of_a_run(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    // Of a bare name the folder is `.`.
    let home = crate::base::durable::parent(path);
    let home = Disk.canonical(home).unwrap_or_else(|_| home.to_owned());
    let temporary = name.as_encoded_bytes().starts_with(crate::base::durable::TEMPORARY.as_bytes());
    checkpoint_around(&Disk, &home).is_some() || temporary || name == POINTER
}

/// What a path that a person names leads to, links followed.
fn kind_of(fs: &dyn FileSystem, path: &Path) -> Option<FileKind> {
    Some(fs.entry(&fs.canonical(path).ok()?).ok()??.kind)
}

fn is_checkpoint(fs: &dyn FileSystem, dir: &Path) -> bool {
    [MANIFEST_FILE, MODEL_FILE].iter().any(|file| kind_of(fs, &dir.join(file)).is_some())
}

/// Names that an error lists.
const SHOWN: usize = 20;

fn missing(fs: &dyn FileSystem, named: &Path, work_dir: &Path) -> String {
    let is_one = |name: &String| {
        !name.starts_with('.') && kind_of(fs, &work_dir.join(name).join(MANIFEST_FILE)).is_some()
    };
    let entries = fs.list(work_dir).unwrap_or_default().into_iter();
    let names: Vec<_> = entries.filter_map(|name| name.into_string().ok()).filter(is_one).collect();
    let near =
        named.file_name().and_then(|n| n.to_str()).and_then(|n| nearest(n, names.iter().map(String::as_str)));
    let near = near.map(|near| format!("; did you mean `{}`?", escaped(near))).unwrap_or_default();
    let dir = escaped(&work_dir.to_string_lossy()).into_owned();
    if names.is_empty() {
        return format!("there is no such checkpoint, and none at all in {dir}");
    }
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| escaped(name)).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("there is no such checkpoint{near}; {dir} holds {}{more}", shown.join(", "))
}
