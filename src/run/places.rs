//! The folders that a config names, before anything is made: whether they can be, and what stands in them in the way of
//! the run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apart::resolved;
use super::resume::done;
use super::{LoopTotals, RunnerBuilder};
use crate::base::fs::Disk;
use crate::base::{Error, Result, durable};
use crate::checkpoint::{Folders, Home, Meta, Owner, occupied};
use crate::config::{Diag, Node};
use crate::hook::Dirs;

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

/// What is wrong with the folders of a run.
#[derive(Default)]
pub(super) struct Refused {
    /// They cannot be made, or, for a run that begins, something is in the way of its saves.
    pub errors: Vec<Diag>,
    /// They hold checkpoints of an earlier run. Whether it is gone on with or deleted is said when the run is started.
    pub inhabited: Option<Diag>,
}

/// Looks at the folders of a run that begins, or of one that goes on with a checkpoint of this content.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn refused(
    builder: &RunnerBuilder,
    node: &Node,
    hooks: &[(Arc<str>, Node)],
    resumed: Option<&Meta>,
) -> Result<Refused> {
    let errors = unmakeable(builder, node, hooks);
    if errors.is_empty() && (!builder.resume || resumed.is_some()) {
        return met(builder, node, hooks, resumed);
    }
    Ok(Refused { errors, inhabited: None })
}

fn folders(all: &[Place<'_>]) -> Folders {
    let mut folders = Folders::of(all.first().map(|work| work.home.clone()).unwrap_or_default());
    all.iter().for_each(|place| folders.add(place.home.clone()));
    folders
}

/// An error about something in one of the folders, where the config names that.
fn placed(error: &Error, all: &[Place<'_>]) -> Diag {
    let path = match error {
        Error::Checkpoint { path, .. } | Error::Io { path, .. } => Some(&**path),
        _ => None,
    };
    let path =
        path.filter(|path| all.iter().any(|place| place.home == *path)).or(path.and_then(Path::parent));
    on_folder(Diag::error(error.to_string()), path, all)
}

/// A complaint about one of the folders, where the config names that.
fn on_folder(diag: Diag, dir: Option<&Path>, all: &[Place<'_>]) -> Diag {
    let place = all.iter().find(|place| dir == Some(&place.home)).and_then(|place| place.node);
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

/// What a run meets in its folders.
///
/// # Errors
/// When a folder cannot be read.
fn met(
    builder: &RunnerBuilder,
    node: &Node,
    hooks: &[(Arc<str>, Node)],
    resumed: Option<&Meta>,
) -> Result<Refused> {
    let LoopTotals { epochs, iters, by_epoch } = builder.totals();
    let Some(mut names) = builder.line.as_ref().map(|line| line.save_names(by_epoch, epochs.max(iters)))
    else {
        return Ok(Refused::default());
    };
    let all = all(builder, node, hooks);
    if all.iter().any(|place| refusal(&place.dir).is_some()) {
        // Of a folder that cannot be, it was said why.
        return Ok(Refused::default());
    }
    let folders = folders(&all);
    let home = Home::of(&Disk, &folders).unwrap_or_default().name;
    names.done = resumed.map_or(0, |meta| done(meta, by_epoch));
    let run = resumed.map_or_else(|| "to come".into(), |meta| meta.run.clone());
    let owner = Owner { run, home, folder: None, seed: 0 };
    let met = owner.meets(&Disk, &folders, &names, resumed.is_none())?;
    match met.no_others() {
        Err(others) if !builder.overwrite => {
            let dir = met.others.first().map(|(dir, _)| &**dir);
            let told = on_folder(Diag::error(others.to_string()), dir, &all);
            Ok(match resumed {
                Some(_) => Refused { errors: vec![told], inhabited: None },
                None => Refused { errors: Vec::new(), inhabited: Some(told) },
            })
        }
        _ => {
            let errors = met.in_the_way.iter().map(|error| placed(error, &all)).collect();
            Ok(Refused { errors, inhabited: None })
        }
    }
}

/// Why a folder cannot be one of the run's.
fn refusal(dir: &Path) -> Option<String> {
    if dir.as_os_str().is_empty() { Some("the name is empty".into()) } else { durable::unusable(dir) }
}
