//! What shanty promises, looked at from outside of the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shanty::base::fs::FileSystem;
use shanty::checkpoint::{self, Checkpoint, Folders, Found, digest};
use shanty::hook::builtin::Replay;
use shanty::testing::ToyModel;
use shanty::testing::sim::Machine;

use super::case::{Case, belongings};
use super::watch::manifest;

/// Checkpoints in the folder of a run, by name; each must load.
pub fn checkpoints(machine: &Machine, case: &Case) -> Vec<(String, Result<Checkpoint, String>)> {
    let fs = machine.onlooker();
    let mut all = Vec::new();
    for name in fs.list(&case.out).unwrap_or_default() {
        let path = case.out.join(&name);
        let name = name.to_string_lossy().into_owned();
        let named = ["epoch_", "iter_", "best_", "emergency_"].iter().any(|kind| name.starts_with(kind));
        if named && !belongings(case).iter().any(|(theirs, _)| theirs.starts_with(&path)) {
            all.push((name, checkpoint::read(&fs, &path).map_err(|e| e.to_string())));
        }
    }
    all
}

/// What a resume would take.
pub fn newest(machine: &Machine, case: &Case) -> Result<Found, String> {
    let mut folders = Folders::of(clean(&case.work));
    folders.add(clean(&case.out));
    checkpoint::newest(&machine.onlooker(), &folders, None).map_err(|e| e.to_string())
}

/// An intact checkpoint is there if one was committed, not older than that one, and none is refused that was not cut.
pub fn resumable(machine: &Machine, case: &Case, committed: Option<u64>) -> Result<(), String> {
    let found = newest(machine, case)?;
    let at = found.checkpoint.as_ref().map(|(_, c)| c.meta.iter);
    if at < committed {
        let refused = found.refused;
        return Err(format!("iteration {committed:?} was committed, {at:?} is left; refused: {refused:?}"));
    }
    for (name, read) in checkpoints(machine, case) {
        read.map_err(|why| format!("{name} has its name and does not load: {why}"))?;
    }
    let stepped_aside = found.checkpoint.is_some_and(|(path, _)| path.to_string_lossy().contains("old-"));
    match found.refused.first().filter(|_| !stepped_aside) {
        Some(why) => Err(format!("refused: {why}")),
        None => Ok(()),
    }
}

/// The things of somebody else are as they were.
pub fn untouched(machine: &Machine, case: &Case) -> Result<(), String> {
    let all = machine.contents(Path::new("/"));
    for (path, text) in belongings(case) {
        let path = clean(&path);
        let is = all.get(&path).map(|bytes| bytes.as_deref());
        if is != Some(text.map(str::as_bytes)) {
            return Err(format!("{} is not as it was: {is:?}", path.display()));
        }
    }
    if !all.contains_key(Path::new("/home/me/link")) {
        return Err("the link is gone".into());
    }
    Ok(())
}

fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// What a run left behind, without names of runs and without times.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub parts: BTreeMap<String, String>,
    pub names: Vec<String>,
    pub scalars: Vec<String>,
}

/// Whether one of these checkpoints was saved by plan, so that the surplus went after it.
pub fn planned(machine: &Machine, saved: &[PathBuf]) -> bool {
    let series = |path: &PathBuf| Some(manifest(machine, path)?["series"].as_str()?.to_owned());
    saved.iter().filter_map(series).any(|series| series != "emergency" && !series.starts_with("best_"))
}

/// The end of a run: its newest checkpoint.
pub fn end(machine: &Machine, case: &Case, log: &Path) -> Result<End, String> {
    let found = newest(machine, case)?;
    let (_, last) = found.checkpoint.ok_or_else(|| format!("no checkpoint: {:?}", found.refused))?;
    let mut parts: BTreeMap<_, _> = digest::parts(&last).into_iter().collect();
    // Which checkpoints lie on the disk depends on where the run was cut.
    parts.retain(|name, _| !name.starts_with("hook CheckpointHook"));
    let names = checkpoints(machine, case).into_iter().map(|(name, _)| name).collect();
    Ok(End { parts, names, scalars: scalars(machine, log)? })
}

/// The lines of `scalars.json` but for what depends on the time; a torn last one is left out, and no other may be.
pub fn scalars(machine: &Machine, log: &Path) -> Result<Vec<String>, String> {
    let file = log.join("vis_data/scalars.json");
    // Whoever compares them knows whether the disk refused the file.
    let bytes = machine.contents(&file).get(&file).cloned().flatten().unwrap_or_default();
    let text = String::from_utf8(bytes).map_err(|_| "scalars.json is no text")?;
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n') {
        match serde_json::from_str::<serde_json::Map<String, Value>>(line) {
            Ok(mut map) => {
                map.retain(|key, _| !["time", "data_time", "eta", "memory"].iter().any(|t| key.ends_with(t)));
                lines.push(Value::Object(map).to_string());
            }
            Err(_) if !line.ends_with('\n') => {}
            Err(e) => return Err(format!("scalars.json has the line {line:?}: {e}")),
        }
    }
    Ok(lines)
}

/// Each replay bundle whose last file is there can be read, and repeats what was found.
pub fn replays(machine: &Machine, log: &Path) -> Result<(), String> {
    let all = machine.contents(log);
    for step in all.keys().filter(|path| path.ends_with("step.json")) {
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", step.display());
        let copy = tempfile::tempdir().map_err(|e| wrong(&e))?;
        let bundle = step.parent().unwrap_or(step);
        for (path, bytes) in all.iter().filter(|(path, _)| path.parent() == Some(bundle)) {
            let name = path.file_name().unwrap_or_default();
            std::fs::write(copy.path().join(name), bytes.as_deref().unwrap_or_default())
                .map_err(|e| wrong(&e))?;
        }
        let mut replay = Replay::read(copy.path()).map_err(|e| wrong(&e))?;
        let again = replay.step(&mut ToyModel::new(3)).map_err(|e| wrong(&e))?;
        if again.as_ref() != Some(&replay.found) {
            return Err(format!("{}: {:?} was found, and then {again:?}", step.display(), replay.found));
        }
    }
    Ok(())
}

/// The text log holds whole lines of text.
pub fn log_is_text(machine: &Machine, log: &Path, died: bool) -> Result<(), String> {
    let files =
        machine.contents(log).into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log"));
    for (path, bytes) in files {
        let bytes = bytes.unwrap_or_default();
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            // A kill may cut a letter in two.
            Err(e) if died && e.utf8_error().error_len().is_none() => continue,
            Err(_) => return Err(format!("{} is no text", path.display())),
        };
        if text.contains('\0') || (!died && !text.ends_with('\n')) {
            return Err(format!("{} ends in {:?}", path.display(), text.lines().last()));
        }
        if let Some(line) = text.lines().next().filter(|line| !died && !line.contains(" - shanty - ")) {
            return Err(format!("{} begins with {line:?}", path.display()));
        }
    }
    Ok(())
}
