//! Picture files in folders, one for each class, or as a list names them.

mod config;
mod cub;
mod list;
mod voc;
mod walk;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Error, Result, Rng, text};
use crate::data::classes::relabelled;
use crate::data::field::TARGET;
use crate::data::picture::WITHOUT;
use crate::data::{Dataset, FieldSpec, Fields, Marks, Origin, Picture, PictureFile, Pipeline, Sample, Value};

use super::pixels::pictures;
pub(super) use list::names as names_in;
use walk::{Walk, listed};

/// Picture files with their classes. Only their names are kept; a file is read when its sample is asked for, by the
/// thread that asks.
pub struct ImageFolder {
    folder: PathBuf,
    /// Path within `folder`, and class.
    files: Vec<(PathBuf, i64)>,
    classes: Option<Vec<String>>,
    /// Endings of the files that are taken from a folder.
    extensions: Vec<String>,
    pipeline: Arc<Pipeline>,
}

/// Endings of the files that are taken, in lower case.
pub(super) const EXTENSIONS: [&str; 11] =
    [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".tif", ".tiff"];

impl ImageFolder {
    /// The picture files in the folders of `folder`: one class each, in the order of their names, as are the
    /// files.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such folder or no picture in it, or when this program cannot decode any.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::by_folders(folder, &EXTENSIONS.map(str::to_owned))
    }

    fn by_folders(folder: &Path, extensions: &[String]) -> Result<Self> {
        let (mut classes, mut pictures, mut empty, mut beside) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for entry in listed(folder)? {
            if !entry.is_dir() {
                beside += usize::from(entry.ends_with(extensions));
                continue;
            }
            let class = class_name(&entry.path)?;
            let Some(found) = Walk::new(folder, extensions)?.below(&class)? else { continue };
            if found.is_empty() {
                empty.push(class.clone());
            }
            pictures.extend(found.into_iter().map(|path| (path, classes.len() as i64)));
            classes.push(class);
        }
        if !empty.is_empty() && !pictures.is_empty() {
            log::warn!("{}: no picture in {}", folder.display(), empty.join(", "));
        }
        if beside > 0 && !pictures.is_empty() {
            log::warn!("{}: {beside} pictures beside the folders have no class: left out", folder.display());
        }
        Self::of(folder, pictures, Some(classes), extensions)
    }

    /// All picture files in `folder`, at any depth, without classes.
    fn unlabeled(folder: &Path, extensions: &[String]) -> Result<Self> {
        listed(folder)?;
        let found = Walk::new(folder, extensions)?.all()?;
        Self::of(folder, found.into_iter().map(|path| (path, -1)).collect(), None, extensions)
    }

    /// The files that `list` names.
    fn by_list(folder: &Path, list: &Path, with_label: bool) -> Result<Self> {
        Self::of(folder, list::pictures(folder, list, with_label)?, None, &EXTENSIONS.map(str::to_owned))
    }

    fn of(
        folder: &Path,
        files: Vec<(PathBuf, i64)>,
        classes: Option<Vec<String>>,
        extensions: &[String],
    ) -> Result<Self> {
        if cfg!(not(feature = "images")) {
            return Err(Error::invalid(format!("{}: {WITHOUT}", folder.display())));
        }
        if files.is_empty() {
            let deeper = if classes.is_some() { " in its folders, one for each class" } else { "" };
            return Err(Error::invalid(format!(
                "{}: no picture{deeper}; files that end in {} are taken",
                folder.display(),
                extensions.join(", ")
            )));
        }
        let extensions = extensions.to_vec();
        Ok(Self { folder: folder.to_owned(), files, classes, extensions, pipeline: Arc::default() })
    }

    /// The same pictures with these names of their classes: where they are names of the folders, each folder gets the
    /// number of its own name, else they are new names in the folders' order.
    fn with_classes(mut self, classes: Vec<String>) -> Result<Self> {
        let (n, folder) = (classes.len(), self.folder.display());
        if let Some(own) = &self.classes {
            let named: HashSet<&String> = classes.iter().collect();
            if own.iter().any(|name| named.contains(name)) {
                let to =
                    relabelled(own, &classes).map_err(|why| Error::invalid(format!("{folder}: {why}")))?;
                self.files.iter_mut().for_each(|(_, label)| *label = to[*label as usize]);
            } else if own.len() != n {
                return Err(Error::invalid(format!(
                    "{folder}: {} folders, but `classes` names {n}",
                    own.len()
                )));
            }
        }
        if let Some((path, label)) = self.files.iter().find(|(_, label)| *label >= n as i64) {
            return Err(Error::invalid(format!(
                "{} is of class {label}, but `classes` names only {n}, counted from 0",
                path.display()
            )));
        }
        Ok(Self { classes: Some(classes), ..self })
    }

    /// The same pictures with the folders' names for their classes, where each class of a list is a folder that is
    /// called by its WordNet id, as `n01440764`: of a part of the classes, or other folders, none get a name.
    fn with_wordnet_ids(mut self) -> Self {
        let mut names = BTreeMap::new();
        for (path, label) in &self.files {
            let id = path.iter().next().and_then(|folder| folder.to_str()).unwrap_or_default();
            let digits = id.strip_prefix('n').unwrap_or_default();
            let is_id = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if !is_id || names.insert(*label, id).is_some_and(|known| known != id) {
                return self;
            }
        }
        let all = names.keys().copied().eq(0..names.len() as i64);
        let apart = names.values().collect::<HashSet<_>>().len() == names.len();
        self.classes = (all && apart).then(|| names.into_values().map(str::to_owned).collect());
        self
    }

    /// The same pictures, changed by these transforms when they are read.
    #[must_use]
    pub fn with_pipeline(self, pipeline: Pipeline) -> Self {
        Self { pipeline: Arc::new(pipeline), ..self }
    }

    /// The file of the sample at `index`.
    pub fn path(&self, index: usize) -> PathBuf {
        self.folder.join(&self.files[index].0)
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let path = self.path(index);
        text::regular(&path)?;
        let (file, label) = (Picture::File(PictureFile::new(path)), self.files[index].1);
        let sample = if label < 0 { Sample::unlabelled(file) } else { Sample::new(file, label) };
        pipeline.apply(sample, rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn mark(&self, marks: &mut Marks) {
        for (path, label) in &self.files {
            marks.name(path.as_os_str().as_encoded_bytes());
            marks.name(&label.to_le_bytes());
        }
        for index in spread(self.files.len(), SIZES) {
            let size = std::fs::metadata(self.path(index)).map_or(u64::MAX, |about| about.len());
            marks.contents(&size.to_le_bytes());
        }
        for index in spread(self.files.len(), READ) {
            marks.contents(&beginning(&self.path(index)));
        }
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(self.pipeline.fields(fields(self.files.iter().all(|(_, label)| *label >= 0))))
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn origin(&self, index: usize) -> Origin {
        if index < self.files.len() { Origin::File(self.path(index)) } else { Origin::Position }
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        let (_, label) = self.files.get(index)?;
        (field == TARGET && *label >= 0).then(|| (*label).into())
    }

    fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
        PictureFile::new(self.path(index)).size().map(Some)
    }

    /// Pictures, and all that are in folders, at any depth.
    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        let mut all = Vec::new();
        for path in files {
            if path.is_dir() {
                let found = Self::unlabeled(path, &self.extensions)?.files;
                all.extend(found.into_iter().map(|(file, label)| (path.join(file), label)));
            } else {
                text::regular(path)?;
                all.push((path.clone(), -1));
            }
        }
        let set = Self::of(Path::new(""), all, self.classes.clone(), &self.extensions)?;
        Ok(Box::new(Self { pipeline: Arc::clone(&self.pipeline), ..set }))
    }
}

/// What a sample begins with: its picture, and its class where it has one.
pub(super) fn fields(labelled: bool) -> Fields<FieldSpec> {
    let mut fields = pictures(None);
    if !labelled {
        fields.take(TARGET);
    }
    fields
}

/// Files whose size is part of the fingerprint, and whose beginning is: all of a small set, a part of a large one.
const SIZES: usize = 10_000;
const READ: usize = 256;

/// At most `most` of `n` positions, evenly spread, the first among them.
fn spread(n: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(n.div_ceil(most).max(1))
}

/// The first 64 KiB of a file; nothing of one that cannot be read, which is no matter of its name.
fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text::regular(path).is_ok()
        && let Ok(file) = std::fs::File::open(path)
    {
        let _ = file.take(64 << 10).read_to_end(&mut bytes);
    }
    bytes
}

/// The class of a folder's pictures. Names of classes are compared and kept in checkpoints, so they must be text.
fn class_name(folder: &Path) -> Result<String> {
    let name = folder.file_name().unwrap_or_default();
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Error::invalid(format!("{}: the name of a class must be UTF-8: rename the folder", folder.display()))
    })
}
