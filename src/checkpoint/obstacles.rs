//! What stands in the way of what a run is going to write: better known before the first step than when it is due.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::folders::Folders;
use super::home::saved_for;
use super::lock::LOCK_FILE;
use super::manifest::MANIFEST_FILE;
use super::owned::Folder;
use super::owner::{OWNER_FILE, Owner};
use super::{MODEL_FILE, POINTER};
use crate::base::durable::{in_the_way, read_begin, read_plain, sibling, stands_for};
use crate::base::error::IoContext;
use crate::base::fs::FileSystem;
use crate::base::{Error, Result};

/// The names that a run may give to its checkpoints.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Each with `{}` for a number: `epoch_{}`.
    pub templates: Vec<String>,
    /// Of saves that nobody planned.
    pub unplanned: Vec<String>,
    /// The number to which it has come.
    pub done: u64,
    /// The largest number that it will come to.
    pub most: u64,
}

impl Names {
    /// Whether it is one of them.
    pub fn include(&self, name: &str) -> bool {
        self.templates
            .iter()
            .chain(&self.unplanned)
            .any(|own| number(own, name).is_some_and(|n| n <= self.most))
    }

    /// Whether a run that goes on is going to give it.
    fn are_to_have(&self, name: &str) -> bool {
        let to_come = |n: u64| self.done < n && n <= self.most;
        self.templates.iter().any(|own| number(own, name).is_some_and(to_come))
    }
}

/// The number in a name that a template gives.
fn number(template: &str, name: &str) -> Option<u64> {
    let (before, after) = template.split_once("{}")?;
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    digits.parse().ok().filter(|n: &u64| n.to_string() == digits)
}

/// Whether two templates with `{}` for a number can give the same name.
pub fn may_meet(a: &str, b: &str) -> bool {
    let (Some((a, after_a)), Some((b, after_b))) = (a.split_once("{}"), b.split_once("{}")) else {
        return a == b;
    };
    // What one of them has more must be digits of the other's number.
    let digits = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let before = a.strip_prefix(b).or(b.strip_prefix(a));
    let after = after_a.strip_suffix(after_b).or(after_b.strip_suffix(after_a));
    before.is_some_and(digits) && after.is_some_and(digits)
}

/// All that has, or occupies, the name of a checkpoint that this run is yet to save, and is not shanty's to move;
/// outside of the work_dir also what was saved for another one than `home`, if that is given. Nothing is changed.
///
/// # Errors
/// When a folder cannot be read.
pub fn obstacles(
    fs: &dyn FileSystem,
    folders: &Folders,
    names: &Names,
    home: Option<&str>,
) -> Result<Vec<Error>> {
    let mut found = Vec::new();
    for dir in folders.all() {
        if fs.entry(dir).at(dir)?.is_none() {
            continue;
        }
        let folder = Folder::new(fs, dir);
        let Some(home) = home else {
            found.extend(in_front(folder, names)?);
            continue;
        };
        let mut occupied = BTreeSet::new();
        for entry in fs.list(dir).at(dir)? {
            let Some(name) = entry.to_str() else { continue };
            occupied.insert(stands_for(name).map_or(name, |(_, name)| name).to_owned());
        }
        for name in occupied.iter().filter(|name| names.include(name)) {
            found.extend(folder.not_ours(name)?);
        }
        if dir != folders.work() {
            for listed in folder.checkpoints()?.into_iter().filter(|listed| names.include(&listed.name)) {
                let listed = listed.known(fs)?;
                if !listed.manifest.is_ok_and(|manifest| manifest.is_at_home(home)) {
                    let why = "nothing says that a run of this work_dir saved it: move it away, or take another `out_dir`";
                    found.push(Error::checkpoint(listed.path, why));
                }
            }
        }
    }
    Ok(found)
}

/// What has the name of a checkpoint that a run which goes on is yet to save, and is none: a damaged one, or one that is
/// another run's, gives the save another name, and the run goes on.
fn in_front(folder: Folder<'_>, names: &Names) -> Result<Vec<Error>> {
    let checkpoints: BTreeSet<_> = folder.checkpoints()?.into_iter().map(|listed| listed.name).collect();
    let mut found = Vec::new();
    for entry in folder.fs.list(folder.dir).at(folder.dir)? {
        let Some(name) = entry.to_str() else { continue };
        if names.are_to_have(name) && !checkpoints.contains(name) {
            let here = folder.dir.join(name);
            let own = |error: &Error| matches!(error, Error::Checkpoint { path, .. } if **path == here);
            found.extend(folder.not_ours(name)?.into_iter().filter(own));
        }
    }
    Ok(found)
}

/// All that keeps the folders from being a run's: one that is another's, and what has the name of a file of the run and
/// is no file. `dump`: of the config's dump. Nothing is changed.
///
/// # Errors
/// When it cannot be told.
pub fn occupied(fs: &dyn FileSystem, folders: &Folders, dump: Option<&Path>) -> Result<Vec<Error>> {
    let work = folders.work();
    let files = [POINTER, OWNER_FILE].map(|name| work.join(name));
    let aside = files.iter().map(PathBuf::as_path).chain(dump).map(|file| sibling(file, "tmp"));
    let mut found = anothers(fs, folders)?;
    let locks = folders.all().map(|dir| dir.join(LOCK_FILE));
    for path in files.iter().cloned().chain(locks) {
        let refused = match in_the_way(fs, &path)? {
            None if fs.entry(&path).at(&path)?.is_some() => not_written_by_a_run(fs, folders, &path)?,
            refused => refused,
        };
        found.extend(refused);
    }
    found.extend(aside.filter_map(|path| Folder::new(fs, work).clearable(&path).err()));
    Ok(found)
}

/// A plain file with the name of one of a run that no run wrote.
fn not_written_by_a_run(fs: &dyn FileSystem, folders: &Folders, path: &Path) -> Result<Option<Error>> {
    const WHY: &str = "no run of shanty wrote it, and it has the name of a file of the run: move it away";
    let is_own = match path.file_name().and_then(OsStr::to_str) {
        Some(OWNER_FILE) => return Ok(Owner::of(fs, folders).err()),
        // The number of a process, or what a power failure left of it.
        Some(LOCK_FILE) => {
            let holder = read_begin(fs, path, 64)?;
            holder.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace() || *byte == 0)
        }
        _ => {
            let owner = path.with_file_name(OWNER_FILE);
            let named = || {
                let text = String::from_utf8(read_plain(fs, path, 1 << 16).ok()?).ok()?;
                Some(folders.resolve(fs, text.trim()).ok()?.join(MANIFEST_FILE))
            };
            fs.entry(&owner).at(&owner)?.is_some()
                || named().is_some_and(|manifest| fs.entry(&manifest).is_ok_and(|entry| entry.is_some()))
        }
    };
    Ok((!is_own).then(|| refused(path, WHY)))
}

/// Folders that belong to another run: they lie in a checkpoint, are its work_dir, or hold what it saves.
fn anothers(fs: &dyn FileSystem, folders: &Folders) -> Result<Vec<Error>> {
    let mut found = Vec::new();
    let work = folders.work();
    let is_there = |path: PathBuf| Ok::<_, Error>(fs.entry(&path).at(&path)?.is_some());
    for dir in folders.all() {
        if let Some(checkpoint) = checkpoint_around(fs, dir) {
            found.push(refused(
                dir,
                &format!("{} is a checkpoint: name another folder", checkpoint.display()),
            ));
        }
        if dir != work && is_there(dir.join(OWNER_FILE))? {
            found.push(refused(dir, "it is the work_dir of another run: take another `out_dir`"));
        }
    }
    if !is_there(work.join(OWNER_FILE))? {
        let all = Folder::new(fs, work).checkpoints()?;
        let whose = all.iter().map(|listed| saved_for(fs, listed)).find_map(Result::transpose).transpose()?;
        let whose = whose.filter(|home| home != work);
        found.extend(whose.map(|home| {
            let home = home.display();
            refused(work, &format!("the run in {home} saves its checkpoints here: take another `--work-dir`"))
        }));
    }
    Ok(found)
}

/// The checkpoint that a path is, or lies in.
pub(super) fn checkpoint_around<'a>(fs: &dyn FileSystem, path: &'a Path) -> Option<&'a Path> {
    let has = |dir: &Path, file: &str| fs.entry(&dir.join(file)).is_ok_and(|entry| entry.is_some());
    path.ancestors().find(|dir| has(dir, MANIFEST_FILE) && has(dir, MODEL_FILE))
}

fn refused(path: &Path, why: &str) -> Error {
    Error::Io { path: path.to_owned(), source: io::Error::other(why) }
}

#[cfg(test)]
mod tests {
    use super::may_meet;

    #[test]
    fn templates_meet_where_a_number_can_be_the_rest_of_the_other() {
        for (a, b, meet) in [
            ("epoch_{}", "epoch_{}", true),
            ("epoch_{}", "epoch_1{}", true),
            ("{}", "1{}0", true),
            ("e{}.ckpt", "e{}", false),
            ("epoch_{}", "iter_{}", false),
            ("epoch_{}", "best_loss_epoch_{}", false),
            ("best_{}", "best_loss_{}", false),
            ("last", "last", true),
        ] {
            assert_eq!((may_meet(a, b), may_meet(b, a)), (meet, meet), "{a} {b}");
        }
    }
}
