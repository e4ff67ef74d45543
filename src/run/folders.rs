//! The folders of a run, taken for it before anything is written: locked, swept, and noted as its own.

use super::saving::Saving;
use super::{Session, State, apart};
use crate::base::error::IoContext;
use crate::base::rng::fresh_seed;
use crate::base::{Result, durable};
use crate::checkpoint::{self, DUMP, Folders, Home, Names, Owner};

impl Session {
    /// Whether this is the rank that has the folders, and writes into them.
    pub(super) fn is_main(&self) -> bool {
        self.state.comm.place().is_main()
    }

    pub(super) fn lock_dirs(&mut self) -> Result<()> {
        let dirs = &self.state.dirs;
        let declared: Vec<_> =
            self.hooks.slots().iter().filter_map(|slot| slot.hook.save_dir(dirs)).collect();
        if !self.is_main() {
            // The first rank holds the folders for all.
            self.saving.places = declared.into_iter().map(|dir| (dir.clone(), dir)).collect();
            return Ok(());
        }
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
        let home = Home::of(fs, &folders)?;
        if home.name.is_empty() && Owner::of(fs, &folders)?.is_some() {
            self.state.log.warn(
                "the work_dir is a copy, or comes from another disk: what was saved elsewhere before stays the original's",
            );
        }
        for path in folders.all() {
            // Elsewhere, what stepped aside may be another work_dir's.
            let whose = (path != folders.work()).then_some(&*home.name);
            for error in checkpoint::recover(fs, path, whose)? {
                let text = error.to_string();
                self.state.log.warn(format_args!("left in its place: {text}"));
                self.saving.told.insert(text);
            }
        }
        let name = if home.name.is_empty() { self.new_name() } else { home.name };
        self.saving.home = Home { name, ..home };
        (self.saving.folders, self.saving.places) = (folders, places);
        Ok(())
    }

    /// A name that no run and no work_dir has, on no machine: many may begin in one second, each in a folder of the
    /// same path.
    fn new_name(&self) -> String {
        format!("{}-{:08x}", self.state.info.timestamp, fresh_seed())
    }

    /// Who the run is, and the names that it gives.
    fn owner(&mut self, begins: bool) -> (Owner, Names) {
        if begins && self.saving.run.is_empty() {
            self.saving.run = self.new_name();
        }
        let (run, Home { name: home, folder, .. }) = (self.saving.run.clone(), self.saving.home.clone());
        let progress = &self.state.progress;
        let names = self.hooks.save_names(progress.by_epoch, progress.max_epochs.max(progress.max_iters));
        (Owner { run, home, folder, seed: self.state.info.seed }, names)
    }

    /// Tells of checkpoints whose series has no hook any more: their template was changed.
    pub(super) fn tell_of_left_behind(&mut self) -> Result<()> {
        const SHOWN: usize = 5;
        if !self.is_main() {
            return Ok(());
        }
        let (owner, names) = self.owner(false);
        let saved: Vec<_> = names.unplanned.into_iter().chain(names.templates).collect();
        let left = checkpoint::left_behind(&*self.state.fs, &self.saving.folders, &owner, &saved)?;
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

    /// Whether a run may begin in its folders, or go on without a checkpoint; nothing is changed.
    pub(super) fn look_at_dirs(&mut self, begins: bool) -> Result<()> {
        if !self.is_main() {
            return Ok(());
        }
        let (owner, names) = self.owner(begins);
        let Saving { folders, overwrite, .. } = &self.saving;
        owner.look(&*self.state.fs, folders, &names, begins, *overwrite).map(drop)
    }

    /// From now on there is a run, and its folders, its dump and its logs are its own and stay. One that begins comes
    /// here with its first step, or with what is saved before that: a start that its first batch refuses changes nothing.
    pub(super) fn take_hold(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.saving.holds, true) {
            return Ok(());
        }
        if let Some(begins) = self.saving.to_take.take() {
            self.own_dirs(begins, 0)?;
        }
        self.dump_config()?;
        self.made_stays();
        Ok(())
    }

    /// Whether the folders are taken only when the first step is made.
    pub(super) fn is_yet_to_begin(&self) -> bool {
        self.saving.to_take.is_some()
    }

    /// `work_dir/<config>.yaml`: only the run that holds the work_dir writes it, and over nothing but an older dump.
    fn dump_config(&self) -> Result<()> {
        let Some(path) = self.saving.dump.as_ref().filter(|_| self.is_main()) else { return Ok(()) };
        let State { fs, info, log, .. } = &self.state;
        if fs.entry(path).at(path)?.is_some() {
            // Only how it begins: it may be any file, of any size.
            let begin = durable::read_begin(&**fs, path, DUMP.len() as u64).unwrap_or_default();
            if begin != DUMP.as_bytes() {
                let path = path.display();
                log.info(format_args!(
                    "{path} is no dump of shanty's and stays as it is: see vis_data/config.yaml"
                ));
                return Ok(());
            }
        }
        durable::replace(&**fs, path, format!("{DUMP}{}", info.config).as_bytes())
    }

    /// Notes whose the folders are now, before anything is written into them. `done`: epochs or iterations, whichever
    /// the run counts.
    pub(super) fn own_dirs(&mut self, begins: bool, done: u64) -> Result<()> {
        if !self.is_main() {
            return Ok(());
        }
        let (owner, names) = self.owner(begins);
        let names = Names { done, ..names };
        let Saving { folders, overwrite, start, .. } = &mut self.saving;
        start.file(folders.work().join(checkpoint::OWNER_FILE));
        owner.take(&*self.state.fs, folders, &names, begins, *overwrite)
    }
}
