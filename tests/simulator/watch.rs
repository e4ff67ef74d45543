//! What a run said of itself while it lived.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use shanty::checkpoint::Meta;
use shanty::plugin::prelude::*;
use shanty::run::RunnerBuilder;
use shanty::testing::sim::Machine;

/// Seen from inside of the run; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub struct Seen {
    /// The newest checkpoint that was said to be committed and can be resumed: its iteration.
    pub committed: Option<u64>,
    /// What an earlier life had committed and this one passed over.
    pub passed_over: Option<(u64, u64)>,
    /// Checkpoints that were committed in this life.
    pub saved: Vec<PathBuf>,
    /// This life has taken up its checkpoint.
    taken_up: bool,
    /// It goes on from a checkpoint of an iteration that had failed, which promises no bits.
    pub inexact: bool,
    /// Log folders of the lives that did.
    inexact_logs: BTreeSet<String>,
}

impl Seen {
    /// A life begins.
    pub fn begin(&mut self, resumes: bool) {
        self.saved.clear();
        (self.passed_over, self.taken_up, self.inexact) = (None, !resumes, false);
    }

    /// What it saved is no more exact than what it came from.
    pub fn end(&mut self, log: &Path) {
        let log = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.inexact_logs.extend(self.inexact.then_some(log));
    }

    fn take_up(&mut self, meta: &Meta) {
        self.inexact = meta.inexact || self.inexact_logs.contains(&meta.log_dir);
        if let Some(committed) = self.committed.filter(|committed| meta.iter < *committed) {
            self.passed_over = Some((committed, meta.iter));
            self.committed = Some(meta.iter);
        }
    }
}

impl Watch {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to what the run says about its saves.
    pub fn over(&self, builder: RunnerBuilder, machine: &Machine) -> RunnerBuilder {
        let (watch, machine, loads) = (self.clone(), machine.clone(), self.clone());
        let builder = builder.on(Point::AfterLoadCheckpoint, move |cx, event| {
            let mut seen = loads.seen();
            // Later ones are rollbacks.
            if let Event::AfterLoadCheckpoint(checkpoint) = event
                && !std::mem::replace(&mut seen.taken_up, true)
                && cx.progress.iter == 0
            {
                seen.take_up(&checkpoint.meta);
            }
            Ok(())
        });
        builder.on(Point::AfterSaveCheckpoint, move |_, event| {
            if let Event::AfterSaveCheckpoint(saved) = event {
                let mut seen = watch.seen();
                seen.saved.push(saved.path.clone());
                let manifest = manifest(&machine, &saved.path).unwrap_or_default();
                if saved.is_last && manifest["resumable"] == true {
                    seen.committed = manifest["iter"].as_u64();
                }
            }
            Ok(())
        })
    }
}

/// The manifest of a checkpoint.
pub fn manifest(machine: &Machine, path: &Path) -> Option<Value> {
    let file = path.join("manifest.json");
    let bytes = machine.contents(&file).get(&file).cloned().flatten()?;
    serde_json::from_slice(&bytes).ok()
}
