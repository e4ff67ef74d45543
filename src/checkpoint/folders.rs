//! The folders of a run, and the names that a checkpoint may have in them.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::base::escape::is_unseen;
use crate::base::fs::FileSystem;
use crate::base::{Error, Result};

/// Names of files: no file system takes more than 255 bytes, and a temporary name is a little longer.
const LONGEST_NAME: usize = 200;

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
    if name.contains(is_unseen) {
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
