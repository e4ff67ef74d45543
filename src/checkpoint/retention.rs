//! Which checkpoints are given up. It is worked out from what is on the disk each time, so that a run that was killed
//! between a save and its deletions makes up for them at the next save.

use std::path::{Path, PathBuf};

use super::folders::Folders;
use super::manifest::Whose;
use super::owned::Folder;
use super::owner::Owner;
use crate::base::fs::FileSystem;
use crate::base::{Error, Result};

/// The series of checkpoints that nobody planned: a signal, a time limit, a failure. The next planned one replaces
/// them.
pub const EMERGENCY: &str = "emergency";

/// Of the run's checkpoints of a series in a folder, under the names that it gave them, those that are not newer than
/// the one just written, keeps the newest few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prune {
    /// The folder.
    pub dir: PathBuf,
    /// The series.
    pub series: String,
    /// How many are kept, the one just written included if it is of this series.
    pub keep: usize,
}

impl Prune {
    /// Deletes; what could not be deleted is tried again at the next save.
    pub(super) fn run(&self, fs: &dyn FileSystem, new: &Path, whose: Whose<'_>, iter: u64) -> Vec<Error> {
        let folder = Folder::new(fs, &self.dir);
        let mut failed = folder.clear_deleted();
        let mut all = match folder.checkpoints() {
            Ok(all) => all,
            Err(error) => {
                failed.push(error);
                return failed;
            }
        };
        let rank = |listed: &super::owned::Listed| {
            let manifest = listed.manifest.as_ref().ok()?;
            let ours = manifest.is_of(whose) && manifest.series == self.series && manifest.iter <= iter;
            // Another directory of the same iteration is older than the one just written.
            // A copy that somebody made is theirs.
            (ours && manifest.bears_its_name(&listed.path).is_ok())
                .then_some((manifest.iter, listed.path == new))
        };
        all.retain(|listed| rank(listed).is_some());
        all.sort_by_key(|listed| std::cmp::Reverse(rank(listed)));
        let surplus = all.iter().skip(self.keep).filter(|listed| listed.path != new);
        failed.extend(surplus.filter_map(|listed| folder.discard(&listed.name).err()));
        failed
    }
}

/// The run's checkpoints of numbered series other than these: nobody gives them up.
///
/// # Errors
/// When a folder cannot be read.
pub fn left_behind(
    fs: &dyn FileSystem,
    folders: &Folders,
    owner: &Owner,
    series: &[String],
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for dir in folders.all() {
        let whose = Whose { run: &owner.run, home: (dir != folders.work()).then_some(&*owner.home) };
        let left = Folder::new(fs, dir).checkpoints()?.into_iter().filter(|listed| {
            listed.manifest.as_ref().is_ok_and(|manifest| {
                let numbered = manifest.series.contains("{}") && !series.contains(&manifest.series);
                numbered && manifest.is_of(whose) && manifest.bears_its_name(&listed.path).is_ok()
            })
        });
        found.extend(left.map(|listed| listed.name));
    }
    Ok(found)
}
