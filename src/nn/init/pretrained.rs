//! Weights from a file.

use std::path::Path;

use ndarray::ArrayViewMutD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Fans, Initializer};
use crate::base::{Elem, Error, Result, Rng};
use crate::checkpoint::local;
use crate::checkpoint::tensors::read_tensors;
use crate::nn::{ModuleTree, tree};
use crate::params::{LoadReport, StateDict};

/// Copies the tensors of a checkpoint that fit by name and shape. The rest keeps what other rules gave it and is
/// logged; it is an error if nothing fits. `module.` in front of the file's names (a wrapper of the writer) is left
/// off.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Pretrained {
    /// A checkpoint directory, a file of weights, or the address of one, which is looked for in PyTorch's cache.
    #[schemars(length(min = 1))]
    pub checkpoint: String,
    /// Takes only the tensors below this name in the file, and leaves it off: `backbone.`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Accepted for MMEngine's configs; there is one place for tensors here.
    #[serde(default)]
    pub map_location: Option<String>,
}

impl Pretrained {
    /// All tensors of a file.
    pub fn new(checkpoint: impl Into<String>) -> Self {
        Self { checkpoint: checkpoint.into(), prefix: None, map_location: None }
    }
}

impl Initializer for Pretrained {
    fn describe(&self) -> String {
        format!("PretrainedInit: load from {}", self.checkpoint)
    }

    fn fill(&self, _weight: &mut ArrayViewMutD<'_, Elem>, _fans: Option<Fans>, _rng: &mut Rng) -> Result<()> {
        Err(Error::invalid("Pretrained loads tensors by name; it fills no single layer"))
    }

    fn loads(&self) -> bool {
        true
    }

    fn tensors(&self) -> Result<Option<StateDict>> {
        let path = &local(&self.checkpoint)?;
        let mut state = read_tensors(path)?;
        for (name, _) in &mut state.0 {
            if let Some(rest) = name.strip_prefix("module.") {
                *name = rest.to_owned();
            }
        }
        match &self.prefix {
            None => Ok(Some(state)),
            Some(prefix) => below(state, prefix, path).map(Some),
        }
    }
}

/// The tensors below `prefix`, which may end in a dot or not.
fn below(state: StateDict, prefix: &str, path: &Path) -> Result<StateDict> {
    let prefix = format!("{}.", prefix.trim_end_matches('.'));
    let first = heads(&state).join(", ");
    let rest: Vec<_> = state
        .0
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor)))
        .collect();
    if rest.is_empty() {
        return Err(Error::checkpoint(
            path,
            format!("no tensor is called `{prefix}…`; names begin with: {first}"),
        ));
    }
    Ok(StateDict(rest))
}

/// The first steps of all names, each once.
fn heads(state: &StateDict) -> Vec<&str> {
    let mut heads: Vec<_> = state.0.iter().filter_map(|(name, _)| name.split('.').next()).collect();
    heads.sort_unstable();
    heads.dedup();
    heads
}

/// Why a file changed nothing in `module`, and what to write instead if that can be guessed.
pub(super) fn nothing_fits(
    rule: &str,
    file: &StateDict,
    done: &LoadReport,
    module: &dyn ModuleTree,
) -> String {
    let kind = module.type_name();
    if !done.mismatched.is_empty() {
        return format!(
            "{rule}: no tensor has the shape that `{kind}` wants: {}",
            done.mismatched.join("; ")
        );
    }
    let mut wanted = Vec::new();
    tree::visit(module, &mut |p| wanted.push(p.name.to_owned()));
    let fits = |name: &str| wanted.iter().any(|w| w == name);
    let outer = heads(file).into_iter().find(|head| {
        file.0
            .iter()
            .any(|(name, _)| name.strip_prefix(head).and_then(|n| n.strip_prefix('.')).is_some_and(fits))
    });
    let inner = wanted.iter().find_map(|name| {
        let (head, rest) = name.split_once('.')?;
        file.get(rest).map(|_| head)
    });
    let hint = match (outer, inner) {
        (Some(head), _) => format!(": set `prefix: {head}`"),
        (_, Some(head)) => format!(": it fits `{head}`, so give this init_cfg to that"),
        _ => String::new(),
    };
    format!(
        "{rule}: none of its {} tensors has a name of `{kind}` (it has {}; `{kind}` wants {}){hint}",
        file.0.len(),
        some(file.0.iter().map(|(name, _)| name)),
        some(wanted.iter()),
    )
}

fn some<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut all: Vec<_> = names.take(4).map(|name| format!("`{name}`")).collect();
    if all.len() == 4 {
        all[3] = "…".into();
    }
    all.join(", ")
}
