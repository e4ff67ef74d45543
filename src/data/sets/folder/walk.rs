//! The picture files of a folder: in the order of their names, hidden ones left out, no folder entered twice.

use std::collections::HashSet;
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

use crate::base::error::IoContext;
use crate::base::{Error, Result, text};

/// Folders within folders, beyond which a tree is no data set.
const MAX_DEPTH: usize = 64;

/// What is in a folder.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// What it is, or what a link leads to; none if it leads nowhere.
    kind: Option<FileType>,
}

impl Entry {
    pub(super) fn is_dir(&self) -> bool {
        self.kind.is_some_and(|kind| kind.is_dir())
    }

    pub(super) fn ends_with(&self, extensions: &[String]) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        extensions.iter().any(|ending| name.ends_with(ending))
    }
}

/// A walk through `root`: what it takes and where it has been.
pub(super) struct Walk<'a> {
    root: &'a Path,
    extensions: &'a [String],
    /// Folders that were entered, by what they are and not by name: a link may lead back to where it stands.
    entered: HashSet<Id>,
    found: Vec<PathBuf>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Path, extensions: &'a [String]) -> Result<Self> {
        let real = fs::canonicalize(root).at(root)?;
        let entered = real.ancestors().map(Id::of).collect::<Result<_>>()?;
        Ok(Self { root, extensions, entered, found: Vec::new() })
    }

    /// The files in `root` itself and everywhere below it, as paths within `root`.
    pub(super) fn all(mut self) -> Result<Vec<PathBuf>> {
        self.list(Path::new(""), 0)?;
        Ok(self.found)
    }

    /// The files below the folder `within` of `root`; none if that leads back to `root`, or above it.
    pub(super) fn below(mut self, within: &str) -> Result<Option<Vec<PathBuf>>> {
        let entered = self.enter(&self.root.join(within), Path::new(within), 1)?;
        Ok(entered.then_some(self.found))
    }

    fn list(&mut self, within: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            let folder = self.root.join(within);
            return Err(Error::invalid(format!("{}: more than {MAX_DEPTH} folders deep", folder.display())));
        }
        for entry in listed(&self.root.join(within))? {
            let inner = within.join(entry.path.file_name().unwrap_or_default());
            let taken = entry.ends_with(self.extensions);
            match entry.kind {
                Some(kind) if kind.is_dir() => {
                    self.enter(&entry.path, &inner, depth + 1)?;
                }
                Some(kind) if taken && !kind.is_file() => {
                    return Err(Error::invalid(format!(
                        "{}: {}, not a picture: remove it or give it another ending",
                        entry.path.display(),
                        text::kind_of(kind)
                    )));
                }
                // A link to nothing is a sample that cannot be read; it keeps its place among the samples.
                _ if taken => self.found.push(inner),
                _ => {}
            }
        }
        Ok(())
    }

    fn enter(&mut self, folder: &Path, within: &Path, depth: usize) -> Result<bool> {
        let new = self.entered.insert(Id::of(folder)?);
        if new {
            self.list(within, depth)?;
        } else {
            log::warn!("{}: it leads to a folder that was entered already: left out", folder.display());
        }
        Ok(new)
    }
}

/// What is in a folder, in the order of the names, without what is hidden: `.ipynb_checkpoints`, `.DS_Store`,
/// `._a.jpg`.
pub(super) fn listed(folder: &Path) -> Result<Vec<Entry>> {
    text::no_file(folder)?;
    if !folder.is_dir() {
        let what = "no such folder. It holds one folder of pictures for each class; name it as data_root";
        return Err(Error::Missing { path: folder.to_owned(), what: what.to_owned() });
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type().at(folder)?);
        let kind = if kind.is_symlink() { target(&path)? } else { Some(kind) };
        found.push(Entry { path, kind });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What a link leads to.
fn target(link: &Path) -> Result<Option<FileType>> {
    match fs::metadata(link) {
        Ok(about) => Ok(Some(about.file_type())),
        // To nothing, or in a circle of links.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(error).at(link),
        Err(_) => Ok(None),
    }
}

/// What a folder is, whatever the path that leads to it.
#[derive(PartialEq, Eq, Hash)]
struct Id(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

impl Id {
    #[cfg(unix)]
    fn of(folder: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let about = fs::metadata(folder).at(folder)?;
        Ok(Self((about.dev(), about.ino())))
    }

    #[cfg(not(unix))]
    fn of(folder: &Path) -> Result<Self> {
        fs::canonicalize(folder).at(folder).map(Self)
    }
}
