//! What stands in the way of the checkpoints that a run is going to write: better known before the first step than when
//! the first one is due.

use std::collections::BTreeSet;

use super::owned::{Folder, Folders};
use crate::base::durable::TEMPORARY;
use crate::base::error::IoContext;
use crate::base::fs::FileSystem;
use crate::base::{Error, Result};

/// The names that a run may give to its checkpoints.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Each with `{}` for a number: `epoch_{}`.
    pub templates: Vec<String>,
    /// The largest number that it will come to.
    pub most: u64,
}

impl Names {
    /// Whether it is one of them.
    pub(super) fn include(&self, name: &str) -> bool {
        let number = |template: &str| {
            let (before, after) = template.split_once("{}")?;
            name.strip_prefix(before)?.strip_suffix(after)?.parse::<u64>().ok()
        };
        self.templates.iter().any(|template| number(template).is_some_and(|n| n <= self.most))
    }
}

/// All that has, or occupies, the name of a checkpoint of this run, and is not shanty's to move. Nothing is changed.
///
/// # Errors
/// When a folder cannot be read.
pub fn obstacles(fs: &dyn FileSystem, folders: &Folders, names: &Names) -> Result<Vec<Error>> {
    let mut found = Vec::new();
    for dir in folders.all() {
        if fs.entry(dir).at(dir)?.is_none() {
            continue;
        }
        let mut occupied = BTreeSet::new();
        for entry in fs.list(dir).at(dir)? {
            let Some(name) = entry.to_str() else { continue };
            let aside = name.strip_prefix(TEMPORARY).and_then(|rest| rest.split_once('-'));
            occupied.insert(aside.map_or(name, |(_, name)| name).to_owned());
        }
        let folder = Folder::new(fs, dir);
        let occupied = occupied.iter().filter(|name| names.include(name));
        found.extend(occupied.flat_map(|name| folder.not_ours(name)));
    }
    Ok(found)
}
