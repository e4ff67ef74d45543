//! What a data set is, in a few words that a checkpoint keeps: a run that is resumed must find the data that it left.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::Dataset;
use super::classes::shown;

/// What tells a data set from another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fingerprint {
    /// Number of samples.
    pub len: u64,
    /// Names of the classes, where they are known.
    pub classes: Option<Vec<String>>,
    /// Digest of the samples' names and classes, in order; empty where samples have no names.
    pub names: String,
    /// Digest of what the samples hold; empty where the set does not tell.
    pub contents: String,
}

/// What a data set adds to its fingerprint, see [`Dataset::mark`].
#[derive(Default)]
pub struct Marks {
    names: Xxh3,
    contents: Xxh3,
    named: bool,
    told: bool,
}

impl Marks {
    /// Adds what samples are called: a name, a class, a position in another set.
    pub fn name(&mut self, name: &[u8]) {
        self.names.update(&(name.len() as u64).to_le_bytes());
        self.names.update(name);
        self.named = true;
    }

    /// Adds what samples hold, or what they are made from.
    pub fn contents(&mut self, bytes: &[u8]) {
        self.contents.update(&(bytes.len() as u64).to_le_bytes());
        self.contents.update(bytes);
        self.told = true;
    }
}

impl Fingerprint {
    /// The fingerprint of a set whose samples are told apart by what it marks.
    pub fn of(dataset: &dyn Dataset) -> Self {
        let mut marks = Marks::default();
        dataset.mark(&mut marks);
        let hex = |told: bool, digest: &Xxh3| match told {
            true => format!("{:032x}", digest.digest128()),
            false => String::new(),
        };
        Self {
            len: dataset.len() as u64,
            classes: dataset.classes().map(<[_]>::to_vec),
            names: hex(marks.named, &marks.names),
            contents: hex(marks.told, &marks.contents),
        }
    }

    /// What has changed between this set and the one of now, in words.
    ///
    /// ```
    /// use shanty::data::{Fingerprint, Synthetic};
    /// let of = |n| Fingerprint::of(&Synthetic::new(n, [1, 2, 2], 2, 0));
    /// assert_eq!(of(160).changes(&of(170)), ["160 samples then, 170 now"]);
    /// assert!(of(160).changes(&of(160)).is_empty());
    /// ```
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.len != now.len {
            changes.push(format!("{} samples then, {} now", self.len, now.len));
        }
        if self.classes != now.classes {
            let names = |classes: &Option<Vec<String>>| classes.as_deref().map_or("none".to_owned(), shown);
            changes.push(format!("classes {} then, {} now", names(&self.classes), names(&now.classes)));
        }
        if self.len == now.len && self.names != now.names {
            changes.push("other names or classes of samples, or another order".to_owned());
        } else if self.len == now.len && self.contents != now.contents {
            changes.push("other contents of samples".to_owned());
        }
        changes
    }
}
