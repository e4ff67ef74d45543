//! The files of a run that a server of MLflow keeps with it.

use std::fs;
use std::path::{Path, PathBuf};

use super::http::{Base, quoted};
use crate::base::durable::TEMPORARY;
use crate::base::error::IoContext;
use crate::base::fs::{FileKind, FileSystem};
use crate::base::number::count;
use crate::base::{Error, Result};
use crate::vis::VisCx;

/// Files that a run may have there.
const MOST: usize = 2000;
/// A larger file is not sent: it is held in memory.
const LARGEST: u64 = 1 << 30;
/// Folders in folders; a link is not followed.
const DEEPEST: usize = 4;

/// A file, and its name below the work_dir, with slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Artifact {
    pub file: PathBuf,
    pub name: String,
}

/// The files below the work_dir whose names end so, but for the logs of other runs: those of the folder itself first,
/// then this run's logs, then the newest checkpoint.
pub(super) fn found(cx: &VisCx<'_>, suffixes: &[String]) -> Vec<Artifact> {
    let mut all = Vec::new();
    if !suffixes.is_empty() {
        look(cx, cx.work, "", 0, &mut all);
    }
    all.retain(|artifact: &Artifact| suffixes.iter().any(|end| artifact.name.ends_with(end.as_str())));
    let own = |artifact: &Artifact| !cx.dir.parent().is_some_and(|log| artifact.file.starts_with(log));
    all.sort_by(|a, b| {
        let rank = |artifact: &Artifact| (artifact.name.contains('/'), own(artifact));
        rank(a).cmp(&rank(b)).then_with(|| b.name.cmp(&a.name))
    });
    all.truncate(MOST);
    all
}

fn look(cx: &VisCx<'_>, dir: &Path, above: &str, depth: usize, all: &mut Vec<Artifact>) {
    for name in cx.fs.list(dir).unwrap_or_default() {
        let path = dir.join(&name);
        let Some(name) = name.to_str().filter(|name| !name.starts_with(TEMPORARY)) else { continue };
        let told = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        match cx.fs.entry(&path).ok().flatten().map(|entry| entry.kind) {
            Some(FileKind::File) => all.push(Artifact { file: path, name: told }),
            Some(FileKind::Dir) if depth < DEEPEST && !is_of_another_run(cx, &path) => {
                look(cx, &path, &told, depth + 1, all);
            }
            _ => {}
        }
    }
}

fn is_of_another_run(cx: &VisCx<'_>, dir: &Path) -> bool {
    let (logs, vis_data) = (cx.dir.parent().unwrap_or(cx.dir), cx.dir.file_name().unwrap_or_default());
    dir != logs && has(cx.fs, &dir.join(vis_data))
}

fn has(fs: &dyn FileSystem, path: &Path) -> bool {
    fs.entry(path).is_ok_and(|entry| entry.is_some())
}

/// Puts files where the server keeps those of this run, `mlflow-artifacts:/1/0123/artifacts`.
///
/// # Errors
/// How many are not there, and why the first is not.
pub(super) fn send(base: &Base, uri: &str, artifacts: &[Artifact]) -> Result<()> {
    let Some(home) = uri.strip_prefix("mlflow-artifacts:/").filter(|home| !home.starts_with('/')) else {
        let text = format!(
            "it keeps artifacts at {uri}, where its own client alone puts files (`mlflow server` without \
             `--no-serve-artifacts` takes them): none was sent"
        );
        return Err(Error::Other(text.into()));
    };
    let place = |name: &str| format!("{home}/{name}").split('/').map(quoted).collect::<Vec<_>>().join("/");
    let mut failed: Vec<(&str, Error)> = Vec::new();
    for Artifact { file, name } in artifacts {
        let sent = bytes(file).and_then(|bytes| match base.put(&place(name), &bytes)? {
            (200..300, _) => Ok(()),
            (status, _) => Err(Error::Other(format!("it is answered with {status}").into())),
        });
        failed.extend(sent.err().map(|why| (name.as_str(), why)));
    }
    match failed.first() {
        None => Ok(()),
        Some((name, why)) => {
            let lost = count(failed.len() as u64, "file");
            Err(Error::Other(
                format!("{lost} of {} are not among its artifacts, first {name}: {why}", artifacts.len())
                    .into(),
            ))
        }
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    let size = fs::symlink_metadata(file).at(file)?.len();
    if size > LARGEST {
        return Err(Error::invalid(format!("it has {size} bytes, and {LARGEST} are the most")));
    }
    fs::read(file).at(file)
}
