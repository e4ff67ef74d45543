//! Which checkpoint a person means: its directory, a name or a word in the work_dir, or a whole work_dir.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::manifest::MANIFEST_FILE;
use super::{Folders, MODEL_FILE, POINTER, kind, newest};
use crate::base::error::IoContext;
use crate::base::escape::escaped;
use crate::base::fs::{FileKind, FileSystem};
use crate::base::suggest::nearest;
use crate::base::{Error, Result, durable};

/// Words for a checkpoint of a folder, beside the name of the file that points to the newest.
const NEWEST: &str = "latest";
const BEST: &str = "best";

/// The checkpoint directory, or the file of weights, that `named` stands for. What is not there from here is looked for
/// in the work_dir. Of a work_dir, and of `last_checkpoint` and `latest` in it, the newest checkpoint is taken, and of
/// `best` the one that `save_best` keeps.
///
/// # Errors
/// [`Error::Checkpoint`] when there is none, or more than one is best.
pub fn locate(fs: &dyn FileSystem, named: &Path, work_dir: &Path) -> Result<PathBuf> {
    if let Some(address) = named.to_str().filter(|named| named.contains("://")) {
        return super::local(address);
    }
    let places = [named.to_owned(), work_dir.join(named), saved_in(fs, work_dir).join(named)];
    let word = named.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let there = |path: &&PathBuf| !named.as_os_str().is_empty() && kind_of(fs, path).is_some();
    let is_dir = |path: &&Path| kind_of(fs, path) == Some(FileKind::Dir);
    // What has the name of the pointer is not read by whoever looks for weights: it leads to them.
    let path = places.iter().find(there).filter(|path| word != POINTER || is_dir(&path.as_path()));
    // A word alone is one of the work_dir.
    let of = if named.components().count() == 1 { 1 } else { 2 };
    let mut homes = places[..2].iter().rev().take(of).map(|place| durable::parent(place));
    match (path, word) {
        (Some(path), _) if !is_dir(&path.as_path()) || is_checkpoint(fs, path) => Ok(path.clone()),
        (Some(path), _) => newest_of(fs, path, named),
        (None, POINTER | NEWEST | BEST) => match (homes.find(is_dir), word) {
            (Some(home), BEST) => best_of(fs, home, named),
            (Some(home), _) => newest_of(fs, home, named),
            (None, _) => Err(Error::checkpoint(named, missing(fs, named, work_dir))),
        },
        (None, _) => {
            // Of a path it is told what its own folder holds.
            let home = durable::parent(named);
            let home = if home != Path::new(".") && is_dir(&home) { home } else { work_dir };
            Err(Error::checkpoint(named, missing(fs, named, home)))
        }
    }
}

/// Where the run of a work_dir saves, which may be an `out_dir` elsewhere: the folder of what its pointer names.
fn saved_in(fs: &dyn FileSystem, work_dir: &Path) -> PathBuf {
    let named = durable::read_plain(fs, &work_dir.join(POINTER), 1 << 16).unwrap_or_default();
    let named = String::from_utf8(named).unwrap_or_default();
    let home = Path::new(named.trim()).parent().filter(|home| !home.as_os_str().is_empty());
    // It is told from the work_dir, or as the config tells it.
    let places = home.map(|home| [work_dir.join(home), home.to_owned()]);
    let there = |home: &PathBuf| kind_of(fs, home) == Some(FileKind::Dir);
    places.into_iter().flatten().find(there).unwrap_or_else(|| work_dir.to_owned())
}

fn newest_of(fs: &dyn FileSystem, home: &Path, named: &Path) -> Result<PathBuf> {
    let home = &saved_in(fs, home);
    let found = newest(fs, &Folders::of(fs.canonical(home).at(home)?), None)?;
    match found.checkpoint {
        Some((path, _)) => {
            // Said once it is known what is taken instead.
            let taken = escaped(&path.to_string_lossy()).into_owned();
            found.refused.iter().for_each(|why| log::warn!("{why}: {taken} is taken"));
            Ok(path)
        }
        None => {
            let refused: String = found.refused.iter().map(|why| format!("; refused {why}")).collect();
            Err(Error::checkpoint(
                named,
                format!("it is neither a checkpoint nor a work_dir that holds one{refused}"),
            ))
        }
    }
}

fn best_of(fs: &dyn FileSystem, home: &Path, named: &Path) -> Result<PathBuf> {
    let home = &saved_in(fs, home);
    let best: Vec<String> = held(fs, home).into_iter().filter(|name| name.starts_with("best_")).collect();
    match &best[..] {
        [one] => Ok(home.join(one)),
        [] => Err(Error::checkpoint(
            named,
            format!(
                "no best checkpoint is kept (`save_best` of the CheckpointHook does); {}",
                holds(fs, home)
            ),
        )),
        several => {
            let all: Vec<_> = several.iter().map(|name| escaped(name)).collect();
            Err(Error::checkpoint(
                named,
                format!("each of {} is best by its metric: name one", all.join(", ")),
            ))
        }
    }
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

/// What a path that a person names leads to, links followed.
fn kind_of(fs: &dyn FileSystem, path: &Path) -> Option<FileKind> {
    Some(fs.entry(&fs.canonical(path).ok()?).ok()??.kind)
}

fn is_checkpoint(fs: &dyn FileSystem, dir: &Path) -> bool {
    [MANIFEST_FILE, MODEL_FILE].iter().any(|file| kind_of(fs, &dir.join(file)).is_some())
}

/// Names that an error lists.
const SHOWN: usize = 20;

/// What is said where nothing has the name.
fn missing(fs: &dyn FileSystem, named: &Path, home: &Path) -> String {
    let names = held(fs, home);
    let near =
        named.file_name().and_then(|n| n.to_str()).and_then(|n| nearest(n, names.iter().map(String::as_str)));
    let near = near.map(|near| format!("; did you mean `{}`?", escaped(near))).unwrap_or_default();
    match names.is_empty() {
        true => format!("there is no such checkpoint, and {}", holds(fs, home)),
        false => format!("there is no such checkpoint{near}; {}", holds(fs, home)),
    }
}

/// The names of the checkpoints in a folder, in the order in which people count.
fn held(fs: &dyn FileSystem, home: &Path) -> Vec<String> {
    let is_one =
        |name: &String| !name.starts_with('.') && kind_of(fs, &home.join(name).join(MANIFEST_FILE)).is_some();
    let entries = fs.list(home).unwrap_or_default().into_iter();
    let mut names: Vec<_> = entries.filter_map(|name| name.into_string().ok()).filter(is_one).collect();
    names.sort_by_cached_key(|name| (name.len(), name.clone()));
    names
}

/// `work_dirs/a holds epoch_1, epoch_2`.
fn holds(fs: &dyn FileSystem, home: &Path) -> String {
    let (names, dir) = (held(fs, home), escaped(&home.to_string_lossy()).into_owned());
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| escaped(name)).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    match names.is_empty() {
        true => format!("none at all in {dir}"),
        false => format!("{dir} holds {}{more}", shown.join(", ")),
    }
}
