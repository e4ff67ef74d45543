//! The folders that a config names, before anything is made: whether they can be, and what stands in them in the way of
//! the run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RunnerBuilder;
use crate::base::Result;
use crate::base::fs::{Disk, FileSystem};
use crate::checkpoint::{Folders, obstacles};
use crate::config::{Diag, Node};
use crate::hook::Dirs;

/// No file system takes a longer name.
const LONGEST_NAME: usize = 255;

/// A folder, and where the config says so.
struct Place<'a> {
    dir: PathBuf,
    key: &'static str,
    node: Option<&'a Node>,
}

fn all<'a>(builder: &RunnerBuilder, node: &'a Node, hooks: &'a [(Arc<str>, Node)]) -> Vec<Place<'a>> {
    let work = builder.home();
    let dirs = Dirs { log: work.join("log"), work: work.clone() };
    let mut all = vec![Place { dir: work, key: "work_dir", node: node.get("work_dir") }];
    for (key, node) in hooks {
        if let Some(dir) = builder.in_line(key).and_then(|hook| hook.save_dir(&dirs)) {
            all.push(Place { dir, key: "out_dir", node: Some(node.get("out_dir").unwrap_or(node)) });
        }
    }
    all
}

/// What is wrong with the folders of a run: they cannot be made, or, for one that begins, something is in the way of its saves.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn refused(builder: &RunnerBuilder, node: &Node, hooks: &[(Arc<str>, Node)]) -> Result<Vec<Diag>> {
    let mut found = unmakeable(builder, node, hooks);
    if !builder.resume {
        found.extend(in_the_way(builder, node, hooks)?);
    }
    Ok(found)
}

/// The folders of a run that cannot be made, or written in.
fn unmakeable(builder: &RunnerBuilder, node: &Node, hooks: &[(Arc<str>, Node)]) -> Vec<Diag> {
    let refused = |place: Place<'_>| {
        let why = refusal(&place.dir)?;
        let dir = place.dir.display().to_string();
        let text = format!("`{}` cannot be the folder {}: {why}", place.key, dir.escape_debug());
        let diag = Diag::error(text).note("name another one, here or with `--work-dir`");
        Some(place.node.map_or(diag.clone(), |node| diag.on(node)))
    };
    all(builder, node, hooks).into_iter().filter_map(refused).collect()
}

/// What stands in the way of the checkpoints of a run that begins.
///
/// # Errors
/// When a folder cannot be read.
fn in_the_way(builder: &RunnerBuilder, node: &Node, hooks: &[(Arc<str>, Node)]) -> Result<Vec<Diag>> {
    let ((epochs, iters), _, by_epoch) = builder.totals();
    let Some(names) = builder.line.as_ref().map(|line| line.save_names(by_epoch, epochs.max(iters))) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for place in all(builder, node, hooks) {
        let Ok(home) = Disk.canonical(&place.dir) else { continue };
        for error in obstacles(&Disk, &Folders::of(home), &names)? {
            let diag = Diag::error(error.to_string());
            found.push(place.node.map_or(diag.clone(), |node| diag.on(node)));
        }
    }
    Ok(found)
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
