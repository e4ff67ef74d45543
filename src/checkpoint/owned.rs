//! Which paths are a run's own. All that deletes, replaces or sweeps away checkpoints is here, and it touches nothing
//! else: names are single path components below a folder of the run, links are not followed, and a directory goes only
//! if there is nothing in it but the files of a checkpoint.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::MODEL_FILE;
use super::content::{HOOKS_FILE, OPTIMIZER_FILE, ROLLBACK_FILE, STATE_FILE};
use super::manifest::{MANIFEST_FILE, Manifest, Whose};
use crate::base::durable::{TEMPORARY, sibling};
use crate::base::error::IoContext;
use crate::base::fs::{FileKind, FileSystem};
use crate::base::{Error, Result};

/// Names of files: no file system takes more than 255 bytes, and a temporary name is a little longer.
const LONGEST_NAME: usize = 200;

/// Marks of direction, joiners and spaces without width: two names that look alike would be two checkpoints.
const UNSEEN: fn(char) -> bool = |c| matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');

/// How many other names are tried for a checkpoint whose own is taken.
const OTHER_NAMES: usize = 99;

/// Whether a checkpoint may have this name: one path component that is not hidden and can be printed.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("`{}` is no name for a checkpoint: {why}", name.escape_debug()));
    if name.is_empty() {
        return wrong("it is empty");
    }
    if name.len() > LONGEST_NAME {
        return wrong("it is too long");
    }
    if name.chars().any(|c| c == '/' || c == '\\' || c.is_control()) {
        return wrong("it holds a slash or a control character");
    }
    if name.contains(UNSEEN) {
        return wrong("it holds a character that is not seen or turns the text around");
    }
    if name.starts_with('.') {
        return wrong("it begins with a dot");
    }
    Ok(())
}

/// The folders of a run, by their canonical paths: the work_dir, and those that its hooks save to.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    work: PathBuf,
    others: Vec<PathBuf>,
}

impl Folders {
    /// A run with one folder.
    pub fn of(work: impl Into<PathBuf>) -> Self {
        Self { work: work.into(), others: Vec::new() }
    }

    /// Adds a folder.
    pub fn add(&mut self, dir: PathBuf) {
        if !self.all().any(|own| own == dir) {
            self.others.push(dir);
        }
    }

    /// The work_dir.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// All of them, the work_dir first.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.work.as_path()).chain(self.others.iter().map(PathBuf::as_path))
    }

    /// The checkpoint that a pointer in the work_dir names; a place elsewhere is refused.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with the reason.
    pub fn resolve(&self, fs: &dyn FileSystem, text: &str) -> Result<PathBuf> {
        let refused = |why: String| Err(Error::checkpoint(&self.work, format!("`last_checkpoint` {why}")));
        let path = self.work.join(text);
        let Some(name) = path.file_name().and_then(OsStr::to_str).filter(|_| !text.is_empty()) else {
            return refused("names nothing".into());
        };
        if let Err(why) = check_name(name) {
            return refused(format!("is refused: {why}"));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return refused(format!("names `{}`, which climbs with `..`", path.display()));
        }
        // A link in its place would lead to somewhere else.
        let home = fs.canonical(&path).or_else(|_| {
            let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
            Ok::<_, io::Error>(fs.canonical(parent)?.join(name))
        });
        match home {
            Ok(home) if self.all().any(|own| home.parent() == Some(own)) => Ok(home),
            _ => refused(format!(
                "names `{}`, which is in no folder of this run: to go on from there, name it with `--resume`",
                path.display()
            )),
        }
    }
}

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
    pub fn not_ours(&self, name: &str) -> Vec<Error> {
        let home = match self.home(name) {
            Ok(home) => home,
            Err(error) => return vec![error],
        };
        let look = |what: Option<&str>| {
            let path = what.map_or_else(|| home.clone(), |what| sibling(&home, what));
            match (self.kind(&path)?, what) {
                (None, _) => Ok(()),
                (Some(FileKind::Dir), Some("old")) => self.stepped_aside(&path, &home),
                (_, Some(_)) => self.clearable(&path),
                (_, None) => self.only_a_checkpoint(&path),
            }
        };
        [None, Some("tmp"), Some("old"), Some("del")]
            .into_iter()
            .filter_map(|what| look(what).err())
            .collect()
    }

    /// The name under which a checkpoint can be saved: another one if something that is not this run's has the one it
    /// was to have. The state of a run is worth more than a name.
    pub fn free_name(&self, name: &str, whose: Whose<'_>) -> Result<String> {
        let free = |name: &str| {
            if let Some(error) = self.not_ours(name).into_iter().next() {
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
        match Manifest::read(self.fs, home) {
            Ok(manifest) if !manifest.is_of(whose) => {
                Err(Error::checkpoint(home, "it is of another run: move it away"))
            }
            Ok(manifest) => manifest.bears_its_name(home),
            Err(_) => Ok(()),
        }
    }

    /// Moves the finished `.shanty-tmp-<name>` to its place. What stands there steps aside first, if it is a checkpoint
    /// of the same run or a damaged one.
    pub fn put_in_place(&self, name: &str, whose: Whose<'_>) -> Result<()> {
        let home = self.home(name)?;
        let tmp = sibling(&home, "tmp");
        let mut aside = None;
        if self.kind(&home)?.is_some() {
            self.only_a_checkpoint(&home)?;
            self.may_replace(&home, whose)?;
            // A damaged one need not come back, and could not say that it is this run's.
            let whole = Manifest::read(self.fs, &home).is_ok();
            let old = sibling(&home, if whole { "old" } else { "del" });
            self.clear(&old)?;
            self.fs.rename(&home, &old).at(&home)?;
            aside = Some(old);
        }
        self.fs.rename(&tmp, &home).at(&home)?;
        self.fs.sync(self.dir).at(self.dir)?;
        aside.map_or(Ok(()), |old| self.give_up(&old, &home))
    }

    /// Deletes what stepped aside, under a name that nothing comes back from.
    fn give_up(&self, old: &Path, home: &Path) -> Result<()> {
        let gone = sibling(home, "del");
        if old != gone {
            self.clear(&gone)?;
            self.fs.rename(old, &gone).at(old)?;
        }
        self.clear(&gone)
    }

    /// Deletes a checkpoint; first it is renamed, so that no half of it is taken for a whole.
    pub fn discard(&self, name: &str) -> Result<()> {
        let home = self.home(name)?;
        self.only_a_checkpoint(&home)?;
        self.give_up(&home, &home)
    }

    /// Removes what an earlier deletion could only rename.
    pub fn clear_deleted(&self) -> Vec<Error> {
        let prefix = format!("{TEMPORARY}del-");
        let names = self.fs.list(self.dir).unwrap_or_default().into_iter();
        let left = names.filter(|name| name.to_str().is_some_and(|name| name.starts_with(&prefix)));
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
            let Some(what) = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY)) else { continue };
            let done = match what.split_once('-') {
                Some(("tmp" | "del", _)) => self.clear(&path),
                Some(("old", name)) if check_name(name).is_ok() => {
                    let manifest = Manifest::read(self.fs, &path);
                    let others = home.is_some_and(|home| manifest.is_ok_and(|m| !m.is_at_home(home)));
                    if others { Ok(()) } else { self.bring_back(&path, name) }
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
        self.stepped_aside(old, &home)?;
        if self.kind(&home)?.is_some() {
            return self.give_up(old, &home);
        }
        self.fs.rename(old, &home).at(&home)
    }

    /// Refuses what has the name of a checkpoint that stepped aside, and is none.
    fn stepped_aside(&self, old: &Path, home: &Path) -> Result<()> {
        self.only_a_checkpoint(old)?;
        let manifest = Manifest::read(self.fs, old).map_err(|_| {
            Error::checkpoint(old, "nothing in it says that shanty put it aside: move it away")
        })?;
        manifest.bears_its_name(home)
    }

    /// Whether something with a temporary name may go: a file, or a directory with nothing but a checkpoint's files in
    /// it. A link or a pipe stays: shanty makes none.
    pub fn clearable(&self, path: &Path) -> Result<()> {
        match self.kind(path)? {
            None | Some(FileKind::File) => Ok(()),
            Some(_) => self.only_a_checkpoint(path),
        }
    }

    /// Removes something with a temporary name.
    pub fn clear(&self, path: &Path) -> Result<()> {
        self.clearable(path)?;
        if self.kind(path)? == Some(FileKind::Dir) {
            // Its new name must be there before its files go, or half of it comes back under the old one.
            self.fs.sync(self.dir).at(self.dir)?;
        }
        self.fs.remove(path).at(path)
    }

    /// Refuses what is no directory, or holds something that shanty did not write.
    fn only_a_checkpoint(&self, home: &Path) -> Result<()> {
        if self.kind(home)? != Some(FileKind::Dir) {
            return Err(Error::checkpoint(home, "it is no directory that shanty wrote: move it away"));
        }
        let own = [MODEL_FILE, OPTIMIZER_FILE, HOOKS_FILE, ROLLBACK_FILE, STATE_FILE, MANIFEST_FILE];
        for name in self.fs.list(home).at(home)? {
            let known = own.iter().any(|own| name == *own);
            let path = home.join(&name);
            let is_dir = self.kind(&path)? == Some(FileKind::Dir);
            if !known || (is_dir && !self.fs.list(&path).at(&path)?.is_empty()) {
                let name = name.to_string_lossy().escape_debug().to_string();
                return Err(Error::checkpoint(
                    home,
                    format!("it holds `{name}`, which shanty did not write: move it away"),
                ));
            }
        }
        Ok(())
    }

    fn kind(&self, path: &Path) -> Result<Option<FileKind>> {
        Ok(self.fs.entry(path).at(path)?.map(|entry| entry.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fs::Disk;

    #[test]
    fn names_are_single_components() {
        for name in ["epoch_3", "best_accuracy_top1_epoch_9", "model_3.ckpt", "été 2"] {
            check_name(name).unwrap();
        }
        for name in
            ["", ".", "..", "../a", "/a", "a/b", "a\\b", ".hidden", "a\nb", "a\u{1b}[2J", &"x".repeat(300)]
        {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_pointer_leads_into_the_runs_folders_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let make = |name: &str| {
            std::fs::create_dir_all(root.join(name)).unwrap();
            root.join(name)
        };
        let (work, out, else_where) = (make("work"), make("out/work"), make("elsewhere"));
        make("work/epoch_1");
        make("elsewhere/epoch_1");
        std::os::unix::fs::symlink(else_where.join("epoch_1"), work.join("epoch_2")).unwrap();
        let mut folders = Folders::of(&work);
        folders.add(out.clone());
        let resolved = |text: &str| folders.resolve(&Disk, text);
        assert_eq!(resolved("epoch_1").unwrap(), work.join("epoch_1"));
        assert_eq!(resolved("./epoch_1/").unwrap(), work.join("epoch_1"));
        assert_eq!(resolved("epoch_9").unwrap(), work.join("epoch_9"), "it may have been deleted");
        assert_eq!(resolved(&out.join("epoch_3").to_string_lossy()).unwrap(), out.join("epoch_3"));
        let abs = else_where.join("epoch_1").to_string_lossy().into_owned();
        for text in
            ["", ".", "..", "../elsewhere/epoch_1", "epoch_2", "sub/epoch_1", "/", &abs, "epoch_1/..", "\0"]
        {
            assert!(resolved(text).is_err(), "{text}");
        }
    }
}
