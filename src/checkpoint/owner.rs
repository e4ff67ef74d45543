//! Whose a work_dir is: `.shanty-run.json`, written before the first step of a run, so that no later start takes the
//! checkpoints of an earlier run for its own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::POINTER;
use super::obstacles::{Names, obstacles};
use super::owned::{Folder, Folders, Listed};
use crate::base::durable;
use crate::base::error::IoContext;
use crate::base::fs::{FileKind, FileSystem};
use crate::base::{Error, Result};

const OWNER_FILE: &str = ".shanty-run.json";

/// The run that a work_dir belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its name: checkpoints carry it.
    pub run: String,
    /// The seed in force.
    pub seed: u64,
}

impl Owner {
    /// Whose a work_dir is; `None` if no run has begun there.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn of(fs: &dyn FileSystem, folders: &Folders) -> Result<Option<Self>> {
        let file = folders.work().join(OWNER_FILE);
        if fs.entry(&file).at(&file)?.is_none() {
            return Ok(None);
        }
        let text = durable::read_plain(fs, &file, 1 << 16)?;
        let owner = serde_json::from_slice(&text);
        owner.map(Some).map_err(|e| Error::checkpoint(&file, format!("it cannot be read ({e}): remove it")))
    }

    /// Takes the folders for this run. A run that begins finds no checkpoints there, a run that goes on none but its own;
    /// others are refused, or deleted with `overwrite`. All is looked at before anything is changed.
    ///
    /// # Errors
    /// [`Error::Config`] that names the others and the remedies, or what stands in the way of the checkpoints to come.
    pub fn take(
        &self,
        fs: &dyn FileSystem,
        folders: &Folders,
        names: &Names,
        begins: bool,
        overwrite: bool,
    ) -> Result<()> {
        let pointer = folders.work().join(POINTER);
        let pointer_is = fs.entry(&pointer).at(&pointer)?.map(|entry| entry.kind);
        if pointer_is == Some(FileKind::Dir) {
            return Err(Error::checkpoint(
                &pointer,
                "it is a directory, and the name of a file of the run: move it away",
            ));
        }
        let mut others = Vec::new();
        for dir in folders.all() {
            let own =
                |listed: &Listed| !begins && listed.manifest.as_ref().map_or(true, |m| m.run == self.run);
            let all = Folder::new(fs, dir).checkpoints()?.into_iter();
            others.extend(all.filter(|listed| !own(listed)).map(|listed| (dir, listed)));
        }
        if let (Some((dir, _)), false) = (others.first(), overwrite) {
            let names: Vec<_> = others.iter().map(|(_, listed)| listed.name.as_str()).collect();
            let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
            let (other, go_on) =
                if begins { ("an earlier", "go on with it by `--resume`, ") } else { ("another", "") };
            return Err(Error::config(format!(
                "{} holds checkpoints of {other} run ({shown}{more}): {go_on}delete them by `--overwrite`, or give this run \
                 another `--work-dir` (in a program: `resume`, `overwrite`, `work_dir`)",
                dir.display()
            )));
        }
        let mut in_the_way = if begins { obstacles(fs, folders, names)? } else { Vec::new() };
        let kept = others.iter().flat_map(|(dir, listed)| {
            let not_ours = Folder::new(fs, dir).not_ours(&listed.name);
            not_ours.into_iter().chain(may_delete(listed, names).err())
        });
        in_the_way.extend(kept);
        let reasons: BTreeSet<_> = in_the_way.iter().map(ToString::to_string).collect();
        if !reasons.is_empty() {
            return Err(Error::config(format!(
                "nothing was changed, because this run would meet what it did not write: {}; or give this run another \
                 `--work-dir`",
                reasons.into_iter().collect::<Vec<_>>().join("; ")
            )));
        }
        // First whose the folder is now: of a start that is cut here the rest belongs to nobody.
        if Self::of(fs, folders).ok().flatten().as_ref() != Some(self) {
            let text = serde_json::to_vec(self).map_err(|e| Error::Other(e.into()))?;
            durable::replace(fs, &folders.work().join(OWNER_FILE), &text)?;
        }
        if begins && pointer_is.is_some() {
            fs.remove(&pointer).at(&pointer)?;
            fs.sync(folders.work()).at(folders.work())?;
        }
        others.iter().try_for_each(|(dir, listed)| Folder::new(fs, dir).discard(&listed.name))
    }
}

/// What may be deleted on demand: a checkpoint under the name that it was saved with, and what is left of one that has a
/// name of this run. Whatever else looks like a checkpoint is somebody's.
fn may_delete(listed: &Listed, names: &Names) -> Result<()> {
    match &listed.manifest {
        Ok(manifest) => manifest.bears_its_name(&listed.path),
        Err(_) if names.include(&listed.name) => Ok(()),
        Err(_) => {
            let why = "nothing in it says that shanty saved it under this name: move it away";
            Err(Error::checkpoint(&listed.path, why))
        }
    }
}
