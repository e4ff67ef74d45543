//! Which paths are a run's own. All that deletes, replaces or sweeps away checkpoints is here, and it touches nothing
//! else: names are single path components below a folder of the run, links are not followed, and a directory goes only
//! if there is nothing in it but the files of a checkpoint.

use std::path::{Path, PathBuf};

use super::content::{HOOKS_FILE, OPTIMIZER_FILE, ROLLBACK_FILE, STATE_FILE};
use super::folders::check_name;
use super::lock::LOCK_FILE;
use super::manifest::{MANIFEST_FILE, Manifest, Whose};
use super::owner::{EXIT_FILE, OWNER_FILE};
use super::tensors::MODEL_FILE;
use crate::base::durable::{TEMPORARY, sibling, stands_for};
use crate::base::error::IoContext;
use crate::base::fs::{FileKind, FileSystem};
use crate::base::{Error, Result};

/// The files of a checkpoint but the manifest, which is written last and deleted last.
const PARTS: [&str; 5] = [MODEL_FILE, OPTIMIZER_FILE, HOOKS_FILE, ROLLBACK_FILE, STATE_FILE];

/// How many other names are tried for a checkpoint whose own is taken.
const OTHER_NAMES: usize = 99;

/// One folder of a run, in which only what is its own can be changed.
#[derive(Clone, Copy)]
pub(super) struct Folder<'a> {
    pub fs: &'a dyn FileSystem,
    pub dir: &'a Path,
}

/// A directory that is a checkpoint, or looks like one.
pub(super) struct Listed {
    pub name: String,
    pub path: PathBuf,
    pub manifest: Result<Manifest>,
}

impl Listed {
    /// The same, its manifest read once more where it could not be read.
    ///
    /// # Errors
    /// When the disk refuses: that says nothing of whose the checkpoint is.
    pub fn known(self, fs: &dyn FileSystem) -> Result<Self> {
        let manifest = match self.manifest {
            Err(why) => Manifest::look(fs, &self.path)?.ok_or(why),
            known => known,
        };
        Ok(Self { manifest, ..self })
    }
}

impl<'a> Folder<'a> {
    pub fn new(fs: &'a dyn FileSystem, dir: &'a Path) -> Self {
        Self { fs, dir }
    }

    /// The place of a checkpoint.
    pub fn home(&self, name: &str) -> Result<PathBuf> {
        check_name(name).map_err(Error::invalid)?;
        Ok(self.dir.join(name))
    }

    /// What the folder holds. A directory without a readable manifest counts if it has a file that only checkpoints
    /// have.
    pub fn checkpoints(&self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        if self.kind(self.dir)?.is_none() {
            return Ok(all);
        }
        for name in self.fs.list(self.dir).at(self.dir)? {
            let Some(name) = name.to_str().filter(|name| check_name(name).is_ok()) else { continue };
            let path = self.dir.join(name);
            let has = |file: &str| self.fs.entry(&path.join(file)).is_ok_and(|entry| entry.is_some());
            if self.kind(&path)? != Some(FileKind::Dir)
                || ![MANIFEST_FILE, STATE_FILE, OPTIMIZER_FILE].iter().any(|f| has(f))
            {
                continue;
            }
            let manifest = Manifest::read(self.fs, &path);
            if manifest.is_ok() || has(STATE_FILE) || has(MODEL_FILE) {
                all.push(Listed { name: name.to_owned(), path, manifest });
            }
        }
        Ok(all)
    }

    /// What has this name, for good or for a while, and may not be moved or deleted.
    ///
    /// # Errors
    /// When the disk refuses: that says nothing of whose it is.
    pub fn not_ours(&self, name: &str) -> Result<Vec<Error>> {
        let home = self.home(name)?;
        let mut found = Vec::new();
        for what in [None, Some("tmp"), Some("old"), Some("del")] {
            let path = what.map_or_else(|| home.clone(), |what| sibling(&home, what));
            let looked = match (self.kind(&path)?, what) {
                (None, _) => Ok(()),
                (_, Some("old")) => self.put_aside(&path, name),
                (_, Some(_)) => self.clearable(&path),
                (_, None) => self.only_a_checkpoint(&path),
            };
            match looked {
                Err(error @ Error::Checkpoint { .. }) => found.push(error),
                looked => looked?,
            }
        }
        Ok(found)
    }

    /// The name under which a checkpoint can be saved: another one if something that is not this run's has the one it
    /// was to have. The state of a run is worth more than a name.
    pub fn free_name(&self, name: &str, whose: Whose<'_>) -> Result<String> {
        let free = |name: &str| {
            if let Some(error) = self.not_ours(name)?.into_iter().next() {
                return Err(error);
            }
            self.may_replace(&self.home(name)?, whose)?;
            Ok(name.to_owned())
        };
        let others = (1..=OTHER_NAMES).map(|n| format!("{name}-{n}"));
        match free(name) {
            Err(taken @ Error::Checkpoint { .. }) => {
                others.map(|other| free(&other)).find_map(Result::ok).ok_or(taken)
            }
            other => other,
        }
    }

    /// A checkpoint of the same run that was saved here may be replaced, and so may a damaged one.
    fn may_replace(&self, home: &Path, whose: Whose<'_>) -> Result<()> {
        match Manifest::look(self.fs, home)? {
            Some(manifest) if !manifest.is_of(whose) => {
                Err(Error::checkpoint(home, "it is of another run: move it away"))
            }
            Some(manifest) => manifest.bears_its_name(home),
            None => Ok(()),
        }
    }

    /// Moves the finished `tmp` of a checkpoint to its place. What stands there steps aside first, if it is a checkpoint
    /// of the same run or a damaged one.
    pub fn put_in_place(&self, name: &str, whose: Whose<'_>) -> Result<()> {
        let home = self.home(name)?;
        let tmp = sibling(&home, "tmp");
        let mut aside = None;
        if self.kind(&home)?.is_some() {
            self.only_a_checkpoint(&home)?;
            self.may_replace(&home, whose)?;
            if Manifest::look(self.fs, &home)?.is_some() {
                let old = sibling(&home, "old");
                self.clear(&old)?;
                self.fs.rename(&home, &old).at(&home)?;
                aside = Some(old);
            } else {
                // A damaged one need not come back, and could not say that it is this run's.
                self.delete(&home)?;
            }
        }
        self.fs.rename(&tmp, &home).at(&home)?;
        self.fs.sync(self.dir).at(self.dir)?;
        aside.map_or(Ok(()), |old| self.give_up(&old, &home))
    }

    /// Deletes what stepped aside, under a name that nothing comes back from.
    fn give_up(&self, old: &Path, home: &Path) -> Result<()> {
        let gone = sibling(home, "del");
        self.clear(&gone)?;
        self.fs.rename(old, &gone).at(old)?;
        self.clear(&gone)
    }

    /// Deletes a checkpoint; first it is renamed, so that no half of it is taken for a whole. A damaged one is taken for
    /// none.
    pub fn discard(&self, name: &str) -> Result<()> {
        let home = self.home(name)?;
        self.only_a_checkpoint(&home)?;
        match Manifest::look(self.fs, &home)? {
            Some(_) => self.give_up(&home, &home),
            None => self.delete(&home),
        }
    }

    /// Removes what an earlier deletion could only rename.
    pub fn clear_deleted(&self) -> Vec<Error> {
        let names = self.fs.list(self.dir).unwrap_or_default().into_iter();
        let left =
            names.filter(|name| name.to_str().and_then(stands_for).is_some_and(|(what, _)| what == "del"));
        left.filter_map(|name| self.clear(&self.dir.join(name)).err()).collect()
    }

    /// Clears away what saves that did not end left here. A checkpoint that had stepped aside comes back if its
    /// successor did not arrive; with `home`, only one of this work_dir. Gives back what could not be done.
    pub fn sweep(&self, home: Option<&str>) -> Result<Vec<Error>> {
        let mut failed = Vec::new();
        if self.kind(self.dir)?.is_none() {
            return Ok(failed);
        }
        for name in self.fs.list(self.dir).at(self.dir)? {
            let path = self.dir.join(&name);
            let Some(name) = name.to_str().filter(|name| name.starts_with(TEMPORARY)) else { continue };
            let done = match stands_for(name) {
                Some(("tmp" | "del", _)) => self.clear(&path),
                Some(("old", name)) if check_name(name).is_ok() => {
                    let manifest = Manifest::read(self.fs, &path);
                    let others = home.is_some_and(|home| manifest.is_ok_and(|m| !m.is_at_home(home)));
                    if others { Ok(()) } else { self.bring_back(&path, name) }
                }
                None if ![LOCK_FILE, OWNER_FILE, EXIT_FILE].contains(&name) => {
                    let why =
                        "its name is like those that shanty gives for a while, but shanty did not give it";
                    Err(Error::checkpoint(&path, why))
                }
                _ => Ok(()),
            };
            failed.extend(done.err());
        }
        self.fs.sync(self.dir).at(self.dir)?;
        Ok(failed)
    }

    fn bring_back(&self, old: &Path, name: &str) -> Result<()> {
        let home = self.home(name)?;
        self.put_aside(old, name)?;
        if self.kind(&home)?.is_some() {
            return self.give_up(old, &home);
        }
        self.fs.rename(old, &home).at(&home)
    }

    /// Refuses what has a name that shanty gives to a checkpoint which it puts aside, and is no checkpoint `name`.
    fn put_aside(&self, aside: &Path, name: &str) -> Result<()> {
        self.only_a_checkpoint(aside)?;
        let manifest = Manifest::look(self.fs, aside)?.ok_or_else(|| {
            Error::checkpoint(aside, "nothing in it says that shanty put it aside: move it away")
        })?;
        manifest.is_called(name.as_ref(), aside)
    }

    /// Whether something with a temporary name may go: what a save began, and a checkpoint that is being deleted. Of that
    /// the manifest goes last.
    pub fn clearable(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match (self.kind(path)?, stands_for(&name)) {
            (None, _) | (Some(FileKind::File), Some(("tmp", _))) => Ok(()),
            (Some(FileKind::Dir), Some((what, name))) if what != "tmp" && !self.is_empty(path)? => {
                self.put_aside(path, name)
            }
            _ => self.only_a_checkpoint(path),
        }
    }

    /// Removes something with a temporary name.
    pub fn clear(&self, path: &Path) -> Result<()> {
        self.clearable(path)?;
        match self.kind(path)? {
            Some(FileKind::Dir) => {
                // Its new name must be there before its files go, or half of it comes back under the old one.
                self.fs.sync(self.dir).at(self.dir)?;
                self.delete(path)
            }
            _ => self.fs.remove(path).at(path),
        }
    }

    /// Deletes the files of a checkpoint, and its directory. The manifest goes last: it says what is shanty's.
    fn delete(&self, home: &Path) -> Result<()> {
        for part in PARTS.map(|part| home.join(part)) {
            if self.kind(&part)?.is_some() {
                self.fs.remove(&part).at(&part)?;
            }
        }
        self.fs.sync(home).at(home)?;
        let manifest = home.join(MANIFEST_FILE);
        self.fs.remove(&manifest).at(&manifest)?;
        if self.is_empty(home)? { self.fs.remove(home).at(home) } else { self.only_a_checkpoint(home) }
    }

    /// Refuses what is no directory, or holds something that shanty did not write: the manifest lists what it did. What
    /// has none yet, or a damaged one, may hold what a checkpoint consists of.
    fn only_a_checkpoint(&self, home: &Path) -> Result<()> {
        if self.kind(home)? != Some(FileKind::Dir) {
            return Err(Error::checkpoint(home, "it is no directory that shanty wrote: move it away"));
        }
        let manifest = Manifest::look(self.fs, home)?;
        for name in self.fs.list(home).at(home)? {
            let wrote = |name: &str| {
                name == MANIFEST_FILE
                    || PARTS.contains(&name)
                        && manifest.as_ref().is_none_or(|manifest| manifest.files.contains_key(name))
            };
            let is_file = self.kind(&home.join(&name))? == Some(FileKind::File);
            if !is_file || !name.to_str().is_some_and(wrote) {
                let name = name.to_string_lossy().escape_debug().to_string();
                return Err(Error::checkpoint(
                    home,
                    format!("it holds `{name}`, which shanty did not write: move it away"),
                ));
            }
        }
        Ok(())
    }

    fn is_empty(&self, dir: &Path) -> Result<bool> {
        Ok(self.fs.list(dir).at(dir)?.is_empty())
    }

    fn kind(&self, path: &Path) -> Result<Option<FileKind>> {
        Ok(self.fs.entry(path).at(path)?.map(|entry| entry.kind))
    }
}
