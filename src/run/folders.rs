//! The folders of a run, taken for it before anything is written: locked, swept, and noted as its own.

use super::Session;
use crate::base::error::IoContext;
use crate::base::{Result, durable};
use crate::checkpoint::{self, Folders, Owner};

impl Session {
    pub(super) fn lock_dirs(&mut self) -> Result<()> {
        let dirs = &self.state.dirs;
        let declared: Vec<_> =
            self.hooks.slots().iter().filter_map(|slot| slot.hook.save_dir(dirs)).collect();
        let fs = &*self.state.fs;
        let (mut folders, mut places) = (Folders::of(&dirs.work), Vec::new());
        for dir in std::iter::once(dirs.work.clone()).chain(declared) {
            durable::make_dir(fs, &dir)?;
            let path = fs.canonical(&dir).at(&dir)?;
            if places.iter().all(|(_, held)| *held != path) {
                self.saving.locks.push(checkpoint::lock_dir(fs, &path)?);
                for error in checkpoint::recover(fs, &path)? {
                    self.state
                        .log
                        .warn(format_args!("what an earlier run left cannot be cleared away: {error}"));
                }
            }
            folders.add(path.clone());
            places.push((dir, path));
        }
        (self.saving.folders, self.saving.places) = (folders, places);
        Ok(())
    }

    /// Notes whose the folders are now, before anything is written into them.
    pub(super) fn own_dirs(&mut self, begins: bool) -> Result<()> {
        let info = &self.state.info;
        if begins && self.saving.run.is_empty() {
            let work = self.state.dirs.work.to_string_lossy();
            let place = xxhash_rust::xxh3::xxh3_64(work.as_bytes()) as u32;
            self.saving.run = format!("{}-{place:08x}", info.timestamp);
        }
        let owner = Owner { run: self.saving.run.clone(), seed: info.seed };
        let progress = &self.state.progress;
        let names = self.hooks.save_names(progress.by_epoch, progress.max_epochs.max(progress.max_iters));
        owner.take(&*self.state.fs, &self.saving.folders, &names, begins, self.saving.overwrite)
    }
}
