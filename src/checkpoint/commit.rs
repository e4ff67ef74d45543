//! The commit protocol: a crash at any step leaves an intact checkpoint that loads.
//!
//! 1. Write every file into `.shanty-tmp-<name>-<mark>`, fsync each, the manifest last, fsync the directory.
//! 2. Rename it to `<name>` (an old one of that name steps aside as `.shanty-old-<name>-<mark>` first), fsync the
//!    parent.
//! 3. Move the pointer `last_checkpoint`, written the same way.
//! 4. Only now delete what retention gives up: rename to `.shanty-del-<name>-<mark>`, so that no half is taken for a
//!    whole, remove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::encode::Content;
use super::manifest::{FORMAT, FileSeal, MANIFEST_FILE, Manifest, Whose};
use super::owned::Folder;
use super::retention::{EMERGENCY, Prune};
use super::{Checkpoint, Home};
use crate::base::durable::{self, sibling};
use crate::base::error::{IoContext, Result};
use crate::base::fs::FileSystem;

/// The file in the work_dir that names the newest checkpoint: relative to the work_dir where it is inside, else
/// absolute.
pub const POINTER: &str = "last_checkpoint";

/// Where and how a checkpoint is committed.
pub struct Commit<'a> {
    /// The disk.
    pub fs: &'a dyn FileSystem,
    /// The folder that will hold the checkpoint's directory.
    pub out_dir: &'a Path,
    /// Name of the directory: `epoch_3`.
    pub name: &'a str,
    /// The work_dir that the run has; without a name for a checkpoint of no run.
    pub home: &'a Home,
    /// Checkpoints of one series replace each other.
    pub series: &'a str,
    /// Whether [`POINTER`] is moved to it.
    pub is_last: bool,
    /// What is given up afterwards.
    pub prune: &'a [Prune],
}

impl Commit<'_> {
    /// Writes the checkpoint and returns its directory, and what was left undone: the pointer, where something that is no
    /// file has its name, and what retention could not delete. Where something that is not of this run has the name of
    /// the checkpoint, it gets another one: `epoch_3-1`.
    ///
    /// # Errors
    /// With the path that failed. Then neither the pointer nor an old checkpoint was touched.
    pub fn run(&self, checkpoint: &Checkpoint) -> Result<(PathBuf, Vec<crate::base::Error>)> {
        let folder = Folder::new(self.fs, self.out_dir);
        let run = &checkpoint.meta.run;
        let whose = self.home.whose(run, self.out_dir);
        let name = folder.free_name(self.name, whose)?;
        let home = folder.home(&name)?;
        let tmp = sibling(&home, "tmp");
        folder.clear(&tmp)?;
        let series = self.series_of(&home, whose);
        // What a full disk took of it would keep the disk full.
        self.write_aside(checkpoint, &tmp, &name, series).inspect_err(|_| drop(folder.clear(&tmp)))?;
        folder.put_in_place(&name, whose)?;
        let mut undone = Vec::new();
        if self.is_last {
            let work_dir = &self.home.dir;
            let (pointer, target) = (work_dir.join(POINTER), home.strip_prefix(work_dir).unwrap_or(&home));
            match durable::in_the_way(self.fs, &pointer)? {
                // Without a pointer the newest checkpoint is found by its iterations.
                Some(refused) => undone.push(refused),
                None => durable::replace(self.fs, &pointer, target.to_string_lossy().as_bytes())?,
            }
        }
        let iter = checkpoint.meta.iter;
        let prune = |prune: &Prune| prune.run(self.fs, &home, self.home.whose(run, &prune.dir), iter);
        undone.extend(self.prune.iter().flat_map(prune));
        Ok((home.clone(), undone))
    }

    /// A planned checkpoint that is written anew because nobody planned it (a signal after a rollback) stays a planned
    /// one: the next save would give it up.
    fn series_of(&self, home: &Path, whose: Whose<'_>) -> String {
        let before = Manifest::read(self.fs, home).ok();
        let before = before.filter(|old| self.series == EMERGENCY && old.is_of(whose));
        before.map_or_else(|| self.series.to_owned(), |old| old.series)
    }

    fn write_aside(&self, checkpoint: &Checkpoint, tmp: &Path, name: &str, series: String) -> Result<()> {
        let contents = checkpoint.contents()?;
        self.fs.create_dir(tmp).at(tmp)?;
        let mut files = BTreeMap::new();
        for (file, content) in &contents {
            files.insert((*file).to_owned(), self.write_file(&tmp.join(file), content)?);
        }
        let manifest = Manifest {
            format: FORMAT,
            run: checkpoint.meta.run.clone(),
            home: self.home.name.clone(),
            work_dir: self.home.way_from(self.out_dir),
            name: name.to_owned(),
            series,
            iter: checkpoint.meta.iter,
            resumable: checkpoint.optimizer.is_some(),
            files,
        };
        self.write_file(&tmp.join(MANIFEST_FILE), &Content::Text(manifest.text()?))?;
        self.fs.sync(tmp).at(tmp)
    }

    /// Writes a file, durably; what the manifest says of it.
    fn write_file(&self, path: &Path, content: &Content<'_>) -> Result<FileSeal> {
        let mut seal = None;
        let mut fill = |out: &mut dyn io::Write| {
            seal = Some(content.write_to(out)?);
            Ok(())
        };
        self.fs.write_with(path, content.len(), &mut fill).at(path)?;
        self.fs.sync(path).at(path)?;
        seal.ok_or_else(|| io::Error::other("the disk took no bytes")).at(path)
    }
}

/// Clears away what a run that died in the middle of a commit left in `dir`. A checkpoint that had stepped aside
/// comes back if its successor did not arrive; with `home`, only one of that work_dir. Gives back what had to stay.
///
/// # Errors
/// When the folder cannot be read.
pub fn recover(fs: &dyn FileSystem, dir: &Path, home: Option<&str>) -> Result<Vec<crate::base::Error>> {
    Folder::new(fs, dir).sweep(home)
}
