//! A work_dir as its checkpoints name it. In a folder elsewhere, which several may share, they say whose they are, and
//! the way to it. With what the file system says of the work_dir, one that was copied is told from one that was moved.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::folders::Folders;
use super::manifest::Whose;
use super::owned::{Folder, Listed};
use super::owner::Owner;
use crate::base::Result;
use crate::base::error::IoContext;
use crate::base::fs::FileSystem;

/// A work_dir and its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Home {
    /// Its canonical path.
    pub dir: PathBuf,
    /// What it is called in its checkpoints, as [`Owner`] keeps it.
    pub name: String,
    /// What tells it from its copies: [`FileSystem::identity`].
    pub folder: Option<String>,
}

impl Home {
    /// The home of the run that has these folders; it has no name where no run has begun. A work_dir that was copied
    /// has the name of its original in it, whose checkpoints are not its to give up: it goes by another name, unless it
    /// stands where they were saved for.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn of(fs: &dyn FileSystem, folders: &Folders) -> Result<Self> {
        let dir = folders.work();
        let folder = fs.identity(dir).at(dir)?;
        let nameless = Self { dir: dir.to_owned(), name: String::new(), folder };
        let Some(owner) = Owner::of(fs, folders)? else { return Ok(nameless) };
        let is_original = nameless.folder.is_some() && owner.folder == nameless.folder;
        let name = owner.into_home();
        let mut saved_here = Vec::new();
        for elsewhere in folders.all().filter(|elsewhere| *elsewhere != dir) {
            for listed in Folder::new(fs, elsewhere).checkpoints()? {
                let listed = listed.known(fs)?;
                if listed.manifest.as_ref().is_ok_and(|manifest| manifest.home == name) {
                    saved_here.push(saved_for(fs, &listed)?);
                }
            }
        }
        let is_here = |work: &Option<PathBuf>| work.as_deref() == Some(dir);
        let is_anothers = |work: &Option<PathBuf>| work.is_some() && !is_here(work);
        let is_left = saved_here.is_empty() || is_original || saved_here.iter().any(is_here);
        Ok(if is_left && !saved_here.iter().any(is_anothers) { Self { name, ..nameless } } else { nameless })
    }

    /// Whose the checkpoints of a run are in a folder: in the work_dir itself all are the work_dir's.
    pub(super) fn whose<'a>(&'a self, run: &'a str, dir: &Path) -> Whose<'a> {
        Whose { run, home: (dir != self.dir).then_some(&*self.name) }
    }

    /// The way to the work_dir from a folder elsewhere: it stays right when both are moved, or copied, together.
    pub(super) fn way_from(&self, dir: &Path) -> String {
        let both = || dir.components().zip(self.dir.components());
        let common = both().take_while(|(a, b)| a == b).count();
        let up = dir.components().skip(common).map(|_| Component::ParentDir);
        let way: PathBuf = up.chain(self.dir.components().skip(common)).collect();
        way.to_string_lossy().into_owned()
    }
}

/// The work_dir elsewhere that a checkpoint was saved for, where it is there and goes by the same name still.
///
/// # Errors
/// When the system refuses to tell: a work_dir that cannot be read at the moment is not one that is gone.
pub(super) fn saved_for(fs: &dyn FileSystem, listed: &Listed) -> Result<Option<PathBuf>> {
    let manifest = listed.manifest.as_ref().ok().filter(|manifest| !manifest.work_dir.is_empty());
    let (Some(manifest), Some(from)) = (manifest, listed.path.parent()) else { return Ok(None) };
    let place = Path::new(&manifest.work_dir).components().fold(from.to_owned(), |mut at, part| {
        match part {
            Component::ParentDir => drop(at.pop()),
            part => at.push(part),
        }
        at
    });
    let work = match fs.canonical(&place) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        found => found.at(&place)?,
    };
    let owner = match Owner::of(fs, &Folders::of(&work)) {
        Err(refused) if refused.is_refusal() => return Err(refused),
        owner => owner.ok().flatten(),
    };
    Ok(owner.is_some_and(|owner| owner.into_home() == manifest.home).then_some(work))
}
