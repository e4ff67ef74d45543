//! Pictures in tar files, as the `webdataset` library writes them: samples are files of one name with several endings,
//! one behind the other. The files are gone through once; then each sample is read from its place.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::error::IoContext;
use crate::base::number::count;
use crate::base::{Error, Result, Rng, text};
use crate::config::{Diag, OneOrMany};
use crate::data::{
    Dataset, FieldSpec, Fields, Marks, Member, Origin, Picture, PictureFile, Pipeline, Sample, SampleId,
    TARGET, Unread, Value,
};
use crate::registry::BuildCx;

use super::folder::{EXTENSIONS, fields};
use super::keys::{Indices, with_common_keys};

/// Pictures in tar files, with their classes.
pub struct WebDataset {
    shards: Vec<PathBuf>,
    samples: Vec<Shot>,
    classes: Option<Vec<String>>,
    pipeline: Arc<Pipeline>,
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
        let mut samples = Vec::new();
        for (number, path) in shards.iter().enumerate() {
            Shard { path, number, with_label, samples: &mut samples }.index()?;
        }
        match samples.is_empty() {
            true => {
                let shards =
                    shards.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
                Err(Error::invalid(format!("no picture in {shards}: one ends in {}", EXTENSIONS.join(", "))))
            }
            false => Ok(Self { shards, samples, classes: None, pipeline: Arc::default() }),
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

/// One tar file, and where its samples go.
struct Shard<'a> {
    path: &'a Path,
    number: usize,
    with_label: bool,
    samples: &'a mut Vec<Shot>,
}

/// A sample of which some files are known.
#[derive(Default)]
struct Parts {
    key: String,
    picture: Option<Member>,
    label: Option<i64>,
}

/// Headers and members begin at multiples of it.
const BLOCK: u64 = 512;

/// More than the digits of any class.
const MOST_DIGITS: u64 = 32;

impl Shard<'_> {
    fn index(&mut self) -> Result<()> {
        text::regular(self.path)?;
        let mut file = File::open(self.path).at(self.path)?;
        let size = file.metadata().at(self.path)?.len();
        self.is_packed(&file)?;
        file.rewind().at(self.path)?;
        let mut archive = tar::Archive::new(file);
        let mut parts = Parts::default();
        // Where the next member begins.
        let mut next = 0;
        for entry in archive.entries_with_seek().at(self.path)? {
            let entry = entry.map_err(|error| self.broken(&error, next, size))?;
            let (offset, len) = (entry.raw_file_position(), entry.size());
            let kind = entry.header().entry_type();
            // One with holes is shorter in the file than it says.
            let stored = if kind.is_gnu_sparse() { 0 } else { len };
            let end = offset.saturating_add(stored);
            if end > size {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let (at, over) = (size, end - size);
                return Err(self.wrong(&format!(
                    "it is cut off in {name}, at byte {at}: {over} bytes of it are missing. Copy the file anew"
                )));
            }
            next = end.div_ceil(BLOCK).saturating_mul(BLOCK);
            if !kind.is_file() {
                continue;
            }
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|_| self.wrong("a name is not UTF-8"))?;
            let Some((key, ending)) = key_of(&name) else { continue };
            if key != parts.key {
                self.done(std::mem::replace(&mut parts, Parts { key: key.to_owned(), ..Parts::default() }))?;
            }
            if EXTENSIONS.iter().any(|known| known[1..] == ending) {
                let first = parts.picture.replace(Member { name, offset, len });
                if let (Some(first), Some(second)) = (first, &parts.picture) {
                    return Err(self.twice(&first.name, &second.name, "pictures"));
                }
            } else if ending == "cls" {
                let mut digits = String::new();
                entry.take(MOST_DIGITS).read_to_string(&mut digits).at(self.path)?;
                let label = digits.trim().parse::<u32>().map_err(|_| {
                    self.wrong(&format!("{name} holds {digits:?}: it is to be the number of a class"))
                })?;
                if parts.label.replace(label.into()).is_some() {
                    return Err(self.twice(&parts.key, &name, "classes"));
                }
            }
        }
        // One that is cut off between two members has lost the others without a trace, but for the mark at its end.
        if size < next.saturating_add(BLOCK) {
            return Err(self.wrong(&format!(
                "it ends at byte {size} without the mark that a tar archive ends with: members may be missing. \
                 Copy the file anew; if it is whole, add the mark by `head -c 1024 /dev/zero >> FILE`"
            )));
        }
        self.done(parts)
    }

    /// # Errors
    /// When the file is packed, as the first bytes of it tell.
    fn is_packed(&self, file: &File) -> Result<()> {
        let mut head = Vec::new();
        file.take(6).read_to_end(&mut head).at(self.path)?;
        let kinds: [(&[u8], &str, &str); 5] = [
            (b"\x1f\x8b", "is gzipped", "gunzip"),
            (b"BZh", "is packed by bzip2", "bunzip2"),
            (b"\xfd7zXZ", "is packed by xz", "unxz"),
            (b"\x28\xb5\x2f\xfd", "is packed by zstd", "unzstd"),
            (b"PK\x03\x04", "is a zip file", "unzip"),
        ];
        match kinds.into_iter().find(|(mark, _, _)| head.starts_with(mark)) {
            Some((_, what, by)) => Err(self.wrong(&format!(
                "this {what}, and samples are read from their places: unpack it first, `{by}`"
            ))),
            None => Ok(()),
        }
    }

    /// What is wrong where the member at `next` ought to begin. What the reader says of it quotes bytes of the file.
    fn broken(&self, error: &std::io::Error, next: u64, size: u64) -> Error {
        match error.kind() {
            ErrorKind::Other
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::UnexpectedEof => self.wrong(&match (next, size.saturating_sub(next) < BLOCK) {
                (0, _) => "this is no tar archive: it does not begin with the header of one".to_owned(),
                (_, true) => format!("it is cut off at byte {size}, in a header. Copy the file anew"),
                (_, false) => format!(
                    "there is no whole header of a member at byte {next}: it is damaged. Copy the file anew"
                ),
            }),
            kind => self.wrong(&format!("it cannot be read at byte {next}: {kind}")),
        }
    }

    /// Takes up a sample of which all files are known.
    fn done(&mut self, parts: Parts) -> Result<()> {
        let Some(picture) = parts.picture else { return Ok(()) };
        let label = match (self.with_label, parts.label) {
            (false, _) => -1,
            (true, Some(label)) => label,
            (true, None) => {
                return Err(self.wrong(&format!(
                    "there is no {}.cls beside {}: without classes it takes `with_label: false`",
                    parts.key, picture.name
                )));
            }
        };
        self.samples.push(Shot { shard: self.number, picture: Arc::new(picture), label });
        Ok(())
    }

    /// Files that lie one behind the other are of one sample where their names are one up to the first point.
    fn twice(&self, first: &str, second: &str, what: &str) -> Error {
        self.wrong(&format!(
            "{first} and {second} are two {what} of one sample, as their names are one up to the first point: give each \
             sample a name of its own"
        ))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::invalid(format!("{}: {what}", self.path.display()))
    }
}

/// What files of a sample have in common, and the ending in lower case: they are parted at the first point of the name.
fn key_of(name: &str) -> Option<(&str, String)> {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let point = file + name.get(file..)?.find('.').filter(|at| *at > 0)?;
    Some((name.get(..point)?, name.get(point + 1..)?.to_lowercase()))
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

/// A tar file itself, or those of a folder in the order of their names.
fn in_place(path: &Path) -> Result<Vec<PathBuf>> {
    let missing = |what: &str| Error::Missing { path: path.to_owned(), what: what.to_owned() };
    if !path.exists() {
        return Err(missing("no such tar file, or folder of tar files"));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).at(path)?.map(|entry| Ok(entry.at(path)?.path()));
    let mut shards: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    shards.retain(|path| path.extension().is_some_and(|ending| ending == "tar"));
    shards.sort();
    if shards.is_empty() { Err(missing("no file in it ends in .tar")) } else { Ok(shards) }
}

/// `train-08.tar` to `train-11.tar` of `train-{08..11}.tar`.
fn expanded(text: &str) -> Result<Vec<String>> {
    let range = text.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (range, after))) = range else { return Ok(vec![text.to_owned()]) };
    let ends =
        range.split_once("..").and_then(|(a, b)| Some((a, a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
    match ends {
        Some((digits, from, to)) if from <= to && to - from < 1_000_000 => {
            Ok((from..=to).map(|n| format!("{before}{n:0width$}{after}", width = digits.len())).collect())
        }
        _ => Err(Error::config(format!("`{{{range}}}` is no range of numbers such as {{000..099}}"))),
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
            let set = Self { shards: Vec::new(), samples: Vec::new(), classes: None, pipeline };
            return Indices::cut(p.indices.as_ref(), set, cx);
        }
        let mut shards = Vec::new();
        for url in p.urls.iter().map(|url| expanded(url)).collect::<Result<Vec<_>>>()?.concat() {
            shards.extend(in_place(&p.data_root.join(url))?);
        }
        let set = Self::load(shards, p.with_label)?.with_classes(p.names()?)?;
        cx.warn(set.named_alike().map(Diag::warning));
        Indices::cut(p.indices.as_ref(), Self { pipeline, ..set }, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parted_at_the_first_point_of_the_file() {
        let of = |name| key_of(name).map(|(key, ending)| format!("{key} {ending}"));
        assert_eq!(of("a.b/0001.seg.PNG").unwrap(), "a.b/0001 seg.png");
        assert_eq!(of("0001.jpg").unwrap(), "0001 jpg");
        assert_eq!([of("README"), of(".hidden.jpg"), of("a/.x"), of("")], [None, None, None, None]);
    }

    #[test]
    fn ranges_of_shards_are_counted_out() {
        assert_eq!(expanded("a-{08..11}.tar").unwrap(), ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]);
        assert_eq!(expanded("a.tar").unwrap(), ["a.tar"]);
        for wrong in ["{2..1}", "{a..b}", "{1,2}", "{0..4294967295}"] {
            assert!(expanded(wrong).unwrap_err().to_string().contains("is no range of numbers"), "{wrong}");
        }
    }
}
