//! What is in a checkpoint, and how it becomes files and back.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::tensors::{MODEL_FILE, parse_tensors, write_tensors};
use crate::base::{Error, Record, Result};
use crate::params::{Role, StateDict, StateTensor};

/// The version of the directory's layout.
const FORMAT: u32 = 1;
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const HOOKS_FILE: &str = "hooks.safetensors";
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
    /// Saved because someone asked from outside (a signal, a time limit): the next checkpoint replaces it.
    pub interim: bool,
    /// Folder of the logs, below the work_dir.
    pub log_dir: String,
    /// Bytes of `scalars.json` at the time of the save.
    pub scalars: u64,
    /// Samples that are left out of training.
    pub excluded: Vec<u64>,
    /// Class names of the training data.
    pub classes: Vec<String>,
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
    pub fn to_files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut files = vec![(MODEL_FILE, write_tensors(&self.model)?)];
        if let Some(optimizer) = &self.optimizer {
            files.push((OPTIMIZER_FILE, write_tensors(&named("", optimizer))?));
        }
        let hooks: Vec<_> = self.hooks.iter().flat_map(|(key, r)| named(&format!("{key}/"), r).0).collect();
        if !hooks.is_empty() {
            files.push((HOOKS_FILE, write_tensors(&StateDict(hooks))?));
        }
        let state = StateFile {
            format: FORMAT,
            meta: self.meta.clone(),
            optimizer: self.optimizer.as_ref().map(|r| r.data.clone()),
            hooks: self.hooks.iter().map(|(k, r)| (k.clone(), r.data.clone())).collect(),
            board: self.board.clone(),
        };
        let text = serde_json::to_vec_pretty(&state).map_err(|e| Error::Other(e.into()))?;
        files.push((STATE_FILE, text));
        Ok(files)
    }

    /// A checkpoint from the verified files of the directory `dir`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a file is missing or damaged.
    pub fn from_files(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let file = |name: &str| {
            files.get(name).ok_or_else(|| Error::checkpoint(dir, format!("`{name}` is missing")))
        };
        let state: StateFile = serde_json::from_slice(file(STATE_FILE)?)
            .map_err(|e| Error::checkpoint(dir, format!("`{STATE_FILE}` cannot be read: {e}")))?;
        if state.format > FORMAT {
            let reason =
                format!("layout {} is newer than this program ({FORMAT}); update shanty", state.format);
            return Err(Error::checkpoint(dir, reason));
        }
        let tensors = |name: &str| parse_tensors(&dir.join(name), file(name)?);
        let optimizer = match state.optimizer {
            Some(data) => Some(Record { data, tensors: unnamed("", tensors(OPTIMIZER_FILE)?) }),
            None => None,
        };
        let of_hooks =
            if files.contains_key(HOOKS_FILE) { tensors(HOOKS_FILE)? } else { StateDict::default() };
        let hooks = state
            .hooks
            .into_iter()
            .map(|(key, data)| {
                let tensors = unnamed(&format!("{key}/"), of_hooks.clone());
                (key, Record { data, tensors })
            })
            .collect();
        Ok(Self { model: tensors(MODEL_FILE)?, optimizer, hooks, board: state.board, meta: state.meta })
    }
}

fn named(prefix: &str, record: &Record) -> StateDict {
    let tensor = |(name, value): (&String, &ndarray::ArrayD<_>)| {
        (format!("{prefix}{name}"), StateTensor { role: Role::Buffer, value: value.clone() })
    };
    StateDict(record.tensors.iter().map(tensor).collect())
}

fn unnamed(prefix: &str, tensors: StateDict) -> BTreeMap<String, ndarray::ArrayD<crate::base::Elem>> {
    let own = |(name, t): (String, StateTensor)| Some((name.strip_prefix(prefix)?.to_owned(), t.value));
    tensors.0.into_iter().filter_map(own).collect()
}
