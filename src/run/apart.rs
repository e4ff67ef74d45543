//! Hooks of one run keep out of each other's way: what they save has folders and names of its own.

use std::any::Any;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::RunnerBuilder;
use crate::base::durable::TEMPORARY;
use crate::base::fs::FileSystem;
use crate::base::{Error, Result};
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

    /// A folder or a file that a hook names, and the stop file, have names that nobody else in the run gives.
    fn check_files(&self, line: &Hooks, fs: &dyn FileSystem, dirs: &Dirs) -> Result<()> {
        let of_hooks = |place: fn(&dyn Hook, &Dirs) -> Option<PathBuf>| {
            let place = move |key: &'_ Arc<str>| Some((key.clone(), place(line.by_key(key)?, dirs)?));
            self.keys.iter().filter_map(place).collect::<Vec<_>>()
        };
        let saves = of_hooks(|hook, dirs| hook.save_dir(dirs));
        let files = of_hooks(|hook, _| hook.out_file().map(Path::to_owned));
        let folders: Vec<_> =
            saves.iter().map(|(_, dir)| resolved(fs, dir)).chain([dirs.work.clone()]).collect();
        let names = line.save_names(self.totals().by_epoch, u64::MAX);
        let mut taken: Vec<_> = self.dump(&dirs.work).into_iter().collect();
        let own = |name: &str| names.include(name) || name == POINTER || name.starts_with(TEMPORARY);
        let mut is_own = |path: &Path, is_file: bool| {
            let path = resolved(fs, path);
            let mut inside =
                folders.iter().filter_map(|dir| path.strip_prefix(dir).ok()?.iter().next()?.to_str());
            let met = inside.any(own)
                || taken.iter().any(|file| path.starts_with(file))
                || is_file && folders.iter().any(|dir| dir.starts_with(&path));
            taken.extend(is_file.then_some(path));
            met
        };
        let saves = saves.iter().map(|place| (place, false));
        for ((key, path), is_file) in saves.chain(files.iter().map(|place| (place, true))) {
            if is_own(path, is_file) {
                let (path, what) = (path.display(), if is_file { "file" } else { "`out_dir`" });
                let message = format!(
                    "hook `{key}` would write to `{path}`, which is the name of a checkpoint or of another file of \
                     this run: name another {what}"
                );
                return Err(Misplaced { hook: key.to_string(), message, ..Misplaced::default() }.into());
            }
        }
        // The files of a test may be those of the validation.
        let of_val: Vec<_> = self.val.iter().flat_map(|e| e.evaluator.out_files()).collect();
        let of_test = self.test.iter().flat_map(|e| e.evaluator.out_files());
        let of_test: Vec<_> = of_test.filter(|path| !of_val.contains(path)).collect();
        for path in of_val.iter().chain(&of_test) {
            if is_own(path, true) {
                let path = path.display();
                return Err(Error::config(format!(
                    "`out_file_path: {path}` is the name of a checkpoint or of another file of this run: name another file"
                )));
            }
        }
        match &self.limits.stop_file {
            Some(path) if is_own(path, true) => Err(Error::config(format!(
                "the stop file {} has the name of a checkpoint, a folder or another file of this run: name another",
                path.display()
            ))),
            _ => Ok(()),
        }
    }
}
