//! What a run is made with: versions, the machine, the project's commit, data and classes. The head of its event log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::{Session, State};
use crate::base::{Result, memory};
use crate::kernels::cpu_features;
use crate::vis::VisEvent;

/// The commit that a folder is at, and whether files in it were changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Commit {
    id: String,
    dirty: bool,
}

/// Asks git, once for each folder of a process. None outside of a repository, or without git.
fn commit(project: &Path) -> Option<Commit> {
    static ASKED: Mutex<Option<HashMap<PathBuf, Option<Commit>>>> = Mutex::new(None);
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = asked.get_or_insert_default();
    known.entry(project.to_owned()).or_insert_with(|| ask_git(project)).clone()
}

fn ask_git(project: &Path) -> Option<Commit> {
    let project = if project.as_os_str().is_empty() { Path::new(".") } else { project };
    let mut git = Command::new("git");
    git.arg("-C").arg(project).args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
    // Nothing is written into the person's repository, and nobody is asked for a password.
    git.envs([("GIT_OPTIONAL_LOCKS", "0"), ("GIT_TERMINAL_PROMPT", "0")]).stdin(Stdio::null());
    let said = git.stderr(Stdio::null()).output().ok().filter(|said| said.status.success())?;
    let text = String::from_utf8(said.stdout).ok()?;
    let (id, dirty) = match text.trim().strip_suffix("-dirty") {
        Some(id) => (id, true),
        None => (text.trim(), false),
    };
    Some(Commit { id: id.to_owned(), dirty }).filter(|commit| !commit.id.is_empty())
}

/// The command line of this process.
fn command() -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let quoted = |word: String| match word.contains(char::is_whitespace) {
        true => format!("'{word}'"),
        false => word,
    };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// A line of the text log: the machine and the project.
pub(super) fn line(project: Option<&Path>) -> String {
    let memory = memory::machine() as f64 / f64::from(1 << 30);
    let git = project.and_then(commit).map_or(String::new(), |commit| {
        let changed = if commit.dirty { ", with changes that are not committed" } else { "" };
        format!("; the project is at {}{changed}", commit.id)
    });
    format!("CPU: {}; {memory:.1} GiB of memory{git}", cpu_features())
}

/// A path as events tell it: from the work_dir on where it is in it.
fn told<'a>(state: &State, path: &'a Path) -> std::borrow::Cow<'a, str> {
    path.strip_prefix(&state.dirs.work).unwrap_or(path).to_string_lossy()
}

impl Session {
    /// The event log begins: its first line says what the run is made with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin_log(&mut self) -> Result<()> {
        // Only a training compares them: to evaluate, nobody waits until all data were looked at.
        let trains = self.state.optim.is_some();
        let data = trains.then(|| serde_json::to_value(self.fingerprints()).unwrap_or(Value::Null));
        let resumed = self.saving.resumed.take();
        let directions = self.val.as_ref().or(self.test.as_ref()).map(|evaluation| evaluation.directions());
        let directions = directions.map(|all| json!(all.known()));
        let mut vis = std::mem::take(&mut self.state.vis);
        let State { info, progress, dirs, project, .. } = &self.state;
        let git = project.as_deref().and_then(commit);
        let facts = |kind: &str| {
            let mut event = VisEvent::new(kind)
                .with("experiment_name", info.experiment_name.as_str())
                .with("log_dir", told(&self.state, &dirs.log))
                .with("work_dir", dirs.work.to_string_lossy())
                .with("shanty", env!("CARGO_PKG_VERSION"))
                .with("os", std::env::consts::OS)
                .with("arch", std::env::consts::ARCH)
                .with("cpu_features", cpu_features())
                .with("threads", rayon::current_num_threads())
                .with("memory", memory::machine())
                .with("git", git.map(|git| json!({"commit": git.id, "dirty": git.dirty})))
                .with("seed", info.seed)
                .with("command", command())
                .with("max_epochs", progress.max_epochs)
                .with("max_iters", progress.max_iters)
                .with("epoch_len", progress.epoch_len)
                .with("by_epoch", progress.by_epoch)
                .with("classes", info.classes.as_slice())
                .with("directions", directions)
                .with("data", data)
                .with("config", info.config.as_str());
            if let Some(path) = &resumed {
                event = event.with("checkpoint", told(&self.state, path));
                event = event.with("epoch", progress.epoch).with("iter", progress.iter);
            }
            event
        };
        let begun = vis.begin(facts);
        self.state.vis = vis;
        begun?;
        if let Some(path) = resumed {
            // That it was committed, the log which it counts could not know yet.
            self.log_checkpoint(&path, (self.state.progress.epoch, self.state.progress.iter));
        }
        self.state.tell();
        Ok(())
    }

    /// A checkpoint is there: of this epoch and iteration.
    pub(super) fn log_checkpoint(&mut self, path: &Path, (epoch, iter): (u64, u64)) {
        let path = told(&self.state, path).into_owned();
        let event = VisEvent::new("checkpoint").with("path", path).with("epoch", epoch).with("iter", iter);
        self.state.vis.add(event);
    }

    fn tell_losses(&mut self) {
        for text in self.state.vis.losses() {
            self.state.log.warn(text);
        }
        self.state.tell();
    }

    /// How the run ended, and what of it is not in the logs.
    pub(super) fn end_log(&mut self, reason: &str, detail: Option<String>) {
        let progress = &self.state.progress;
        let mut event = VisEvent::new("end").with("reason", reason);
        if let Some(detail) = detail {
            event = event.with("detail", detail);
        }
        let event = event.with("epoch", progress.epoch).with("iter", progress.iter);
        self.state.tell();
        self.tell_losses();
        self.state.vis.add(event);
        self.state.tell();
        self.tell_losses();
    }
}
