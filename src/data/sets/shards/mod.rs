//! Pictures in tar files, as the `webdataset` library writes them: samples are files of one name with several endings,
//! one behind the other. The files are gone through once; then each sample is read from its place.

mod index;
mod urls;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::number::count;
use crate::base::{Error, Result, Rng};
use crate::config::{Diag, OneOrMany};
use crate::data::{
    Dataset, FieldSpec, Fields, Marks, Member, Origin, Picture, PictureFile, Pipeline, Sample, SampleId,
    TARGET, Unread, Value,
};
use crate::registry::BuildCx;

use self::index::{Shard, key_of};
use self::urls::{expanded, in_place, named_twice};
use super::folder::{EXTENSIONS, fields};
use super::keys::{Indices, with_common_keys};

/// Pictures in tar files, with their classes.
pub struct WebDataset {
    shards: Vec<PathBuf>,
    samples: Vec<Shot>,
    classes: Option<Vec<String>>,
    pipeline: Arc<Pipeline>,
    /// What is odd about the tar files.
    odd: Vec<String>,
}

/// One sample.
struct Shot {
    /// Number of the tar file.
    shard: usize,
    picture: Arc<Member>,
    /// -1 without a class.
    label: i64,
}

impl WebDataset {
    /// The samples of these tar files, in their order. Each has a picture and, where they are labelled, a file with the
    /// number of its class: `0001.jpg` and `0001.cls`. Other files are left alone.
    ///
    /// # Errors
    /// A file that is missing, or no tar file, or cut off; a sample without a class; no sample at all.
    pub fn load(shards: Vec<PathBuf>, with_label: bool) -> Result<Self> {
        let (mut samples, mut lone) = (Vec::new(), Vec::new());
        for (number, path) in shards.iter().enumerate() {
            Shard { path, number, with_label, samples: &mut samples, lone: &mut lone }.index()?;
        }
        match samples.is_empty() {
            true if shards.is_empty() => Err(Error::config("`urls` names no tar file")),
            true => {
                let shards =
                    shards.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
                Err(Error::invalid(format!("no picture in {shards}: one ends in {}", EXTENSIONS.join(", "))))
            }
            false => {
                let odd = named_twice(&shards).into_iter().chain(pictureless(&lone)).collect();
                let set = Self { shards, samples, classes: None, pipeline: Arc::default(), odd };
                let odd = set.odd.iter().cloned().chain(set.named_alike()).collect();
                Ok(Self { odd, ..set })
            }
        }
    }

    /// What is odd about samples of one name in one tar file: whoever unpacks it has the last one alone.
    fn named_alike(&self) -> Option<String> {
        let mut seen = HashSet::new();
        let mut all: Vec<&Shot> = Vec::new();
        for shot in &self.samples {
            if !seen.insert((shot.shard, key_of(&shot.picture.name).map(|(key, _)| key))) {
                all.push(shot);
            }
        }
        let (name, shard) =
            all.first().map(|shot| (&shot.picture.name, self.shards[shot.shard].display()))?;
        Some(format!(
            "{} of {shard} and {} in all come again under the name of an earlier sample of their file: they are taken as \
             samples of their own",
            name,
            count(all.len() as u64, "sample")
        ))
    }

    /// The picture of a sample, in its tar file.
    fn file(&self, index: usize) -> PictureFile {
        let Shot { shard, picture, .. } = &self.samples[index];
        PictureFile { member: Some(picture.clone()), ..PictureFile::new(&self.shards[*shard]) }
    }

    fn with_classes(self, names: Option<Vec<String>>) -> Result<Self> {
        let Some(names) = names else { return Ok(self) };
        match self.samples.iter().find(|shot| shot.label >= names.len() as i64) {
            Some(shot) => Err(Error::invalid(format!(
                "{} in {} is of class {}, but `classes` names only {}, counted from 0",
                shot.picture.name,
                self.shards[shot.shard].display(),
                shot.label,
                names.len()
            ))),
            None => Ok(Self { classes: Some(names), ..self }),
        }
    }
}

/// What is odd about classes beside which no picture stands.
fn pictureless(lone: &[String]) -> Option<String> {
    let first = lone.first()?;
    let (are, have) = if lone.len() == 1 { ("is", "has") } else { ("are", "have") };
    Some(format!(
        "{} {have} a class and no picture, and {are} left out, from {first} on: a picture ends in {}",
        count(lone.len() as u64, "sample"),
        EXTENSIONS.join(", ")
    ))
}

impl Dataset for WebDataset {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let sample = match self.samples[index].label {
            -1 => Sample::unlabelled(Picture::File(self.file(index))),
            label => Sample::of_file(self.file(index), label),
        };
        pipeline.apply(sample, rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(self.pipeline.fields(fields(self.samples.iter().all(|shot| shot.label >= 0))))
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn origin(&self, index: usize) -> Origin {
        let Some(shot) = self.samples.get(index) else { return Origin::Position };
        let first = self.samples.partition_point(|other| other.shard < shot.shard);
        let id = SampleId::Name { name: shot.picture.name.clone(), row: (index - first) as u64 };
        Origin::Row { file: self.shards.get(shot.shard).cloned(), id }
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        let shot = self.samples.get(index)?;
        (field == TARGET && shot.label >= 0).then(|| shot.label.into())
    }

    fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
        self.file(index).size().map(Some)
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        let shards = files.iter().map(|path| in_place(path)).collect::<Result<Vec<_>>>()?.concat();
        let set = Self::load(shards, false)?;
        Ok(Box::new(Self { classes: self.classes.clone(), pipeline: self.pipeline.clone(), ..set }))
    }

    fn mark(&self, marks: &mut Marks) {
        for Shot { shard, picture, label } in &self.samples {
            marks.name(picture.name.as_bytes());
            marks.name(&label.to_le_bytes());
            marks.contents(&(*shard as u64).to_le_bytes());
            marks.contents(&picture.len.to_le_bytes());
        }
    }
}

with_common_keys! {
    struct WebDatasetConfig {
        /// Folder of the data.
        #[serde(default)]
        data_root: PathBuf,
        /// Tar files, or folders of them, within `data_root` unless they are absolute; `train-{000..099}.tar` names a
        /// hundred.
        urls: OneOrMany<String>,
        /// Whether samples have classes, the number of each in a file that ends in .cls; else they have no `target`.
        #[serde(default = "crate::config::yes")]
        with_label: bool,
    }
}

crate::register! {
    /// Pictures in tar files as the webdataset library writes them, with .cls files of their classes. Feature `images`.
    ///
    /// ```yaml
    /// {type: WebDataset, urls: 'data/train-{000..099}.tar', pipeline: [{type: LoadImageFromFile}, {type: Resize, scale: 64}]}
    /// ```
    dyn Dataset, "WebDataset" => fn WebDataset::from_config
}

impl WebDataset {
    fn from_config(p: WebDatasetConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        let pipeline = Arc::new(Pipeline::build_for(&fields(p.with_label), &p.pipeline, cx)?);
        if Unread::is_enough(cx) {
            let (shards, samples, odd) = (Vec::new(), Vec::new(), Vec::new());
            let set = Self { shards, samples, classes: None, pipeline, odd };
            return Indices::cut(p.indices.as_ref(), set, cx);
        }
        let mut shards = Vec::new();
        for url in p.urls.iter().map(|url| expanded(url)).collect::<Result<Vec<_>>>()?.concat() {
            shards.extend(in_place(&p.data_root.join(url))?);
        }
        let set = Self::load(shards, p.with_label)?.with_classes(p.names()?)?;
        cx.warn(set.odd.iter().map(Diag::warning));
        Indices::cut(p.indices.as_ref(), Self { pipeline, ..set }, cx)
    }
}
