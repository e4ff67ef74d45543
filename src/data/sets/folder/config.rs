//! Pictures as configs name them: by folders, by lists, and in ImageNet's layouts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::list::named_twice;
use super::{EXTENSIONS, ImageFolder, fields};
use crate::base::{Error, Result};
use crate::config::{Diag, OneOrMany};
use crate::data::sets::keys::{Indices, Prefix, with_common_keys};
use crate::data::{Dataset, Pipeline, Unread};
use crate::registry::BuildCx;

/// A part of a data set, as ImageNet calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PictureSplit {
    /// To learn from.
    Train,
    /// To validate with.
    Val,
    /// Without classes.
    Test,
}

impl PictureSplit {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

with_common_keys! {
    struct ImageFolderConfig {
        /// Folder of the data.
        #[serde(default)]
        data_root: PathBuf,
        /// Folder of the pictures, within `data_root` unless it is absolute; also `{img_path: folder}`.
        #[serde(default)]
        data_prefix: Option<Prefix>,
        /// A list of the pictures, within `data_root` unless it is absolute: a path within the pictures' folder and the
        /// number of the class on each line. Without it each folder is a class.
        #[serde(default)]
        ann_file: PathBuf,
        /// train, val or test: pictures are in the folder of this name if `data_prefix` names none, by the list
        /// meta/NAME.txt where there is one and `ann_file` names none. test has no classes.
        #[serde(default)]
        split: Option<PictureSplit>,
        /// Whether pictures have classes; else all files are taken, and samples have no `target`.
        #[serde(default = "crate::config::yes")]
        with_label: bool,
        /// Endings of the files to take from folders, in any case; those of all pictures that can be read if not given.
        #[serde(default)]
        extensions: Option<OneOrMany<String>>,
        /// Accepted for MMPretrain's configs; the pipeline alone decides how pictures are read.
        #[serde(default)]
        #[allow(dead_code)]
        test_mode: bool,
    }
}

impl ImageFolderConfig {
    fn with_label(&self) -> bool {
        self.with_label && self.split != Some(PictureSplit::Test)
    }

    /// The folder of the pictures.
    fn folder(&self) -> PathBuf {
        let prefix = self.data_prefix.as_ref().filter(|prefix| !prefix.is_empty());
        match (prefix, self.split) {
            (None, Some(split)) => self.data_root.join(split.name()),
            _ => Prefix::within(prefix, &self.data_root),
        }
    }

    /// The list of the pictures, if there is one.
    fn list(&self) -> Option<PathBuf> {
        if !self.ann_file.as_os_str().is_empty() {
            return Some(self.data_root.join(&self.ann_file));
        }
        self.split.map(|split| self.meta(split)).filter(|list| list.exists())
    }

    fn meta(&self, split: PictureSplit) -> PathBuf {
        self.data_root.join(format!("meta/{}.txt", split.name()))
    }

    /// The set; `known` is the name of one that many have a copy of.
    fn build(self, known: Option<&str>, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        let with_label = self.with_label();
        let pipeline = Pipeline::build_for(&fields(with_label), &self.pipeline, cx)?;
        let (folder, list) = (self.folder(), self.list());
        if folder.as_os_str().is_empty() {
            return Err(Error::config("where are the pictures? Give their folder as `data_root`"));
        }
        let extensions = match &self.extensions {
            Some(given) => given.0.iter().map(|ending| ending.to_lowercase()).collect(),
            None => EXTENSIONS.map(str::to_owned).to_vec(),
        };
        if Unread::is_enough(cx) {
            let (files, pipeline) = (Vec::new(), Arc::new(pipeline));
            let set = ImageFolder { folder, files, classes: None, extensions, pipeline };
            return Indices::cut(self.indices.as_ref(), set, cx);
        }
        let absent = std::iter::once(&folder).chain(&list).find(|path| !path.exists());
        if let (Some(path), Some(name)) = (absent, known) {
            return Err(self.missing(path, name));
        }
        let set = match (&list, with_label) {
            (Some(list), _) => ImageFolder::by_list(&folder, list, with_label)?,
            (None, true) => ImageFolder::by_folders(&folder, &extensions)?,
            (None, false) => ImageFolder::unlabeled(&folder, &extensions)?,
        };
        let again = list.as_deref().and_then(|list| named_twice(list, &set.files));
        cx.warn(again.map(Diag::warning));
        let set = match (self.names()?, known) {
            (Some(names), _) => set.with_classes(names)?,
            (None, Some(_)) if list.is_some() => set.with_wordnet_ids(),
            _ => set,
        };
        Indices::cut(self.indices.as_ref(), set.with_pipeline(pipeline), cx)
    }

    /// What was looked for, and where it comes from.
    fn missing(&self, path: &Path, name: &str) -> Error {
        // Without either there is no list to name but the key of one.
        let list = match self.split {
            Some(split) => self.meta(split).display().to_string(),
            None if self.ann_file.as_os_str().is_empty() => "the file of `ann_file`".to_owned(),
            None => self.data_root.join(&self.ann_file).display().to_string(),
        };
        let what = format!(
            "no {name} here. Its pictures are looked for in {}, in one folder for each class or as {list} lists them, in \
             lines such as `n01440764/n01440764_10026.JPEG 0`. image-net.org gives it to those who register: unpack it, \
             or link to it, and name its folder as `data_root`",
            self.folder().display(),
        );
        Error::Missing { path: path.to_owned(), what }
    }
}

impl ImageFolder {
    fn from_config(p: ImageFolderConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        p.build(None, cx)
    }

    fn imagenet(p: ImageFolderConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        p.build(Some("ImageNet"), cx)
    }

    fn imagenet21k(p: ImageFolderConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        p.build(Some("ImageNet-21k"), cx)
    }
}

crate::register! {
    /// Pictures in folders, one for each class, or in a list; decoded when they are read. Feature `images`.
    ///
    /// ```yaml
    /// {type: ImageFolder, data_root: data/train, pipeline: [{type: LoadImageFromFile}, {type: Resize, scale: 64}]}
    /// ```
    dyn Dataset, "ImageFolder" => fn ImageFolder::from_config
}

crate::register! {
    /// MMPretrain's name of ImageFolder.
    ///
    /// ```yaml
    /// {type: CustomDataset, data_root: data/train, pipeline: [{type: LoadImageFromFile}, {type: Resize, scale: 64}]}
    /// ```
    dyn Dataset, "CustomDataset" => fn ImageFolder::from_config
}

crate::register! {
    /// ImageNet's 1,000 classes, in folders or by its lists: an ImageFolder that says what is missing.
    ///
    /// ```yaml
    /// {type: ImageNet, data_root: data/imagenet, split: val, pipeline: [{type: LoadImageFromFile}]}
    /// ```
    dyn Dataset, "ImageNet" => fn ImageFolder::imagenet
}

crate::register! {
    /// ImageNet's 21,841 classes, in folders or by a list: an ImageFolder that says what is missing.
    ///
    /// ```yaml
    /// {type: ImageNet21k, data_root: data/imagenet21k, split: train, pipeline: [{type: LoadImageFromFile}]}
    /// ```
    dyn Dataset, "ImageNet21k" => fn ImageFolder::imagenet21k
}
