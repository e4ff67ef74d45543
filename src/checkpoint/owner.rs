//! Whose a work_dir is: `.shanty-run.json`, written before the first step of a run, so that no later start takes the
//! checkpoints of an earlier run for its own.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::POINTER;
use super::folders::Folders;
use super::obstacles::{Names, obstacles};
use super::owned::{Folder, Listed};
use crate::base::durable;
use crate::base::error::IoContext;
use crate::base::fs::FileSystem;
use crate::base::{Error, Result};

/// The file in a work_dir that says whose it is.
pub const OWNER_FILE: &str = ".shanty-run.json";

/// The file in a work_dir with the exit code of a training of many processes, and a newline. It is not there while the
/// training runs, nor after it was killed.
pub const EXIT_FILE: &str = ".shanty-exit-code";

/// The run that a work_dir belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its name: checkpoints carry it.
    pub run: String,
    /// What the work_dir is called in its checkpoints, whichever run began in it, also when it is moved.
    #[serde(default)]
    pub home: String,
    /// What tells the work_dir from its copies: [`FileSystem::identity`].
    #[serde(default)]
    pub folder: Option<String>,
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

    /// What the work_dir is called; an older file has the name of its run only.
    pub fn into_home(self) -> String {
        if self.home.is_empty() { self.run } else { self.home }
    }

    /// Takes the folders for this run. A run that begins finds no checkpoints there, a run that goes on none but its
    /// own; others are refused, or deleted with `overwrite`; those of another work_dir, in a folder elsewhere, are
    /// left. All is looked at before anything is changed.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn take(
        &self,
        fs: &dyn FileSystem,
        folders: &Folders,
        names: &Names,
        begins: bool,
        overwrite: bool,
    ) -> Result<()> {
        let Met { others, .. } = self.look(fs, folders, names, begins, overwrite)?;
        // First whose the folder is now: of a start that is cut here the rest belongs to nobody.
        if Self::of(fs, folders).ok().flatten().as_ref() != Some(self) {
            let text = serde_json::to_vec(self).map_err(|e| Error::Other(e.into()))?;
            durable::replace(fs, &folders.work().join(OWNER_FILE), &text)?;
        }
        let pointer = folders.work().join(POINTER);
        if begins && fs.entry(&pointer).at(&pointer)?.is_some() {
            fs.remove(&pointer).at(&pointer)?;
            fs.sync(folders.work()).at(folders.work())?;
        }
        others.iter().try_for_each(|(dir, name)| Folder::new(fs, dir).discard(name))
    }

    /// What a start meets in its folders, if it may begin, or go on, there. Nothing is changed.
    ///
    /// # Errors
    /// As [`Met::no_others`], unless it `overwrite`s, and [`Met::nothing_in_the_way`].
    pub fn look(
        &self,
        fs: &dyn FileSystem,
        folders: &Folders,
        names: &Names,
        begins: bool,
        overwrite: bool,
    ) -> Result<Met> {
        let met = self.meets(fs, folders, names, begins)?;
        if !overwrite {
            met.no_others()?;
        }
        met.nothing_in_the_way()?;
        Ok(met)
    }

    /// What a start meets in its folders. Nothing is changed.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn meets(&self, fs: &dyn FileSystem, folders: &Folders, names: &Names, begins: bool) -> Result<Met> {
        // A run that goes on leaves alone what others saved elsewhere meanwhile: it takes another name.
        let mut in_the_way = obstacles(fs, folders, names, begins.then_some(&*self.home))?;
        let mut others = Vec::new();
        for dir in folders.all() {
            // A run that begins may have been asked to save before its weights were there.
            let own = |listed: &Listed| listed.manifest.as_ref().map_or(!begins, |m| m.run == self.run);
            let at_home = |listed: &Listed| listed.manifest.as_ref().is_ok_and(|m| m.is_at_home(&self.home));
            let folder = Folder::new(fs, dir);
            let all = folder.checkpoints()?.into_iter().map(|listed| listed.known(fs));
            let all = all.collect::<Result<Vec<_>>>()?.into_iter();
            for listed in all.filter(|listed| !own(listed) && (dir == folders.work() || at_home(listed))) {
                in_the_way.extend(
                    folder.not_ours(&listed.name)?.into_iter().chain(may_delete(&listed, names).err()),
                );
                others.push((dir.to_owned(), listed.name));
            }
        }
        Ok(Met { others, in_the_way, begins })
    }
}

/// What a start meets in its folders.
pub struct Met {
    /// Checkpoints of other runs, each by its folder and name: a start that overwrites deletes them.
    pub others: Vec<(PathBuf, String)>,
    /// What stands in the way of the checkpoints to come, or cannot be deleted.
    pub in_the_way: Vec<Error>,
    begins: bool,
}

impl Met {
    /// # Errors
    /// [`Error::Config`] that names the checkpoints of others and the remedies.
    pub fn no_others(&self) -> Result<()> {
        let Some((dir, _)) = self.others.first() else { return Ok(()) };
        let names: Vec<_> = self.others.iter().map(|(_, name)| name.as_str()).collect();
        let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        let (other, go_on) =
            if self.begins { ("an earlier", "go on with it by `--resume`, ") } else { ("another", "") };
        Err(Error::config(format!(
            "{} holds checkpoints of {other} run ({shown}{more}): {go_on}delete them by `--overwrite`, or give this run \
             another `--work-dir` (in a program: `resume`, `overwrite`, `work_dir`)",
            dir.display()
        )))
    }

    /// # Errors
    /// [`Error::Config`] with all that this run did not write, and would meet.
    pub fn nothing_in_the_way(&self) -> Result<()> {
        let reasons: BTreeSet<_> = self.in_the_way.iter().map(ToString::to_string).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Error::config(format!(
            "nothing was changed, because this run would meet what it did not write: {}; or give this run another \
             `--work-dir`",
            reasons.into_iter().collect::<Vec<_>>().join("; ")
        )))
    }
}

/// What may be deleted on demand: a checkpoint under the name that it was saved with, and what is left of one that has
/// a name of this run. Whatever else looks like a checkpoint is somebody's.
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
