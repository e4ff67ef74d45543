//! Picture files in folders, one for each class.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use crate::base::error::IoContext;
use crate::base::{Error, Result, Rng};
use crate::config::{Diag, FromNode, Key, Node, OneOrMany, read, receive};
use crate::data::picture::WITHOUT;
use crate::data::{Dataset, PictureFile, Pipeline, Sample, Transform};
use crate::registry::{BuildCx, Spec};

/// Picture files with their classes. Only their names are kept; a file is read when its sample is asked for, by the thread that
/// asks.
pub struct ImageFolder {
    folder: PathBuf,
    /// Path within `folder`, and class.
    files: Vec<(PathBuf, i64)>,
    classes: Option<Vec<String>>,
    pipeline: Pipeline,
}

/// Endings of the files that are taken, in lower case.
const EXTENSIONS: [&str; 3] = [".jpg", ".jpeg", ".png"];

impl ImageFolder {
    /// The JPEG and PNG files in the folders of `folder`: one class each, in the order of their names, as are the files.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such folder or no picture in it, or when this program cannot decode any.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::by_folders(folder, &EXTENSIONS.map(str::to_owned))
    }

    fn by_folders(folder: &Path, extensions: &[String]) -> Result<Self> {
        let classes = listed(folder)?.into_iter().filter(|path| path.is_dir()).map(|path| name(&path));
        let classes: Vec<String> = classes.collect();
        let (mut files, mut empty) = (Vec::new(), Vec::new());
        for (label, class) in classes.iter().enumerate() {
            let before = files.len();
            walk(folder, Path::new(class), extensions, &mut |path| files.push((path, label as i64)))?;
            if files.len() == before {
                empty.push(class.as_str());
            }
        }
        if !empty.is_empty() && !files.is_empty() {
            log::warn!("{}: no picture in {}", folder.display(), empty.join(", "));
        }
        Self::of(folder, files, Some(classes), extensions)
    }

    /// All picture files in `folder`, at any depth, without classes.
    fn unlabeled(folder: &Path, extensions: &[String]) -> Result<Self> {
        let mut files = Vec::new();
        walk(folder, Path::new(""), extensions, &mut |path| files.push((path, -1)))?;
        Self::of(folder, files, None, extensions)
    }

    /// The files that `list` names, one a line: its path within `folder` and, behind a space, its class.
    fn by_list(folder: &Path, list: &Path, with_label: bool) -> Result<Self> {
        let text = std::fs::read_to_string(list).at(list)?;
        let mut files = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let line = line.trim();
            files.push(match line.rsplit_once([' ', '\t']) {
                _ if !with_label => (PathBuf::from(line), -1),
                Some((path, label)) if label.parse::<u32>().is_ok() => {
                    (PathBuf::from(path.trim_end()), label.parse().unwrap_or_default())
                }
                _ => {
                    return Err(Error::invalid(format!(
                        "{}:{}: a line is a path, a space and the number of the class, got {line:?}",
                        list.display(),
                        number + 1
                    )));
                }
            });
        }
        if files.is_empty() {
            return Err(Error::invalid(format!("{}: it names no picture", list.display())));
        }
        Self::of(folder, files, None, &[])
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
        Ok(Self { folder: folder.to_owned(), files, classes, pipeline: Pipeline::default() })
    }

    /// The same pictures with these names of their classes.
    fn with_classes(self, classes: Vec<String>) -> Result<Self> {
        let n = classes.len();
        if let Some(own) = self.classes.as_ref().filter(|own| own.len() != n) {
            return Err(Error::invalid(format!(
                "{}: {} folders, but `classes` names {n}",
                self.folder.display(),
                own.len()
            )));
        }
        if let Some((path, label)) = self.files.iter().find(|(_, label)| *label >= n as i64) {
            return Err(Error::invalid(format!(
                "{} is of class {label}, but `classes` names only {n}, counted from 0",
                path.display()
            )));
        }
        Ok(Self { classes: Some(classes), ..self })
    }

    /// The same pictures, changed by these transforms when they are read.
    #[must_use]
    pub fn with_pipeline(self, pipeline: Pipeline) -> Self {
        Self { pipeline, ..self }
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
        let file = PictureFile::new(self.path(index));
        pipeline.apply(Sample::of_file(file, self.files[index].1), rng)
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is in a folder, in the order of the names.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Err(Error::invalid(format!(
            "{}: no such folder. It holds one folder of pictures for each class; name it as data_root",
            folder.display()
        )));
    }
    let entries = std::fs::read_dir(folder).at(folder)?;
    let mut paths =
        entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>().at(folder)?;
    paths.sort();
    Ok(paths)
}

/// Calls `found` with the picture files in `root/within` and its folders, as paths within `root`.
fn walk(root: &Path, within: &Path, extensions: &[String], found: &mut dyn FnMut(PathBuf)) -> Result<()> {
    for path in listed(&root.join(within))? {
        let inner = within.join(path.file_name().unwrap_or_default());
        let file = name(&path).to_lowercase();
        if path.is_dir() {
            walk(root, &inner, extensions, found)?;
        } else if extensions.iter().any(|ending| file.ends_with(ending)) {
            found(inner);
        }
    }
    Ok(())
}

/// A folder; the reference also writes `{img_path: folder}`.
#[derive(Debug, Clone)]
struct Prefix(PathBuf);

impl FromNode for Prefix {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let img_path = node.entries().iter().find(|(key, _)| key.text == "img_path");
        let unknown = node.entries().iter().find(|(key, _)| key.text != "img_path");
        if let Some((key, place)) = unknown {
            let diag =
                Diag::error(format!("unknown key `{}`: a mapping here has `img_path` alone", key.text));
            return (Self(PathBuf::new()), vec![diag.on(place)]);
        }
        match read(img_path.map_or(node, |(_, folder)| folder), key, &[]) {
            Ok(folder) => (Self(folder), Vec::new()),
            Err(diags) => (Self(PathBuf::new()), diags.0),
        }
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for Prefix {
    fn schema_name() -> Cow<'static, str> {
        "Prefix".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let folder = json_schema!({ "type": "string" });
        json_schema!({ "anyOf": [folder, {
            "type": "object", "properties": { "img_path": folder }, "required": ["img_path"], "additionalProperties": false
        }] })
    }
}

#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
struct ImageFolderParams {
    /// Folder of the data.
    #[serde(default)]
    data_root: PathBuf,
    /// Folder of the pictures, within `data_root` unless it is absolute; also `{img_path: folder}`.
    #[serde(default)]
    data_prefix: Option<Prefix>,
    /// A list of the pictures, within `data_root` unless it is absolute: a path within the pictures' folder and the number of
    /// the class on each line. Without it each folder is a class.
    #[serde(default)]
    ann_file: PathBuf,
    /// Whether pictures have classes; else all files are taken, with -1 for a class.
    #[serde(default = "yes")]
    with_label: bool,
    /// Names of the classes, in the order of the folders or the numbers; the folders' names if not given.
    #[serde(default)]
    classes: Option<OneOrMany<String>>,
    /// Endings of the files to take, in any case; .jpg, .jpeg and .png if not given.
    #[serde(default)]
    extensions: Option<OneOrMany<String>>,
    /// Accepted for the reference's configs; the pipeline alone decides how pictures are read.
    #[serde(default)]
    #[allow(dead_code)]
    test_mode: bool,
    /// What is done to each picture.
    #[serde(default)]
    pipeline: Vec<Spec<dyn Transform>>,
}

fn yes() -> bool {
    true
}

impl ImageFolderParams {
    fn build(self, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        let pipeline = Pipeline::build(&self.pipeline, cx)?;
        let folder = match &self.data_prefix {
            None => self.data_root.clone(),
            Some(Prefix(path)) => self.data_root.join(path),
        };
        if folder.as_os_str().is_empty() {
            return Err(Error::config("where are the pictures? Give their folder as `data_root`"));
        }
        let extensions = self.extensions.map_or_else(|| EXTENSIONS.map(str::to_owned).to_vec(), |e| e.0);
        let extensions: Vec<String> = extensions.iter().map(|e| e.to_lowercase()).collect();
        let set = match (self.ann_file.as_os_str().is_empty(), self.with_label) {
            (false, _) => {
                ImageFolder::by_list(&folder, &self.data_root.join(&self.ann_file), self.with_label)?
            }
            (true, true) => ImageFolder::by_folders(&folder, &extensions)?,
            (true, false) => ImageFolder::unlabeled(&folder, &extensions)?,
        };
        let set = match self.classes {
            Some(classes) => set.with_classes(classes.0)?,
            None => set,
        };
        Ok(Box::new(set.with_pipeline(pipeline)))
    }
}

crate::register! {
    /// JPEG and PNG files in folders, one for each class, or in a list; decoded when they are read. Feature `images`.
    dyn Dataset, "ImageFolder" => |p: ImageFolderParams, cx: &mut BuildCx| -> Result<Box<dyn Dataset>> { p.build(cx) }
}

crate::register! {
    /// The reference's name of ImageFolder.
    dyn Dataset, "CustomDataset" => |p: ImageFolderParams, cx: &mut BuildCx| -> Result<Box<dyn Dataset>> { p.build(cx) }
}
