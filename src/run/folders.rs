//! The folders of a run, taken for it before anything is written: locked, swept, and noted as its own.

use super::saving::Saving;
use super::{Session, apart};
use crate::base::error::IoContext;
use crate::base::{Result, durable};
use crate::checkpoint::{self, Folders, Names, Owner};

impl Session {
    pub(super) fn lock_dirs(&mut self) -> Result<()> {
        let dirs = &self.state.dirs;
        let declared: Vec<_> =
            self.hooks.slots().iter().filter_map(|slot| slot.hook.save_dir(dirs)).collect();
        let fs = &*self.state.fs;
        // A hook may have been added since the run was built.
        apart::check_saves(&self.hooks, self.hooks.keys(), fs, dirs, self.state.progress.by_epoch)?;
        let (mut folders, mut places) = (Folders::of(&dirs.work), Vec::new());
        for dir in std::iter::once(dirs.work.clone()).chain(declared) {
            self.saving.start.folder(&dir);
            durable::make_dir(fs, &dir)?;
            let path = fs.canonical(&dir).at(&dir)?;
            folders.add(path.clone());
            places.push((dir, path));
        }
        if let Some(error) = checkpoint::occupied(fs, &folders, None)?.into_iter().next() {
            return Err(error);
        }
        for path in folders.all() {
            self.saving.start.lock(path.join(checkpoint::LOCK_FILE));
            self.saving.locks.push(checkpoint::lock_dir(fs, path)?);
        }
        let home = Owner::of(fs, &folders)?.map(Owner::into_home);
        for path in folders.all() {
            // Elsewhere, what stepped aside may be another work_dir's.
            let whose = (path != folders.work()).then(|| home.as_deref().unwrap_or_default());
            for error in checkpoint::recover(fs, path, whose)? {
                let log = &self.state.log;
                log.warn(format_args!("what an earlier run left cannot be cleared away: {error}"));
            }
        }
        self.saving.home = home.unwrap_or_else(|| self.new_name());
        (self.saving.folders, self.saving.places) = (folders, places);
        Ok(())
    }

    /// A name that no run and no work_dir has.
    fn new_name(&self) -> String {
        let work = self.state.dirs.work.to_string_lossy();
        let place = xxhash_rust::xxh3::xxh3_64(work.as_bytes()) as u32;
        format!("{}-{place:08x}", self.state.info.timestamp)
    }

    /// Who the run is, and the names that it will give.
    fn owner(&mut self, begins: bool) -> (Owner, Names) {
        if begins && self.saving.run.is_empty() {
            self.saving.run = self.new_name();
        }
        let (run, home) = (self.saving.run.clone(), self.saving.home.clone());
        let progress = &self.state.progress;
        let names = self.hooks.save_names(progress.by_epoch, progress.max_epochs.max(progress.max_iters));
        (Owner { run, home, seed: self.state.info.seed }, names)
    }

    /// Tells of checkpoints whose series has no hook any more: their template was changed.
    pub(super) fn tell_of_left_behind(&mut self) -> Result<()> {
        const SHOWN: usize = 5;
        let (owner, names) = self.owner(false);
        let left = checkpoint::left_behind(&*self.state.fs, &self.saving.folders, &owner, &names.templates)?;
        if !left.is_empty() {
            let shown = left.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let more = left.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.state.log.warn(format_args!(
                "no hook saves under these names any more, and none gives them up: {shown}{more}; delete what is \
                 not wanted"
            ));
        }
        Ok(())
    }

    /// Whether a run may begin in its folders; nothing is changed.
    pub(super) fn look_at_dirs(&mut self) -> Result<()> {
        let (owner, names) = self.owner(true);
        let Saving { folders, overwrite, .. } = &self.saving;
        owner.look(&*self.state.fs, folders, &names, true, *overwrite).map(drop)
    }

    /// Notes whose the folders are now, before anything is written into them.
    pub(super) fn own_dirs(&mut self, begins: bool) -> Result<()> {
        let (owner, names) = self.owner(begins);
        let Saving { folders, overwrite, start, .. } = &mut self.saving;
        start.file(folders.work().join(checkpoint::OWNER_FILE));
        owner.take(&*self.state.fs, folders, &names, begins, *overwrite)
    }
}
