//! Hooks of one run keep out of each other's way: what they save has folders and names of its own.

use std::any::Any;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::RunnerBuilder;
use crate::base::Result;
use crate::base::durable::TEMPORARY;
use crate::base::fs::FileSystem;
use crate::checkpoint::{POINTER, may_meet};
use crate::hook::{Dirs, Hook, HookConfig, Hooks, Misplaced};

/// A hook with its name and what goes with it.
pub(super) type Named = (Box<dyn Hook>, String, HookConfig);

/// The default hooks and those that were given: one of a default's type takes its place, unless it has its own key.
pub(super) fn with_defaults(defaults: Vec<Named>, given: Vec<Named>) -> Vec<Named> {
    let type_of = |named: &Named| (&*named.0 as &dyn Any).type_id();
    let mut open: Vec<_> = defaults.iter().map(|named| Some(type_of(named))).collect();
    let mut all = defaults;
    for hook in given {
        let own = Some(type_of(&hook)).filter(|_| hook.2.key.is_none());
        match open.iter().position(|default| own.is_some() && *default == own) {
            Some(at) => {
                open[at] = None;
                all[at] = hook;
            }
            None => all.push(hook),
        }
    }
    all
}

/// Two hooks that save under one name in one folder would replace each other's checkpoints, and give them up.
///
/// # Errors
/// [`Misplaced`], about the one that came later.
pub(super) fn check_saves(
    hooks: &Hooks,
    came: &[Arc<str>],
    fs: &dyn FileSystem,
    dirs: &Dirs,
    by_epoch: bool,
) -> Result<()> {
    let saver = |key: &Arc<str>| {
        let hook = hooks.by_key(key)?;
        let names = hook.save_names(by_epoch);
        let dir = (!names.is_empty()).then(|| hook.save_dir(dirs).unwrap_or_else(|| dirs.work.clone()))?;
        Some((key.clone(), resolved(fs, &dir), names))
    };
    let all: Vec<_> = came.iter().filter_map(saver).collect();
    for (at, (key, dir, names)) in all.iter().enumerate() {
        for (other, _, others) in all[..at].iter().filter(|(_, other, _)| other == dir) {
            let Some(name) = names.iter().find(|name| others.iter().any(|n| may_meet(n, name))) else {
                continue;
            };
            let message = format!(
                "hooks `{other}` and `{key}` both save {} in {}, and would delete each other's checkpoints: change the \
                 one that is there (of the default hooks: `default_hooks.checkpoint`), or give this one an `out_dir` of \
                 its own",
                name.replace("{}", "…"),
                dir.display()
            );
            return Err(Misplaced { hook: key.to_string(), message, ..Misplaced::default() }.into());
        }
    }
    Ok(())
}

/// The absolute path without links of what need not be there yet.
pub(super) fn resolved(fs: &dyn FileSystem, path: &Path) -> PathBuf {
    for at in path.ancestors() {
        let here = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        let (Ok(home), Ok(rest)) = (fs.canonical(here), path.strip_prefix(at)) else { continue };
        return rest.components().fold(home, |mut home, part| {
            match part {
                Component::ParentDir => drop(home.pop()),
                part => home.push(part),
            }
            home
        });
    }
    path.to_owned()
}

impl RunnerBuilder {
    /// Before anything is made: the hooks in line, where they would save and write.
    pub(super) fn check_apart(&self) -> Result<()> {
        let Some(line) = &self.line else { return Ok(()) };
        let fs = self.disk();
        let work = resolved(&*fs, &self.home());
        let dirs = Dirs { log: work.join("log"), work };
        check_saves(line, &self.keys, &*fs, &dirs, self.totals().by_epoch)?;
        self.check_files(line, &*fs, &dirs)
    }

    /// A file of a hook has a name that nobody else in the run gives.
    fn check_files(&self, line: &Hooks, fs: &dyn FileSystem, dirs: &Dirs) -> Result<()> {
        let save_dirs = self.keys.iter().filter_map(|key| line.by_key(key)?.save_dir(dirs));
        let mut folders: Vec<_> = save_dirs.map(|dir| resolved(fs, &dir)).collect();
        folders.push(dirs.work.clone());
        let names = line.save_names(self.totals().by_epoch, u64::MAX);
        let own = |name: &str| names.include(name) || name == POINTER || name.starts_with(TEMPORARY);
        let mut taken: Vec<_> = self.dump(&dirs.work).into_iter().collect();
        for (key, file) in self.keys.iter().filter_map(|key| Some((key, line.by_key(key)?.out_file()?))) {
            let path = resolved(fs, file);
            let inside =
                folders.iter().filter_map(|dir| path.strip_prefix(dir).ok()?.iter().next()?.to_str());
            if !taken.contains(&path) && !inside.into_iter().any(own) {
                taken.push(path);
                continue;
            }
            let message = format!(
                "hook `{key}` would write to `{}`, which is the name of a checkpoint or of another file of this run: \
                 name another file",
                file.display()
            );
            return Err(Misplaced { hook: key.to_string(), message, ..Misplaced::default() }.into());
        }
        Ok(())
    }
}
