//! Loading weights, and taking a whole run up again.

use std::path::{Path, PathBuf};

use super::meet::of_first;
use super::{LoadConfig, Session, names, position};
use crate::base::fs::{Disk, FileSystem};
use crate::base::number::count;
use crate::base::{Error, Result, caught, codec, durable};
use crate::checkpoint::{self, Checkpoint, Folders, Meta, Owner};
use crate::config::{Kind, Node};
use crate::data::Fitted;
use crate::hook::Event;
use crate::params::Set;
use crate::vis::EVENTS;

/// Where a run starts from.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub load_from: Option<String>,
    pub resume: bool,
    /// What a first start takes its weights from.
    pub begin_from: Option<String>,
    pub allow_hook_changes: bool,
    pub allow_data_changes: bool,
    pub options: LoadConfig,
}

/// Where checkpoints are read from. A rehearsal writes nowhere, but reads what there is.
fn source(s: &Session) -> &dyn FileSystem {
    if s.state.info.dry_run { &Disk } else { &*s.state.fs }
}

/// Weights only: counters stay 0. What does not match is an error, or listed if the options are not strict. Nothing
/// that matches is always an error.
pub(super) fn load_weights(s: &mut Session, path: &Path, options: &LoadConfig) -> Result<Option<String>> {
    let path = &checkpoint::locate(source(s), path, &s.state.dirs.work)?;
    let mut checkpoint = checkpoint::read(source(s), path)?;
    s.rollback.classes.clone_from(&checkpoint.meta.classes);
    checkpoint.model.align(&*s.state.model);
    s.fire(Event::AfterLoadCheckpoint(&mut checkpoint))?;
    names::revise(&mut checkpoint.model, &options.revise_keys)?;
    if let Some(origin) = options.from {
        checkpoint.model = origin.renamed(checkpoint.model, &*s.state.model)?;
    }
    if options.fused {
        let gone = names::take_fused_form(&mut *s.state.model, &checkpoint.model)?;
        s.state.log.info(format_args!("{} in the weights before them", count(gone as u64, "batch norm")));
    }
    for odd in names::tied(&mut checkpoint.model, &s.state.model.tied()) {
        s.state.log.warn(odd);
    }
    let report = checkpoint.model.load_into(&mut *s.state.model)?;
    if report.loaded.is_empty() || (options.strict && !report.is_exact()) {
        s.state.log.detail(format_args!("weights from {}: {report:#}", path.display()));
        s.saving.start.keep_logs();
        let hint = names::remedy(&report);
        return Err(Error::checkpoint(path, format!("its weights do not fit the model: {report}; {hint}")));
    }
    let text = format!("weights from {}: {report}", path.display());
    if report.is_exact() {
        s.state.log.info(text)
    } else {
        s.state.log.warn(text);
        s.state.log.detail(format_args!("weights from {}: {report:#}", path.display()));
    }
    if s.state.model.norm(Set::Values, f64::INFINITY, &crate::params::all)?.is_finite() {
        return Ok(None);
    }
    let text = format!(
        "the weights from {} are not finite: nothing can be learned from NaN or infinity",
        path.display()
    );
    s.state.log.warn(&text);
    Ok(Some(text))
}

/// Takes up the run of `load_from`, or of the newest checkpoint in the work_dir. False if there is none.
pub(super) fn resume(s: &mut Session, plan: &Plan) -> Result<bool> {
    let is_main = s.state.comm.place().is_main();
    let mut found = if is_main { look(s, plan)? } else { None };
    // The others read what the first one found: it alone holds the folders, and knows what there is to be passed over.
    let named = found.as_ref().map(|found| found.path.to_string_lossy().into_owned()).unwrap_or_default();
    let named = of_first(&*s.state.comm, named)?;
    if !is_main && !named.is_empty() {
        let path = PathBuf::from(named);
        let checkpoint = checkpoint::read(source(s), &path)?;
        found = Some(Found { path, checkpoint, passed_over: false });
    }
    let Some(Found { path, checkpoint, passed_over }) = found else { return Ok(false) };
    if s.state.optim.is_some() && checkpoint.optimizer.is_none() {
        return Err(weights_only(&path));
    }
    let work = s.state.dirs.work.clone();
    s.compare_data(&path, &checkpoint.meta, plan.allow_data_changes)?;
    s.saving.run.clone_from(&checkpoint.meta.run);
    s.own_dirs(false, done(&checkpoint.meta, s.state.progress.by_epoch))?;
    let saved = plan.load_from.is_none() && !checkpoint.meta.inexact;
    restore(s, &path, checkpoint, plan.allow_hook_changes)?;
    // Now the hooks know what they have saved.
    s.tell_of_left_behind()?;
    if passed_over {
        // Others that follow the pointer are to find what the run goes on with, but not before it does.
        let target = path.strip_prefix(&work).unwrap_or(&path);
        durable::replace(&*s.state.fs, &work.join(checkpoint::POINTER), target.to_string_lossy().as_bytes())?;
    }
    // A run that leaves before its next step leaves the checkpoint as it is, under its own series.
    s.saving.saved_iter = saved.then_some(s.state.progress.iter);
    s.saving.resumed = Some(path);
    Ok(true)
}

/// What a run goes on with.
struct Found {
    path: PathBuf,
    checkpoint: Checkpoint,
    /// Newer ones cannot be read.
    passed_over: bool,
}

/// Looks for it; nothing if the run begins.
fn look(s: &mut Session, plan: &Plan) -> Result<Option<Found>> {
    let work = s.state.dirs.work.clone();
    let mut passed_over = false;
    let (path, checkpoint) = match &plan.load_from {
        Some(named) => {
            let path = checkpoint::locate_run(source(s), Path::new(named), &work)?;
            let checkpoint = checkpoint::read(source(s), &path)?;
            (path, checkpoint)
        }
        None => {
            let folders = &s.saving.folders;
            let owner = Owner::of(source(s), folders)?;
            let found =
                checkpoint::newest(source(s), folders, owner.as_ref().map(|owner| owner.run.as_str()))?;
            if let Some((path, _)) = &found.checkpoint
                && owner.is_none()
                && !path.starts_with(folders.work())
            {
                // In a folder that others may share, a work_dir that knows of no run has nothing to go on with.
                let why = "nothing says that a run of this work_dir saved it: name it with `--resume` if it is meant";
                return Err(Error::checkpoint(path, why));
            }
            found.refused.iter().for_each(|why| s.state.log.warn(format_args!("refused {why}")));
            passed_over = !found.refused.is_empty();
            let Some((path, checkpoint)) = found.checkpoint else {
                if !found.refused.is_empty() {
                    // A fresh start would write over what may still be rescued.
                    let reason = format!(
                        "no checkpoint can be resumed: {}; to begin again leave out `--resume` and give `--overwrite`, or another work_dir",
                        found.refused.join("; ")
                    );
                    return Err(Error::checkpoint(&work, reason));
                }
                // Its checkpoints without an optimizer are still its own.
                s.saving.run = owner.map(|owner| owner.run).unwrap_or_default();
                let with = plan.begin_from.as_ref().map(|from| format!(", with the weights of {from}"));
                s.state.log.warn(format_args!(
                    "nothing to resume in {}: starting from the beginning{}",
                    work.display(),
                    with.unwrap_or_default()
                ));
                return Ok(None);
            };
            (path, checkpoint)
        }
    };
    Ok(Some(Found { path, checkpoint, passed_over }))
}

/// The seed of the checkpoint that a run is going to resume: a config that names no seed keeps to it.
pub(super) fn saved_seed(fs: &dyn FileSystem, work_dir: &Path, load_from: Option<&str>) -> Option<u64> {
    if let Some(named) = load_from {
        let path = checkpoint::locate_run(fs, Path::new(named), work_dir).ok()?;
        return checkpoint::read(fs, &path).ok().map(|checkpoint| checkpoint.meta.seed);
    }
    let folders = Folders::of(fs.canonical(work_dir).ok()?);
    if let Ok(Some(owner)) = Owner::of(fs, &folders) {
        return Some(owner.seed);
    }
    let (_, checkpoint) = checkpoint::newest(fs, &folders, None).ok()?.checkpoint?;
    Some(checkpoint.meta.seed)
}

/// What the data of the checkpoint's run were fitted with; nothing where there is no such checkpoint, of which the
/// loading of its weights will tell.
pub(super) fn saved_fits(work_dir: &Path, load_from: Option<&str>) -> Fitted {
    let loaded = match load_from {
        Some(named) => checkpoint::locate(&Disk, Path::new(named), work_dir)
            .and_then(|path| checkpoint::load(&path))
            .ok(),
        None => newest_in(work_dir).map(|(_, checkpoint)| checkpoint),
    };
    loaded.map(|checkpoint| checkpoint.meta.fitted).unwrap_or_default()
}

/// How far a run has come, in what its loop counts.
pub(super) fn done(meta: &Meta, by_epoch: bool) -> u64 {
    if by_epoch { meta.epoch } else { meta.iter }
}

/// The checkpoint that a run would resume, if there is one.
pub(super) fn to_resume(work_dir: &Path, load_from: Option<&str>) -> Option<(PathBuf, Checkpoint)> {
    let Some(named) = load_from else { return newest_in(work_dir) };
    let path = checkpoint::locate_run(&Disk, Path::new(named), work_dir).ok()?;
    let checkpoint = checkpoint::read(&Disk, &path).ok()?;
    Some((path, checkpoint))
}

/// The checkpoint that a run in this folder would resume.
fn newest_in(work_dir: &Path) -> Option<(PathBuf, Checkpoint)> {
    let folders = Folders::of(Disk.canonical(work_dir).ok()?);
    let run = Owner::of(&Disk, &folders).ok()?.map(|owner| owner.run);
    checkpoint::newest(&Disk, &folders, run.as_deref()).ok()?.checkpoint
}

fn restore(s: &mut Session, path: &Path, mut checkpoint: Checkpoint, allow_hook_changes: bool) -> Result<()> {
    restore_hooks(s, path, &checkpoint, allow_hook_changes, None)?;
    s.rollback.resumed = checkpoint.rollback.take();
    checkpoint.model.align(&*s.state.model);
    s.fire(Event::AfterLoadCheckpoint(&mut checkpoint))?;
    let meta = checkpoint.meta.clone();
    put_in(s, path, checkpoint)?;
    let state = &mut s.state;
    if meta.inexact {
        state.log.warn(format_args!(
            "{} was written in the midst of an iteration that failed: the run goes on, but not bit for bit",
            path.display()
        ));
    }
    take_up_events(state, path, &meta)?;
    let progress = &state.progress;
    let (epoch, iter) = (progress.epoch, progress.iter);
    state.log.info(format_args!("resumed {}: epoch {epoch}, iteration {iter}", path.display()));
    if iter >= progress.max_iters && progress.max_iters > 0 {
        let (done, key) = match progress.by_epoch {
            true => (count(epoch, "epoch"), "max_epochs"),
            false => (count(iter, "iteration"), "max_iters"),
        };
        state.log.warn(format_args!(
            "the run is finished: all {done} are done and nothing is left to train; for more of them raise `train_cfg.{key}`"
        ));
    }
    for difference in drift(&meta.config, &state.info.config) {
        state.log.warn(format_args!("the config differs from the checkpoint's: {difference}"));
    }
    if meta.seed != state.info.seed {
        let (old, new) = (meta.seed, state.info.seed);
        let what = match state.data.as_ref().is_some_and(|data| data.order_follows(old, new)) {
            true => "the order of the data changes, and what is drawn in each step",
            false => "what is drawn in each step changes, the order of the data does not",
        };
        state.log.warn(format_args!("the seed was {old} and is {new} now: {what}"));
    }
    Ok(())
}

/// The events that the run had logged when it was saved come first in the new log, and none after them: a step stands
/// there once.
fn take_up_events(state: &mut super::State, path: &Path, meta: &checkpoint::Meta) -> Result<()> {
    let near = path.parent().into_iter().chain([state.dirs.work.as_path()]);
    let old = near
        .map(|dir| dir.join(&meta.log_dir).join(checkpoint::VIS_DATA))
        .find(|dir| state.fs.entry(&dir.join(EVENTS)).is_ok_and(|e| e.is_some()));
    match old {
        Some(old) if !meta.log_dir.is_empty() && state.comm.place().is_main() => {
            state.vis.continue_from(&*state.fs, &old, meta.events)
        }
        _ => Ok(()),
    }
}

/// Why a checkpoint without an optimizer is no run.
fn weights_only(path: &Path) -> Error {
    let text = "it holds weights only, as all that `save_best` keeps do: start from it with `load_from`, without `resume`";
    Error::checkpoint(path, text)
}

/// Puts weights, optimizer, message_hub and counters of a checkpoint into the run.
fn put_in(s: &mut Session, path: &Path, checkpoint: Checkpoint) -> Result<()> {
    let state = &mut s.state;
    let report = checkpoint.model.load_into(&mut *state.model)?;
    if !report.is_exact() || !report.resized.is_empty() {
        return Err(Error::checkpoint(path, format!("its weights do not fit the model: {report}")));
    }
    let stands = position::of(state, &checkpoint).map_err(|why| Error::checkpoint(path, why))?;
    if let Some(optim) = &mut state.optim {
        let saved = checkpoint.optimizer.ok_or_else(|| weights_only(path))?;
        let notes = caught(|| optim.load_state(saved, &mut *state.model))
            .map_err(|e| Error::checkpoint(path, e.to_string()))?;
        notes.iter().for_each(|note| state.log.warn(note));
    }
    state.message_hub = codec::from_json(&checkpoint.message_hub)
        .map_err(|e| Error::checkpoint(path, format!("its message_hub cannot be read: {e}")))?;
    let meta = &checkpoint.meta;
    let progress = &mut state.progress;
    (progress.epoch, progress.validated) = (meta.epoch, meta.validated);
    (progress.iter, progress.batch) = stands;
    if progress.iter != meta.iter {
        progress.validated = progress.validated.filter(|at| *at == meta.iter).map(|_| progress.iter);
    }
    if let Some(optim) = &mut state.optim {
        optim.set_progress(progress.epoch, progress.iter);
    }
    for id in &meta.excluded {
        if let Err(at) = s.rollback.excluded.binary_search(id) {
            s.rollback.excluded.insert(at, *id);
        }
    }
    s.leave_out();
    Ok(())
}

/// Returns to a snapshot that this run took of itself, all but the hook that asked for it. To the hooks it is a
/// checkpoint that is loaded.
pub(super) fn put_back(s: &mut Session, mut snapshot: Checkpoint, asked: usize) -> Result<()> {
    let path = Path::new("in memory");
    restore_hooks(s, path, &snapshot, true, Some(asked))?;
    snapshot.model.align(&*s.state.model);
    s.fire_held(Event::AfterLoadCheckpoint(&mut snapshot))?;
    let written = snapshot.meta.events;
    put_in(s, path, snapshot)?;
    s.saving.saved_iter = None;
    (s.state.control.skip_update, s.state.control.snapshot) = (None, false);
    s.state.vis.rewind(written)
}

fn restore_hooks(
    s: &mut Session,
    path: &Path,
    checkpoint: &Checkpoint,
    allow_changes: bool,
    except: Option<usize>,
) -> Result<()> {
    let mut changes = Vec::new();
    for (index, slot) in s.hooks.slots().iter_mut().enumerate() {
        if except == Some(index) {
            continue;
        }
        match checkpoint.hooks.get(&*slot.key) {
            Some(record) => caught(|| match slot.hook.state() {
                Some(state) => state.load(record.clone()),
                None => Err("it keeps no state".into()),
            })
            .map_err(|e| {
                Error::checkpoint(path, format!("hook `{}` cannot take its state back: {e}", slot.key))
            })?,
            None if slot.hook.state().is_some() => {
                changes.push(format!("hook `{}` keeps state, but the checkpoint has none for it", slot.key));
            }
            None => {}
        }
    }
    let present: Vec<&str> = s.hooks.order().map(|(key, _)| key).collect();
    let gone = checkpoint.hooks.keys().filter(|key| !present.contains(&key.as_str()));
    changes
        .extend(gone.map(|key| format!("the checkpoint has state of hook `{key}`, which this run has not")));
    if !changes.is_empty() && !allow_changes {
        let reason = format!("{}; set `allow_hook_changes: true` to go on without", changes.join("; "));
        return Err(Error::checkpoint(path, reason));
    }
    changes.iter().for_each(|text| s.state.log.warn(text));
    Ok(())
}

/// What sets a config apart from that of a checkpoint.
pub(super) fn drift(old: &str, new: &str) -> Vec<String> {
    let mut found = differing(old, new);
    // They say how this run came about, not what it is.
    found.retain(|line| !["resume:", "load_from:", "work_dir:"].iter().any(|key| line.starts_with(key)));
    found
}

/// Leaves of the two configs that differ: `optim_wrapper.optimizer.lr: 0.1 -> 0.05`.
pub(super) fn differing(old: &str, new: &str) -> Vec<String> {
    let (Ok(old), Ok(new)) = (crate::config::parse("old", old), crate::config::parse("new", new)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    differences("", Some(&old), Some(&new), &mut found);
    found
}

fn differences(path: &str, old: Option<&Node>, new: Option<&Node>, found: &mut Vec<String>) {
    if old == new {
        return;
    }
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if let (Some(Kind::Map(a)), Some(Kind::Map(b))) = (old.map(|n| &*n.kind), new.map(|n| &*n.kind)) {
        for (key, value) in a {
            differences(&under(&key.text), Some(value), new.and_then(|n| n.get(&key.text)), found);
        }
        for (key, value) in b.iter().filter(|(key, _)| old.and_then(|n| n.get(&key.text)).is_none()) {
            differences(&under(&key.text), None, Some(value), found);
        }
        return;
    }
    let show =
        |node: Option<&Node>| node.map_or("absent".to_owned(), |n| n.to_yaml().trim().replace('\n', " "));
    found.push(format!("{path}: {} -> {}", show(old), show(new)));
}
