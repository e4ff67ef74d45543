//! CIFAR-10 and CIFAR-100, as Python's pickles or in the binary layout.

mod names;
mod pickle;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::{Indices, Prefix, with_common_keys};
use super::pixels::{Pixels, pictures};
use crate::base::error::IoContext;
use crate::base::memory::human;
use crate::base::{Error, Result, text};
use crate::data::{Dataset, Pipeline, Unread};
use crate::registry::BuildCx;
use pickle::Pickle;

/// A part of the pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CifarSplit {
    /// 50,000 pictures to learn from.
    #[default]
    Train,
    /// 10,000 pictures to test with.
    Test,
}

/// CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32 × 32 pixels of red, green and blue, 10 or 100 classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cifar {
    /// 10 classes.
    Ten,
    /// 100 classes, the fine ones.
    Hundred,
}

/// Values of a picture: a plane of 32 × 32 for each colour.
const PLANE: usize = 32 * 32;
const PICTURE: usize = 3 * PLANE;
/// CIFAR-100's training part, the largest file, has 155 MB.
const MOST_BYTES: u64 = 1 << 29;

/// How the pictures are stored.
#[derive(Clone, Copy)]
struct Layout {
    /// The folder that the archive unpacks to.
    folder: &'static str,
    files: [&'static [&'static str]; 2],
    read: Read,
}

/// What makes of a file the pictures, plane by plane, and their classes.
type Read = fn(Cifar, &[u8]) -> Result<(Vec<u8>, Vec<u8>), String>;

impl Layout {
    fn of(folder: &'static str, files: [&'static [&'static str]; 2], read: Read) -> Self {
        Self { folder, files, read }
    }
}

impl Cifar {
    fn name(self) -> &'static str {
        match self {
            Self::Ten => "CIFAR-10",
            Self::Hundred => "CIFAR-100",
        }
    }

    fn layouts(self) -> [Layout; 2] {
        match self {
            Self::Ten => [
                Layout::of("cifar-10-batches-py", [&names::TEN_PICKLES, &["test_batch"]], pickled),
                Layout::of("cifar-10-batches-bin", [&names::TEN_BINARIES, &["test_batch.bin"]], binary),
            ],
            Self::Hundred => [
                Layout::of("cifar-100-python", [&["train"], &["test"]], pickled),
                Layout::of("cifar-100-binary", [&["train.bin"], &["test.bin"]], binary),
            ],
        }
    }

    /// One part from `folder`, which holds the files or the folder that an archive of the authors' unpacks to.
    ///
    /// # Errors
    /// [`Error::Missing`] when files are missing, with what is needed; [`Error::Invalid`] when one is damaged.
    pub fn load(self, folder: &Path, split: CifarSplit) -> Result<Pixels> {
        text::no_file(folder)?;
        let part = usize::from(split == CifarSplit::Test);
        let places = self
            .layouts()
            .into_iter()
            .flat_map(|layout| [folder.join(layout.folder), folder.to_owned()].map(|place| (place, layout)));
        let has_all = |(place, layout): &(PathBuf, Layout)| {
            layout.files[part].iter().all(|file| place.join(file).exists())
        };
        let Some((place, layout)) = places.into_iter().find(has_all) else {
            return Err(self.missing(folder, part));
        };
        let (mut bytes, mut labels, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for file in layout.files[part].iter().map(|file| place.join(file)) {
            let wrong = |why: String| Error::invalid(format!("{}: {why}", file.display()));
            text::regular(&file)?;
            let size = std::fs::metadata(&file).at(&file)?.len();
            if size > MOST_BYTES {
                return Err(wrong(format!("{} are no part of {}", human(size as f64), self.name())));
            }
            let (planes, classes) = (layout.read)(self, &std::fs::read(&file).at(&file)?).map_err(wrong)?;
            if let Some(at) = classes.iter().position(|class| usize::from(*class) >= self.classes().len()) {
                return Err(wrong(format!(
                    "picture {at} is of class {}, beyond those of {}",
                    classes[at],
                    self.name()
                )));
            }
            pixels_of(&planes, &mut bytes);
            files.push((file, classes.len()));
            labels.extend(classes);
        }
        Ok(Pixels::new(bytes, labels, (32, 32, 3), self.classes())?.kept_as_bytes().stored_in(files))
    }

    fn classes(self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Ten => &names::TEN,
            Self::Hundred => &names::HUNDRED,
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn missing(self, folder: &Path, part: usize) -> Error {
        let wanted =
            self.layouts().map(|layout| format!("{}/{{{}}}", layout.folder, layout.files[part].join(", ")));
        let archive = |layout: Layout| {
            format!(
                "{}.tar.gz",
                layout.folder.replace("-batches-py", "-python").replace("-batches-bin", "-binary")
            )
        };
        let archives = self.layouts().map(archive);
        let packed = archives.iter().find(|name| folder.join(name).exists());
        // A copy that broke off is told from a folder that is another one.
        let broken = self.layouts().into_iter().find_map(|layout| {
            let there = |name: &&str| {
                [folder.join(layout.folder).join(name), folder.join(name)].iter().any(|file| file.exists())
            };
            let (found, absent): (Vec<&str>, Vec<&str>) = layout.files[part].iter().copied().partition(there);
            (!found.is_empty() && !absent.is_empty()).then(|| (layout.folder, absent.join(", ")))
        });
        if let Some((of, absent)) = broken {
            let what = format!("of the files of {} in {of} there is no {absent}: copy it again", self.name());
            return Error::Missing { path: folder.to_owned(), what };
        }
        let what = match packed {
            Some(name) => format!("no {} here, but its archive: unpack it, `tar xzf {name}`", self.name()),
            None => format!(
                "no {} here. Looked for were {}, also without their folder. They are what {} of its authors \
                 (www.cs.toronto.edu/~kriz/cifar.html) unpack to; name the folder as `data_root`",
                self.name(),
                wanted.join(" and "),
                archives.join(" or ")
            ),
        };
        Error::Missing { path: folder.to_owned(), what }
    }
}

/// Those of a pickle.
fn pickled(of: Cifar, file: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let pickle =
        Pickle::read(file).map_err(|why| format!("it cannot be read as a pickle of pictures: {why}"))?;
    let labels = if of == Cifar::Ten { "labels" } else { "fine_labels" };
    // What is pickled by other means than those of plain data is named: nothing of a pickle is run.
    let called = |name: &str| {
        let call = pickle.call(name);
        call.map(|of| format!(": it asks for a call of {of}, and nothing is called")).unwrap_or_default()
    };
    let classes = pickle
        .ints(labels)
        .ok_or_else(|| format!("it has no list `{labels}` of whole numbers{}", called(labels)))?;
    let (shape, planes) =
        pickle.array("data").ok_or_else(|| format!("it has no array `data` of bytes{}", called("data")))?;
    if shape != [classes.len(), PICTURE] || planes.len() != classes.len() * PICTURE {
        return Err(format!(
            "`data` of shape {shape:?} is not {} pictures of {PICTURE} values",
            classes.len()
        ));
    }
    let class = |class: &i64| u8::try_from(*class).map_err(|_| format!("{class} is no class"));
    Ok((planes.into_owned(), classes.iter().map(class).collect::<Result<_, _>>()?))
}

/// Those of records: the number of the class, of CIFAR-100 behind that of the coarse one, then the picture.
fn binary(of: Cifar, file: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let head = if of == Cifar::Ten { 1 } else { 2 };
    let records = file.chunks_exact(head + PICTURE);
    if !records.remainder().is_empty() || file.is_empty() {
        return Err(format!("its {} bytes are no records of {}: it is damaged", file.len(), head + PICTURE));
    }
    let mut planes = Vec::with_capacity(file.len());
    let classes = records.map(|record| {
        planes.extend_from_slice(&record[head..]);
        record[head - 1]
    });
    let classes = classes.collect();
    Ok((planes, classes))
}

/// Appends the pictures pixel by pixel.
fn pixels_of(planes: &[u8], to: &mut Vec<u8>) {
    to.reserve_exact(planes.len());
    for picture in planes.chunks_exact(PICTURE) {
        to.extend((0..PLANE).flat_map(|at| [picture[at], picture[PLANE + at], picture[2 * PLANE + at]]));
    }
}

with_common_keys! {
    struct CifarConfig {
        /// Folder of the data.
        #[serde(default)]
        data_root: PathBuf,
        /// A folder within it.
        #[serde(default)]
        data_prefix: Option<Prefix>,
        /// train or test.
        #[serde(default)]
        split: CifarSplit,
        /// Accepted for MMPretrain's configs; `split` alone decides.
        #[serde(default)]
        #[allow(dead_code)]
        test_mode: bool,
        /// Accepted for MMPretrain's configs: nothing is fetched, what is missing is told.
        #[serde(default)]
        #[allow(dead_code)]
        download: Option<bool>,
    }
}

crate::register! {
    /// 60,000 pictures of 10 classes, 32 × 32 pixels of red, green and blue: Python's pickles or the binary files.
    ///
    /// ```yaml
    /// {type: CIFAR10, data_root: data/cifar10, split: train}
    /// ```
    dyn Dataset, "CIFAR10" => fn Cifar::ten
}

crate::register! {
    /// 60,000 pictures of 100 classes, 32 × 32 pixels of red, green and blue: Python's pickles or the binary files.
    ///
    /// ```yaml
    /// {type: CIFAR100, data_root: data/cifar100, split: train}
    /// ```
    dyn Dataset, "CIFAR100" => fn Cifar::hundred
}

impl Cifar {
    fn ten(p: CifarConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        Self::Ten.built(p, cx)
    }

    fn hundred(p: CifarConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        Self::Hundred.built(p, cx)
    }

    fn built(self, p: CifarConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        let pipeline = Pipeline::build_for(&pictures(Some([32, 32, 3])), &p.pipeline, cx)?;
        let folder = Prefix::within(p.data_prefix.as_ref(), &p.data_root);
        if folder.as_os_str().is_empty() {
            return Err(Error::config(format!("where is {}? Give its folder as `data_root`", self.name())));
        }
        if Unread::is_enough(cx) {
            return Err(Error::config(format!("{} reads no other files: leave out `--input`", self.name())));
        }
        let set = self.load(&folder, p.split)?.renamed(p.names()?)?;
        Indices::cut(p.indices.as_ref(), set.with_pipeline(pipeline), cx)
    }
}
