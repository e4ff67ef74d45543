//! The data of a run, held against those of the checkpoint that it resumes: another sample at one position is another
//! run.

use std::collections::BTreeMap;
use std::path::Path;

use super::Session;
use crate::base::{Error, Result};
use crate::checkpoint::Meta;
use crate::data::{DataLoader, Fingerprint};

/// What the training data are called in a checkpoint.
const TRAIN: &str = "training data";

impl Session {
    /// The loaders of the run, by what they are for.
    pub(super) fn loaders(&self) -> impl Iterator<Item = (&'static str, &DataLoader)> {
        let evaluated = [("validation data", &self.val), ("test data", &self.test)];
        let evaluated = evaluated.into_iter().filter_map(|(name, e)| Some((name, &e.as_ref()?.data)));
        self.state.data.iter().map(|data| (TRAIN, data)).chain(evaluated)
    }

    /// The data sets of now.
    pub(super) fn fingerprints(&self) -> BTreeMap<String, Fingerprint> {
        match self.state.info.dry_run {
            true => BTreeMap::new(),
            false => {
                self.loaders().map(|(name, data)| (name.to_owned(), data.fingerprint().clone())).collect()
            }
        }
    }

    /// Takes up what a checkpoint knows about the data.
    ///
    /// # Errors
    /// What has changed, when the training data are not those of the checkpoint and nobody said that they may be
    /// others.
    pub(super) fn compare_data(&self, path: &Path, meta: &Meta, allow: bool) -> Result<()> {
        for (name, data) in self.loaders() {
            let Some(then) = meta.data.get(name) else { continue };
            let changes = then.changes(data.fingerprint());
            if changes.is_empty() {
                continue;
            }
            let text = format!("the {name} are not those of the checkpoint: {}", changes.join("; "));
            if name == TRAIN && !allow {
                let remedy = "bring them back, or set `allow_data_changes: true` to go on with what is there";
                return Err(Error::checkpoint(path, format!("{text}; {remedy}")));
            }
            self.state.log.warn(text);
        }
        if let Some(data) = &self.state.data {
            data.remember_bad(meta.unreadable.clone());
        }
        Ok(())
    }
}
