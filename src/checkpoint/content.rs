//! What is in a checkpoint, and how it becomes files and back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::encode::{Content, Layout};
use super::tensors::MODEL_FILE;
use crate::base::{Elem, Error, Record, Result};
use crate::data::Fingerprint;
use crate::params::{Role, StateDict, StateTensor};

/// The version of the directory's layout.
const FORMAT: u32 = 1;
pub(super) const OPTIMIZER_FILE: &str = "optimizer.safetensors";
pub(super) const HOOKS_FILE: &str = "hooks.safetensors";
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
    /// Samples in a batch of the training data; 0 if unknown.
    pub batch_size: u64,
    /// The iteration at which the last validation ended.
    pub validated: Option<u64>,
    /// The seed of the run.
    pub seed: u64,
    /// `<name>_<timestamp>` of the run that wrote it.
    pub experiment_name: String,
    /// The run that it belongs to, whichever process wrote it: a run that is resumed keeps it.
    pub run: String,
    /// Written in the midst of an iteration that failed: a run that goes on from it is not bit for bit the one that did not.
    pub inexact: bool,
    /// Folder of the logs, below the work_dir.
    pub log_dir: String,
    /// Bytes of `scalars.json` at the time of the save.
    pub scalars: u64,
    /// Samples that are left out of training.
    pub excluded: Vec<u64>,
    /// Class names of the training data.
    pub classes: Vec<String>,
    /// The data sets by loader, as they were.
    pub data: BTreeMap<String, Fingerprint>,
    /// Samples of the training data that could not be read, with the reason.
    pub unreadable: Vec<(usize, String)>,
    /// The resolved config, as YAML.
    pub config: String,
    /// Version of shanty.
    pub version: String,
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
    /// The board, as plain data.
    pub board: serde_json::Value,
    /// Counters and facts.
    pub meta: Meta,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    meta: Meta,
    optimizer: Option<serde_json::Value>,
    hooks: BTreeMap<String, serde_json::Value>,
    board: serde_json::Value,
}

impl Checkpoint {
    /// The files of the directory, except the manifest.
    ///
    /// # Errors
    /// When something in it cannot be written down.
    pub(super) fn contents(&self) -> Result<Vec<(&'static str, Content<'_>)>> {
        let mut files = vec![(MODEL_FILE, Content::Tensors(Layout::of_state(&self.model)?))];
        if let Some(optimizer) = &self.optimizer {
            files.push((OPTIMIZER_FILE, Content::Tensors(Layout::of(named("", optimizer))?)));
        }
        if self.hooks.values().any(|record| !record.tensors.is_empty()) {
            let tensors = self.hooks.iter().flat_map(|(key, record)| named(key, record));
            files.push((HOOKS_FILE, Content::Tensors(Layout::of(tensors)?)));
        }
        let state = StateFile {
            format: FORMAT,
            meta: self.meta.clone(),
            optimizer: self.optimizer.as_ref().map(|r| r.data.clone()),
            hooks: self.hooks.iter().map(|(k, r)| (k.clone(), r.data.clone())).collect(),
            board: self.board.clone(),
        };
        let text = serde_json::to_vec_pretty(&state).map_err(|e| Error::Other(e.into()))?;
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
        let state: StateFile = serde_json::from_slice(&state)
            .map_err(|e| Error::checkpoint(dir, format!("`{STATE_FILE}` cannot be read: {e}")))?;
        if state.format > FORMAT {
            let reason =
                format!("layout {} is newer than this program ({FORMAT}); update shanty", state.format);
            return Err(Error::checkpoint(dir, reason));
        }
        let mut tensors = |name: &str| files.tensors.remove(name).ok_or_else(|| missing(name));
        let optimizer = match state.optimizer {
            Some(data) => Some(Record { data, tensors: by_name(tensors(OPTIMIZER_FILE)?.0) }),
            None => None,
        };
        let model = tensors(MODEL_FILE)?;
        let mut of_hooks = tensors(HOOKS_FILE).map(|state| state.0).unwrap_or_default();
        let hooks = state
            .hooks
            .into_iter()
            .map(|(key, data)| {
                let own = |(name, _): &mut (String, StateTensor)| match name.strip_prefix(&format!("{key}/"))
                {
                    Some(rest) => {
                        *name = rest.to_owned();
                        true
                    }
                    None => false,
                };
                let tensors = by_name(of_hooks.extract_if(.., own));
                (key, Record { data, tensors })
            })
            .collect();
        Ok(Self { model, optimizer, hooks, board: state.board, meta: state.meta })
    }
}

/// The files of a directory as they were read.
#[derive(Default)]
pub(super) struct Files {
    pub tensors: BTreeMap<String, StateDict>,
    pub state: Option<Vec<u8>>,
}

/// The tensors of a record; those of a hook as `<key>/<name>`.
fn named<'a>(key: &str, record: &'a Record) -> impl Iterator<Item = (Cow<'a, str>, Role, &'a ArrayD<Elem>)> {
    record.tensors.iter().map(move |(name, value)| {
        let name = if key.is_empty() { name.into() } else { format!("{key}/{name}").into() };
        (name, Role::Buffer, value)
    })
}

fn by_name(tensors: impl IntoIterator<Item = (String, StateTensor)>) -> BTreeMap<String, ArrayD<Elem>> {
    tensors.into_iter().map(|(name, t)| (name, t.value)).collect()
}
