//! The birds of CUB-200-2011, whose lists number pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{EXTENSIONS, ImageFolder, fields};
use crate::base::{Error, Result, text};
use crate::data::sets::keys::{Indices, with_common_keys};
use crate::data::{Dataset, Pipeline, Unread};
use crate::registry::BuildCx;

/// A part of the birds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum CubSplit {
    /// 5,994 pictures to learn from.
    #[default]
    Train,
    /// 5,794 pictures to test with.
    Test,
}

with_common_keys! {
    struct CubConfig {
        /// Folder of the data: `images` and the lists `images.txt`, `image_class_labels.txt` and
        /// `train_test_split.txt`.
        data_root: PathBuf,
        /// train or test.
        #[serde(default)]
        split: CubSplit,
        /// Accepted for MMPretrain's configs; `split` alone decides.
        #[serde(default)]
        #[allow(dead_code)]
        test_mode: bool,
    }
}

crate::register! {
    /// 11,788 pictures of 200 kinds of birds: CUB-200-2011 as its archive unpacks. Feature `images`.
    ///
    /// ```yaml
    /// {type: CUB, data_root: data/CUB_200_2011, split: train, pipeline: [{type: LoadImageFromFile}]}
    /// ```
    dyn Dataset, "CUB" => fn ImageFolder::cub
}

impl ImageFolder {
    fn cub(p: CubConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        let pipeline = Pipeline::build_for(&fields(true), &p.pipeline, cx)?;
        let (root, folder) = (&p.data_root, p.data_root.join("images"));
        let extensions = EXTENSIONS.map(str::to_owned).to_vec();
        if Unread::is_enough(cx) {
            let set =
                Self { folder, files: Vec::new(), classes: None, extensions, pipeline: pipeline.into() };
            return Indices::cut(p.indices.as_ref(), set, cx);
        }
        let [pictures, labels, parts] = LISTS.map(|name| root.join(name));
        if let Some(absent) = [&folder, &pictures, &labels, &parts].into_iter().find(|path| !path.exists()) {
            let what = "no CUB-200-2011 here. In `data_root` images, images.txt, image_class_labels.txt and \
                        train_test_split.txt are looked for. They are what CUB_200_2011.tgz of the Caltech vision group \
                        unpacks to";
            return Err(Error::Missing { path: absent.clone(), what: what.to_owned() });
        }
        let files = chosen(&numbered(&pictures)?, &by_number(&labels)?, &by_number(&parts)?, p.split)?;
        let set = Self::of(&folder, files, None, &extensions)?;
        let set = set.with_classes(match p.names()? {
            Some(names) => names,
            None => kinds(&numbered(&root.join("classes.txt"))?),
        })?;
        Indices::cut(p.indices.as_ref(), set.with_pipeline(pipeline), cx)
    }
}

const LISTS: [&str; 3] = ["images.txt", "image_class_labels.txt", "train_test_split.txt"];

/// A list of lines with a number, from 1, and what has it.
struct Numbered {
    file: PathBuf,
    lines: Vec<(u64, String)>,
}

fn numbered(file: &Path) -> Result<Numbered> {
    let text = text::read(file)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(at, line)| {
        let parted =
            line.trim().split_once(' ').and_then(|(n, what)| Some((n.parse().ok()?, what.trim().to_owned())));
        parted.ok_or_else(|| {
            let place = format!("{}:{}", file.display(), at + 1);
            Error::invalid(format!(
                "{place}: a line is a number, a space and what it stands for, got {line:?}"
            ))
        })
    });
    Ok(Numbered { lines: lines.collect::<Result<_>>()?, file: file.to_owned() })
}

/// The same where a number stands for a number.
fn by_number(file: &Path) -> Result<(PathBuf, BTreeMap<u64, i64>)> {
    let list = numbered(file)?;
    let values = list.lines.iter().map(|(number, value)| {
        let wrong = || Error::invalid(format!("{}: {value:?} of {number} is no number", file.display()));
        Ok((*number, value.parse::<i64>().map_err(|_| wrong())?))
    });
    Ok((list.file, values.collect::<Result<_>>()?))
}

/// The pictures of a part, with the number of their class from 0.
fn chosen(
    pictures: &Numbered,
    (labels, classes): &(PathBuf, BTreeMap<u64, i64>),
    (splits, parts): &(PathBuf, BTreeMap<u64, i64>),
    split: CubSplit,
) -> Result<Vec<(PathBuf, i64)>> {
    let mut files = Vec::new();
    for (number, path) in &pictures.lines {
        let of = |list: &Path, all: &BTreeMap<u64, i64>| {
            let text =
                || format!("{}: picture {number} of {} is missing", list.display(), pictures.file.display());
            all.get(number).copied().ok_or_else(|| Error::invalid(text()))
        };
        let (class, learns) = (of(labels, classes)?, of(splits, parts)? == 1);
        if class < 1 {
            let text = format!("{}: the class {class} of {number}; they count from 1", labels.display());
            return Err(Error::invalid(text));
        }
        if learns == (split == CubSplit::Train) {
            files.push((PathBuf::from(path), class - 1));
        }
    }
    Ok(files)
}

/// `Black_footed_Albatross` of `001.Black_footed_Albatross`.
fn kinds(list: &Numbered) -> Vec<String> {
    let name = |text: &String| text.split_once('.').map_or(text.as_str(), |(_, name)| name).to_owned();
    list.lines.iter().map(|(_, text)| name(text)).collect()
}
