//! The MNIST digits, and FashionMNIST's clothes, read from their IDX files.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, text};
use crate::data::{Dataset, Pipeline};
use crate::registry::BuildCx;

use super::idx;
use super::keys::{Indices, with_common_keys};
use super::pixels::{Pixels, digit_names, pictures};

/// Which part of MNIST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MnistSplit {
    /// The 60,000 images to learn from.
    Train,
    /// The 10,000 images to test with.
    Test,
}

impl MnistSplit {
    /// Images and labels.
    fn files(self) -> [&'static str; 2] {
        match self {
            Self::Train => ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
            Self::Test => ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
        }
    }
}

/// MNIST (LeCun, Cortes and Burges 1998): 28 × 28 pixels of one channel with values 0..=255, ten classes.
pub struct Mnist;

impl Mnist {
    /// One part of MNIST from the files in `folder`, plain or gzipped.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a file is missing, with what is needed and how to get it, or when one is damaged.
    pub fn load(folder: &Path, split: MnistSplit) -> Result<Pixels> {
        text::no_file(folder)?;
        let [images, labels] = split.files().map(|name| find(folder, name));
        let (Some(images), Some(labels)) = (images, labels) else { return Err(missing(folder, "MNIST")) };
        // To open a pipe would wait for whoever writes into it.
        [&images, &labels].into_iter().try_for_each(|file| text::regular(file))?;
        let (shape, bytes) = idx::read(&images, 3)?;
        let (_, labels) = idx::read(&labels, 1)?;
        if labels.len() != shape[0] {
            return Err(Error::invalid(format!(
                "{}: {} images, but {} labels",
                images.display(),
                shape[0],
                labels.len()
            )));
        }
        let set = Pixels::new(bytes, labels, (shape[1], shape[2], 1), digit_names())?;
        Ok(set.stored_in(vec![(images, shape[0])]))
    }
}

with_common_keys! {
    #[derive(Default)]
    struct MnistConfig {
        /// Folder of the data; `data/mnist`, or `data/fashion_mnist`, if neither this nor `data_prefix` is given.
        #[serde(default)]
        data_root: Option<PathBuf>,
        /// Folder of the four files, within `data_root` unless it is absolute.
        #[serde(default)]
        data_prefix: Option<PathBuf>,
        /// train or test.
        #[serde(default)]
        split: Option<MnistSplit>,
        /// Whether to read the test images: MMPretrain's way to say `split: test`.
        #[serde(default)]
        test_mode: Option<bool>,
        /// Accepted for MMPretrain's configs: nothing is fetched, what is missing is told.
        #[serde(default)]
        #[allow(dead_code)]
        download: Option<bool>,
    }
}

impl MnistConfig {
    fn folder(&self, usual: &str) -> PathBuf {
        match (&self.data_root, &self.data_prefix) {
            (None, None) => PathBuf::from(usual),
            (root, prefix) => {
                root.clone().unwrap_or_default().join(prefix.as_deref().unwrap_or(Path::new("")))
            }
        }
    }

    fn part(&self) -> Result<MnistSplit> {
        let by_mode = self.test_mode.map(|test| if test { MnistSplit::Test } else { MnistSplit::Train });
        match (self.split, by_mode) {
            (Some(a), Some(b)) if a != b => {
                Err(Error::config("`split` and `test_mode` name different parts: leave one out"))
            }
            (a, b) => Ok(a.or(b).unwrap_or(MnistSplit::Train)),
        }
    }
}

crate::register! {
    /// The 70,000 MNIST digits, 28 × 28 pixels with values 0..=255, from their four IDX files, plain or gzipped.
    dyn Dataset, "MNIST" => fn Mnist::from_config
}

crate::register! {
    /// FashionMNIST's 70,000 pictures of ten kinds of clothes, stored as MNIST's.
    ///
    /// ```yaml
    /// {type: FashionMNIST, data_root: data/fashion_mnist, split: train}
    /// ```
    dyn Dataset, "FashionMNIST" => fn Mnist::fashion
}

/// The kinds of clothes of FashionMNIST (Xiao, Rasul and Vollgraf 2017).
const CLOTHES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

impl Mnist {
    fn from_config(p: MnistConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        Self::named("MNIST", "data/mnist", None, p, cx)
    }

    fn fashion(p: MnistConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        let clothes = CLOTHES.map(str::to_owned).to_vec();
        Self::named("FashionMNIST", "data/fashion_mnist", Some(clothes), p, cx)
    }

    fn named(
        name: &str,
        usual: &str,
        classes: Option<Vec<String>>,
        p: MnistConfig,
        cx: &mut BuildCx,
    ) -> Result<Box<dyn Dataset>> {
        let pipeline = Pipeline::build_for(&pictures(Some([28, 28, 1])), &p.pipeline, cx)?;
        let set = Self::load(&p.folder(usual), p.part()?).map_err(|error| match error {
            Error::Missing { path, .. } => missing(&path, name),
            other => other,
        })?;
        let set = set.renamed(p.names()?.or(classes))?;
        Indices::cut(p.indices.as_ref(), set.with_pipeline(pipeline), cx)
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.exists())
}

fn missing(folder: &Path, name: &str) -> Error {
    let files = [MnistSplit::Train.files(), MnistSplit::Test.files()].concat();
    let absent: Vec<&str> = files.iter().copied().filter(|name| find(folder, name).is_none()).collect();
    let what = format!(
        "no {name} here. Its four files are {}, each plain or with .gz behind its name; missing: {}. Take them from the \
         {name} page of their authors or from any copy, put them into one folder (data/mnist, say) and name it as \
         data_prefix. The data set Digits needs no file.",
        files.join(", "),
        absent.join(", ")
    );
    Error::Missing { path: folder.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    /// Two images of 2 × 3 pixels.
    fn images() -> Vec<u8> {
        let header = [0u8, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        header.into_iter().chain(1..=12).collect()
    }

    fn write(folder: &Path, images: &[u8], labels: &[u8]) {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(images).unwrap();
        std::fs::write(folder.join("t10k-images-idx3-ubyte.gz"), gz.finish().unwrap()).unwrap();
        std::fs::write(folder.join("t10k-labels-idx1-ubyte"), labels).unwrap();
    }

    #[test]
    fn reads_plain_and_gzipped_files() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &images(), &[0, 0, 8, 1, 0, 0, 0, 2, 7, 9]);
        let mnist = Mnist::load(dir.path(), MnistSplit::Test).unwrap();
        let second = mnist.get(1, &mut keyed(0, "", 0, 0)).unwrap();
        let img = second.float("inputs").unwrap();
        assert_eq!((mnist.len(), second.label(), img.shape()), (2, Some(9), &[1, 2, 3][..]));
        assert_eq!(img.iter().copied().collect::<Vec<_>>(), [7., 8., 9., 10., 11., 12.]);
    }

    #[test]
    fn a_missing_file_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &images(), &[0, 0, 8, 1, 0, 0, 0, 2, 7, 9]);
        let text = Mnist::load(dir.path(), MnistSplit::Train).err().unwrap().to_string();
        assert!(
            text.contains("missing: train-images-idx3-ubyte, train-labels-idx1-ubyte. Take them"),
            "{text}"
        );
        assert!(
            text.contains("t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each plain or with .gz"),
            "{text}"
        );
    }

    #[test]
    fn folder_and_part_follow_the_references_keys() {
        let params = |root: Option<&str>, prefix: Option<&str>, split, test_mode| MnistConfig {
            data_root: root.map(PathBuf::from),
            data_prefix: prefix.map(PathBuf::from),
            split,
            test_mode,
            ..MnistConfig::default()
        };
        let folder = |root, prefix| params(root, prefix, None, None).folder("data/mnist");
        assert_eq!(folder(None, None), Path::new("data/mnist"));
        assert_eq!(folder(None, Some("a/b")), Path::new("a/b"));
        assert_eq!(folder(Some("a"), Some("b")), Path::new("a/b"));
        assert_eq!(folder(Some("a"), Some("/b")), Path::new("/b"));
        assert_eq!(folder(Some("a"), None), Path::new("a"));

        let part = |split, mode| params(None, None, split, mode).part().ok();
        assert_eq!(part(None, None), Some(MnistSplit::Train));
        assert_eq!(part(None, Some(true)), Some(MnistSplit::Test));
        assert_eq!(part(Some(MnistSplit::Test), None), Some(MnistSplit::Test));
        assert_eq!(part(Some(MnistSplit::Train), Some(true)), None);
        assert_eq!(part(Some(MnistSplit::Test), Some(true)), Some(MnistSplit::Test));
    }

    #[test]
    fn damaged_files_are_refused() {
        let refused = |images: &[u8], labels: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), images, labels);
            Mnist::load(dir.path(), MnistSplit::Test).err().unwrap().to_string()
        };
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 7, 9];
        assert!(refused(&images()[..27], &labels).contains("holds 11 values, its header promises [2, 2, 3]"));
        assert!(refused(&labels, &labels).contains("not an IDX file of bytes with 3 axes"));
        assert!(refused(&images(), &[0, 0, 8, 1, 0, 0, 0, 1, 7]).contains("2 images, but 1 labels"));
        assert!(refused(&images(), &[0, 0, 8, 1, 0, 0, 0, 2, 7, 10]).contains("image 1 has label 10"));
    }
}
