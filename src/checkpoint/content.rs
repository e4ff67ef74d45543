//! What is in a checkpoint, and how it becomes files and back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::encode::{Content, Layout};
use super::tensors::MODEL_FILE;
use crate::base::{Elem, Error, Record, Result, codec};
use crate::data::{Fingerprint, Fitted};
use crate::params::{Role, StateDict, StateTensor};

/// The version of the directory's layout.
const FORMAT: u32 = 2;
pub(super) const OPTIMIZER_FILE: &str = "optimizer.safetensors";
pub(super) const HOOKS_FILE: &str = "hooks.safetensors";
pub(super) const ROLLBACK_FILE: &str = "rollback.safetensors";
/// How the names in it begin.
const MODEL: &str = "model/";
const OPTIMIZER: &str = "optimizer/";
const HOOKS: &str = "hooks/";
pub(super) const STATE_FILE: &str = "state.json";

/// Counters and facts of the run at the time of the save.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Completed epochs.
    pub epoch: u64,
    /// Completed iterations.
    pub iter: u64,
    /// Completed batches of the epoch that was under way.
    pub batch: u64,
    /// Batches in an epoch.
    pub epoch_len: u64,
    /// Samples in a batch of the training data, of all ranks together; 0 if unknown.
    pub batch_size: u64,
    /// How many ranks trained together; 0 where there was but one.
    #[serde(skip_serializing_if = "is_zero")]
    pub world: u64,
    /// The iteration at which the last validation ended.
    pub validated: Option<u64>,
    /// The seed of the run.
    pub seed: u64,
    /// `<name>_<timestamp>` of the run that wrote it.
    pub experiment_name: String,
    /// The run that it belongs to, whichever process wrote it: a run that is resumed keeps it.
    pub run: String,
    /// Written in the midst of an iteration that failed: a run that goes on from it is not bit for bit the one that did
    /// not.
    pub inexact: bool,
    /// Folder of the logs, below the work_dir.
    pub log_dir: String,
    /// Bytes of the event log, `vis_data/events.jsonl`, at the time of the save.
    pub events: u64,
    /// Samples that are left out of training.
    pub excluded: Vec<u64>,
    /// Class names of the training data.
    pub classes: Vec<String>,
    /// What the training data are fitted with: means, categories, vocabularies.
    #[serde(default)]
    pub fitted: Fitted,
    /// The data sets by loader, as they were.
    pub data: BTreeMap<String, Fingerprint>,
    /// Samples of the training data that could not be read, with the reason.
    pub unreadable: Vec<(usize, String)>,
    /// The resolved config, as YAML.
    pub config: String,
    /// Version of shanty.
    pub version: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A checkpoint in memory. Hooks may change it in `before_save_checkpoint` and `after_load_checkpoint`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// Weights and buffers.
    pub model: StateDict,
    /// Optimizer and accumulation window; `None` in a checkpoint that cannot be resumed from.
    pub optimizer: Option<Record>,
    /// State of hooks by key.
    pub hooks: BTreeMap<String, Record>,
    /// The message hub, as plain data.
    pub message_hub: serde_json::Value,
    /// The earlier state that the run may go back to, if a hook keeps one in memory: without it a resumed run would go
    /// back to another iteration than one that was not cut.
    pub rollback: Option<Arc<Checkpoint>>,
    /// Counters and facts.
    pub meta: Meta,
}

/// `state.json`.
#[derive(PartialEq, Serialize, Deserialize)]
struct StateFile {
    format: u32,
    meta: Meta,
    optimizer: Option<serde_json::Value>,
    hooks: BTreeMap<String, serde_json::Value>,
    message_hub: serde_json::Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollback: Option<Box<StateFile>>,
}

impl StateFile {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            format: FORMAT,
            meta: checkpoint.meta.clone(),
            optimizer: checkpoint.optimizer.as_ref().map(|r| r.data.clone()),
            hooks: checkpoint.hooks.iter().map(|(k, r)| (k.clone(), r.data.clone())).collect(),
            message_hub: checkpoint.message_hub.clone(),
            rollback: checkpoint.rollback.as_deref().map(|earlier| Box::new(Self::of(earlier))),
        }
    }

    /// The checkpoint of this state and its tensors.
    fn with(self, model: StateDict, optimizer: Named, mut hooks: Named) -> Checkpoint {
        let record = |(key, data): (String, _)| {
            let tensors = by_name(below(&mut hooks, &format!("{key}/")));
            (key, Record { data, tensors })
        };
        Checkpoint {
            model,
            optimizer: self.optimizer.map(|data| Record { data, tensors: by_name(optimizer) }),
            hooks: self.hooks.into_iter().map(record).collect(),
            message_hub: self.message_hub,
            rollback: None,
            meta: self.meta,
        }
    }

    /// Reads the text again: what cannot be read back must be found while the run can still say so.
    ///
    /// # Errors
    /// Names the part that would be lost.
    fn prove(&self, text: &[u8]) -> Result<()> {
        self.prove_parts()?;
        self.rollback.iter().try_for_each(|earlier| earlier.prove_parts())?;
        match serde_json::from_slice::<Self>(text) {
            Ok(again) if again == *self => Ok(()),
            Ok(_) => Err(Error::invalid(format!("`{STATE_FILE}` would not read back as it was written"))),
            Err(why) => Err(Error::invalid(format!("`{STATE_FILE}` could not be read back: {why}"))),
        }
    }

    fn prove_parts(&self) -> Result<()> {
        let optimizer = self.optimizer.iter().map(|data| ("the optimizer".to_owned(), data));
        let hooks = self.hooks.iter().map(|(key, data)| (format!("hook `{key}`"), data));
        for (whose, data) in optimizer.chain(hooks).chain([("the message hub".to_owned(), &self.message_hub)])
        {
            let lost = |why| Error::invalid(format!("the state of {whose} could not be read back: {why}"));
            codec::check(data).map_err(lost)?;
        }
        Ok(())
    }
}

impl Checkpoint {
    /// The files of the directory, except the manifest.
    ///
    /// # Errors
    /// When something in it cannot be written down.
    pub(super) fn contents(&self) -> Result<Vec<(&'static str, Content<'_>)>> {
        let mut files = vec![(MODEL_FILE, Content::Tensors(Layout::of_state(&self.model)?))];
        if let Some(optimizer) = &self.optimizer {
            files.push((OPTIMIZER_FILE, Content::Tensors(Layout::of(named(String::new(), optimizer))?)));
        }
        if self.hooks.values().any(|record| !record.tensors.is_empty()) {
            files.push((HOOKS_FILE, Content::Tensors(Layout::of(of_hooks("", &self.hooks))?)));
        }
        if let Some(earlier) = &self.rollback {
            let model = earlier.model.0.iter();
            let model = model.map(|(name, t)| (format!("{MODEL}{name}").into(), t.role, &t.value));
            let optimizer = earlier.optimizer.iter().flat_map(|record| named(OPTIMIZER.to_owned(), record));
            let tensors = model.chain(optimizer).chain(of_hooks(HOOKS, &earlier.hooks));
            files.push((ROLLBACK_FILE, Content::Tensors(Layout::of(tensors)?)));
        }
        let state = StateFile::of(self);
        let text = serde_json::to_vec_pretty(&state).map_err(|e| Error::Other(e.into()))?;
        state.prove(&text)?;
        files.push((STATE_FILE, Content::Text(text)));
        Ok(files)
    }

    /// A checkpoint from the verified files of the directory `dir`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a file is missing or damaged.
    pub(super) fn from_files(dir: &Path, mut files: Files) -> Result<Self> {
        let missing = |name: &str| Error::checkpoint(dir, format!("`{name}` is missing"));
        let state = files.state.ok_or_else(|| missing(STATE_FILE))?;
        let mut state: StateFile = serde_json::from_slice(&state)
            .map_err(|e| Error::checkpoint(dir, format!("`{STATE_FILE}` cannot be read: {e}")))?;
        if state.format > FORMAT {
            let reason =
                format!("layout {} is newer than this program ({FORMAT}); update shanty", state.format);
            return Err(Error::checkpoint(dir, reason));
        }
        if state.format < FORMAT {
            let reason = format!(
                "layout {} was written by shanty {}, this program reads layout {FORMAT}: end the run with that version, or \
                 begin a new one from its weights, `load_from: {}`",
                state.format,
                state.meta.version,
                dir.join(MODEL_FILE).display()
            );
            return Err(Error::checkpoint(dir, reason));
        }
        let Meta { batch, epoch_len, .. } = state.meta;
        if batch > epoch_len {
            let reason =
                format!("it stands at batch {batch} of an epoch of {epoch_len}: `{STATE_FILE}` is damaged");
            return Err(Error::checkpoint(dir, reason));
        }
        let mut tensors = |name: &str| files.tensors.remove(name).ok_or_else(|| missing(name));
        let rollback = match state.rollback.take() {
            Some(earlier) => {
                let StateDict(mut all) = tensors(ROLLBACK_FILE)?;
                let [model, optimizer, hooks] = [MODEL, OPTIMIZER, HOOKS].map(|part| below(&mut all, part));
                Some(Arc::new(earlier.with(StateDict(model), optimizer, hooks)))
            }
            None => None,
        };
        let optimizer =
            if state.optimizer.is_some() { tensors(OPTIMIZER_FILE)? } else { StateDict::default() };
        let model = tensors(MODEL_FILE)?;
        let hooks = tensors(HOOKS_FILE).unwrap_or_default();
        Ok(Self { rollback, ..state.with(model, optimizer.0, hooks.0) })
    }
}

type Named = Vec<(String, StateTensor)>;

/// Takes the tensors whose names begin so, without that beginning.
fn below(all: &mut Named, prefix: &str) -> Named {
    let own = |(name, _): &mut (String, StateTensor)| match name.strip_prefix(prefix) {
        Some(rest) => {
            *name = rest.to_owned();
            true
        }
        None => false,
    };
    all.extract_if(.., own).collect()
}

/// The files of a directory as they were read.
#[derive(Default)]
pub(super) struct Files {
    pub tensors: BTreeMap<String, StateDict>,
    pub state: Option<Vec<u8>>,
}

/// The tensors of a record, with `prefix` before their names.
fn named<'a>(
    prefix: String,
    record: &'a Record,
) -> impl Iterator<Item = (Cow<'a, str>, Role, &'a ArrayD<Elem>)> {
    record.tensors.iter().map(move |(name, value)| (format!("{prefix}{name}").into(), Role::Buffer, value))
}

/// The tensors of hooks as `<prefix><key>/<name>`.
fn of_hooks<'a>(
    prefix: &str,
    hooks: &'a BTreeMap<String, Record>,
) -> impl Iterator<Item = (Cow<'a, str>, Role, &'a ArrayD<Elem>)> {
    hooks.iter().flat_map(move |(key, record)| named(format!("{prefix}{key}/"), record))
}

fn by_name(tensors: impl IntoIterator<Item = (String, StateTensor)>) -> BTreeMap<String, ArrayD<Elem>> {
    tensors.into_iter().map(|(name, t)| (name, t.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint of an earlier version is refused with both versions and the remedy, not as damaged.
    #[test]
    fn an_older_layout_is_named() {
        let old =
            Checkpoint { meta: Meta { version: "0.1.0".into(), ..Meta::default() }, ..Checkpoint::default() };
        let mut state = StateFile::of(&old);
        state.format = 1;
        let files = Files { state: serde_json::to_vec(&state).ok(), ..Files::default() };
        let error = Checkpoint::from_files(Path::new("run/epoch_1"), files).unwrap_err().to_string();
        for part in
            ["run/epoch_1", "layout 1 was written by shanty 0.1.0", "layout 2", "epoch_1/model.safetensors"]
        {
            assert!(error.contains(part), "{error}");
        }
    }
}
