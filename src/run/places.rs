//! The folders that a config names, before anything is made: whether they can be, and what stands in them in the way of
//! the run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apart::resolved;
use super::{LoopTotals, RunnerBuilder};
use crate::base::fs::Disk;
use crate::base::{Error, Result};
use crate::checkpoint::{Folders, Owner, obstacles, occupied};
use crate::config::{Diag, Node};
use crate::hook::Dirs;

/// No file system takes a longer name.
const LONGEST_NAME: usize = 255;

/// A folder, and where the config says so.
struct Place<'a> {
    dir: PathBuf,
    /// Its path without links, whether it is there or not.
    home: PathBuf,
    key: &'static str,
    node: Option<&'a Node>,
}

fn all<'a>(builder: &RunnerBuilder, node: &'a Node, hooks: &'a [(Arc<str>, Node)]) -> Vec<Place<'a>> {
    let work = builder.home();
    let dirs = Dirs { log: work.join("log"), work: work.clone() };
    let place = |dir: PathBuf, key, node| Place { home: resolved(&Disk, &dir), dir, key, node };
    let mut all = vec![place(work, "work_dir", node.get("work_dir"))];
    for (key, node) in hooks {
        if let Some(dir) = builder.in_line(key).and_then(|hook| hook.save_dir(&dirs)) {
            all.push(place(dir, "out_dir", Some(node.get("out_dir").unwrap_or(node))));
        }
    }
    all
}

/// What is wrong with the folders of a run: they cannot be made, or, for one that begins, something is in the way of
/// its saves.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn refused(builder: &RunnerBuilder, node: &Node, hooks: &[(Arc<str>, Node)]) -> Result<Vec<Diag>> {
    let mut found = unmakeable(builder, node, hooks);
    if found.is_empty() && !builder.resume {
        found.extend(in_the_way(builder, node, hooks)?);
    }
    Ok(found)
}

fn folders(all: &[Place<'_>]) -> Folders {
    let mut folders = Folders::of(all.first().map(|work| work.home.clone()).unwrap_or_default());
    all.iter().for_each(|place| folders.add(place.home.clone()));
    folders
}

/// An error about something in one of the folders, where the config names that.
fn placed(error: &Error, all: &[Place<'_>]) -> Diag {
    let path = match error {
        Error::Checkpoint { path, .. } | Error::Io { path, .. } => path.parent(),
        _ => None,
    };
    let place = all.iter().find(|place| path == Some(&place.home)).and_then(|place| place.node);
    let diag = Diag::error(error.to_string());
    place.map_or(diag.clone(), |node| diag.on(node))
}

/// The folders of a run that cannot be made, or written in, and what has the name of a file of the run in them.
fn unmakeable(builder: &RunnerBuilder, node: &Node, hooks: &[(Arc<str>, Node)]) -> Vec<Diag> {
    let refused = |place: Place<'_>| {
        let why = refusal(&place.dir)?;
        let dir = place.dir.display().to_string();
        let text = format!("`{}` cannot be the folder {}: {why}", place.key, dir.escape_debug());
        let diag = Diag::error(text).note("name another one, here or with `--work-dir`");
        Some(place.node.map_or(diag.clone(), |node| diag.on(node)))
    };
    let all = all(builder, node, hooks);
    let folders = folders(&all);
    let dump = builder.dump(folders.work());
    // Of a folder that cannot be, it is said why.
    let occupied = occupied(&Disk, &folders, dump.as_deref()).unwrap_or_default();
    let mut found: Vec<_> = occupied.iter().map(|error| placed(error, &all)).collect();
    found.extend(all.into_iter().filter_map(refused));
    found
}

/// What stands in the way of the checkpoints of a run that begins.
///
/// # Errors
/// When a folder cannot be read.
fn in_the_way(builder: &RunnerBuilder, node: &Node, hooks: &[(Arc<str>, Node)]) -> Result<Vec<Diag>> {
    let LoopTotals { epochs, iters, by_epoch } = builder.totals();
    let Some(names) = builder.line.as_ref().map(|line| line.save_names(by_epoch, epochs.max(iters))) else {
        return Ok(Vec::new());
    };
    let all = all(builder, node, hooks);
    if all.iter().any(|place| refusal(&place.dir).is_some()) {
        // Of a folder that cannot be, it was said why.
        return Ok(Vec::new());
    }
    let folders = folders(&all);
    let home = Owner::of(&Disk, &folders).ok().flatten().map(Owner::into_home);
    let found = obstacles(&Disk, &folders, &names, home.as_deref())?;
    Ok(found.iter().map(|error| placed(error, &all)).collect())
}

/// Why a folder cannot be made, or nothing be written in it; a file without a name is tried where it would stand.
fn refusal(dir: &Path) -> Option<String> {
    if dir.as_os_str().is_empty() {
        return Some("the name is empty".into());
    }
    if dir.as_os_str().as_encoded_bytes().contains(&0) {
        return Some("the name holds a NUL".into());
    }
    if dir.components().any(|part| part.as_os_str().len() > LONGEST_NAME) {
        return Some(format!("a part of it is longer than {LONGEST_NAME} bytes"));
    }
    if dir.to_str().is_some_and(|dir| dir.contains("://") || dir.starts_with('~')) {
        return Some("it would be a folder of that very name: give a local path, written out".into());
    }
    for at in dir.ancestors() {
        let here = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        let shown = here.display();
        match fs::metadata(here) {
            Ok(about) if about.is_dir() => {
                let tried = tempfile::tempfile_in(here);
                return tried.err().map(|error| format!("nothing can be written in {shown}: {error}"));
            }
            Ok(_) => return Some(format!("{shown} is a file")),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound if fs::symlink_metadata(here).is_ok() => {
                    return Some(format!("{shown} is a link that leads nowhere"));
                }
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                _ => return Some(format!("{shown}: {error}")),
            },
        }
    }
    None
}
