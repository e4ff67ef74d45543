//! Whether two data sets have samples in common: what is measured on samples that were trained on says nothing.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Dataset, Fingerprint, Origin};

/// How many samples of a set are looked at: a repeated one may have any number.
const MOST: usize = 1 << 22;

/// What `other` has of `train`, in words: by the file and the row of each sample, so that no sample is read. Sets that
/// do not say where their samples come from are compared as wholes.
pub(crate) fn in_common(train: &dyn Dataset, other: &dyn Dataset) -> Option<String> {
    let mut places = Places::default();
    let trained: HashSet<u64> = places.of(train).map(|(key, _)| key).collect();
    let mut common = places.of(other).filter(|(key, _)| trained.contains(key)).map(|(_, origin)| origin);
    let (first, more, len) = (common.next(), common.count(), other.len().min(MOST));
    match first {
        Some(first) if more + 1 == len => Some(format!("all {len} samples, from {} on,", shown(&first))),
        Some(first) => Some(format!("{} of the {len} samples, the first being {},", more + 1, shown(&first))),
        None if train.len() == other.len() && same(train, other) => Some(format!("all {len} samples")),
        None => None,
    }
}

/// Whether both tell what they hold, and it is the same.
fn same(train: &dyn Dataset, other: &dyn Dataset) -> bool {
    let mark = Fingerprint::of(train);
    !mark.contents.is_empty() && mark == Fingerprint::of(other)
}

fn shown(origin: &Origin) -> String {
    match origin {
        Origin::Row { file: Some(file), id } => format!("row {} of {}", id.row(), file.display()),
        Origin::File(file) => file.display().to_string(),
        Origin::Row { file: None, .. } | Origin::Position => "a sample".to_owned(),
    }
}

/// The files of a run, each by one name however it is written.
#[derive(Default)]
struct Places(HashMap<PathBuf, PathBuf>);

impl Places {
    /// Of each sample that is in a file a number that stands for its place, and the place.
    fn of(&mut self, set: &dyn Dataset) -> impl Iterator<Item = (u64, Origin)> {
        (0..set.len().min(MOST)).filter_map(move |index| {
            let origin = set.origin(index);
            let key = match &origin {
                Origin::Row { file: Some(file), id } => key(self.real(file), id.row()),
                // Files are many, and their folders few.
                Origin::File(file) => key(&self.real(file.parent()?).join(file.file_name()?), 0),
                Origin::Row { file: None, .. } | Origin::Position => return None,
            };
            Some((key, origin))
        })
    }

    fn real(&mut self, path: &Path) -> &Path {
        if !self.0.contains_key(path) {
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            self.0.insert(path.to_owned(), real);
        }
        self.0.get(path).map_or(Path::new(""), PathBuf::as_path)
    }
}

fn key(file: &Path, row: u64) -> u64 {
    xxh3_64_with_seed(file.as_os_str().as_encoded_bytes(), row)
}
