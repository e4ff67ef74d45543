//! What a run said of itself while it lived.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use shanty::prelude::*;
use shanty::run::RunnerBuilder;
use shanty::testing::sim::Machine;

/// Seen from inside of the run; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub struct Seen {
    /// The newest checkpoint that was said to be committed and can be resumed: its iteration.
    pub committed: Option<u64>,
    /// Checkpoints that were committed in this life.
    pub saved: Vec<PathBuf>,
}

impl Watch {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to what the run says about its saves.
    pub fn over(&self, builder: RunnerBuilder, machine: &Machine) -> RunnerBuilder {
        let (watch, machine, loads) = (self.clone(), machine.clone(), self.clone());
        let builder = builder.on(Point::AfterLoadCheckpoint, move |_, event| {
            if let Event::AfterLoadCheckpoint(checkpoint) = event {
                // What could not be read today is passed over, and the run goes on from an older one.
                let mut seen = loads.seen();
                seen.committed = seen.committed.map(|iter| iter.min(checkpoint.meta.iter));
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
