//! `shanty ckpt`: look into checkpoints, compare, average and convert them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::console;
use crate::base::{Error, Result, durable};
use crate::checkpoint::{Checkpoint, digest, load, write_tensors};
use crate::params::{Role, StateDict};

/// Arguments of `ckpt`.
#[derive(Debug, Clone, Args)]
pub(super) struct Ckpt {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// What is in it: counters, tensors, state of hooks. Verifies every file on the way.
    Inspect {
        /// A checkpoint: a directory of ours, a .safetensors or a .pth file.
        checkpoint: PathBuf,
    },
    /// One hash over weights, optimizer, hooks and counters; equal for equal runs.
    Digest {
        /// A checkpoint.
        checkpoint: PathBuf,
        /// A line for each part too.
        #[arg(long)]
        parts: bool,
    },
    /// The parts in which two checkpoints differ. Exit code 1 if there are any.
    Diff {
        /// A checkpoint.
        a: PathBuf,
        /// Another.
        b: PathBuf,
    },
    /// The mean of the weights of several checkpoints, as a .safetensors file.
    Average {
        /// The checkpoints.
        #[arg(required = true, num_args = 1..)]
        checkpoints: Vec<PathBuf>,
        /// The file to write.
        #[arg(long, short)]
        out: PathBuf,
    },
    /// The weights of a checkpoint as a .safetensors file.
    Convert {
        /// A checkpoint.
        checkpoint: PathBuf,
        /// The file to write.
        out: PathBuf,
    },
}

impl Ckpt {
    pub fn run(self) -> Result<u8> {
        match &self.what {
            What::Inspect { checkpoint } => inspect(&load(checkpoint)?),
            What::Digest { checkpoint, parts } => {
                let checkpoint = load(checkpoint)?;
                if *parts {
                    for (name, hash) in digest::parts(&checkpoint) {
                        console::say(&format!("{hash}  {name}"));
                    }
                }
                console::say(&digest::of(&checkpoint));
            }
            What::Diff { a, b } => return diff(&load(a)?, &load(b)?),
            What::Average { checkpoints, out } => save(&average(checkpoints)?, out)?,
            What::Convert { checkpoint, out } => save(&load(checkpoint)?.model, out)?,
        }
        Ok(0)
    }
}

fn inspect(checkpoint: &Checkpoint) {
    let meta = &checkpoint.meta;
    if !meta.version.is_empty() {
        console::say(&format!(
            "{}: epoch {}, iteration {}, seed {}, written by shanty {}",
            meta.experiment_name, meta.epoch, meta.iter, meta.seed, meta.version
        ));
    }
    let (mut numbers, mut tensors) = (0, 0);
    for (name, tensor) in &checkpoint.model.0 {
        (numbers, tensors) = (numbers + tensor.value.len(), tensors + 1);
        console::say(&format!("  {name:<48} {:?}", tensor.value.shape()));
    }
    console::say(&format!("{tensors} tensors, {numbers} numbers"));
    match &checkpoint.optimizer {
        Some(record) => console::say(&format!("optimizer: {} tensors", record.tensors.len())),
        None => console::say("no optimizer: weights only"),
    }
    for (key, record) in &checkpoint.hooks {
        console::say(&format!("hook {key}: {} tensors, {}", record.tensors.len(), record.data));
    }
}

fn diff(a: &Checkpoint, b: &Checkpoint) -> Result<u8> {
    let (mut one, two) = (digest::parts(a), digest::parts(b));
    one.retain(|part| !two.contains(part));
    let only = |part: &&(String, String)| !digest::parts(a).iter().any(|(name, _)| *name == part.0);
    for (name, _) in &one {
        let far = name.strip_prefix("model/").and_then(|n| distance(a.model.get(n)?, b.model.get(n)?));
        let far = far.map(|far| format!(", by up to {far:e}")).unwrap_or_default();
        console::say(&format!("{name} differs{far}"));
    }
    let new: Vec<_> = two.iter().filter(only).collect();
    new.iter().for_each(|(name, _)| console::say(&format!("{name} is only in the second")));
    if one.is_empty() && new.is_empty() {
        console::say("equal");
        return Ok(0);
    }
    Ok(1)
}

fn distance(a: &crate::params::StateTensor, b: &crate::params::StateTensor) -> Option<f64> {
    let same = a.value.shape() == b.value.shape();
    let pairs = a.value.iter().zip(&b.value);
    same.then(|| pairs.map(|(x, y)| f64::from((x - y).abs())).fold(0.0, f64::max))
}

/// Sums in double precision; counters are those of the last.
fn average(paths: &[PathBuf]) -> Result<StateDict> {
    let all = paths.iter().map(|path| Ok(load(path)?.model)).collect::<Result<Vec<_>>>()?;
    let Some(last) = all.last() else { return Err(Error::config("there is nothing to average")) };
    let mut mean = last.clone();
    for (name, tensor) in mean.0.iter_mut().filter(|(_, t)| t.role != Role::Counter) {
        let mut sum = tensor.value.mapv(|_| 0.0f64);
        for (state, path) in all.iter().zip(paths) {
            let other = state.get(name).filter(|t| t.value.shape() == sum.shape()).ok_or_else(|| {
                Error::checkpoint(path, format!("it has no `{name}` of shape {:?}", sum.shape()))
            })?;
            sum.zip_mut_with(&other.value, |s, v| *s += f64::from(*v));
        }
        tensor.value = sum.mapv(|s| (s / all.len() as f64) as crate::base::Elem);
    }
    Ok(mean)
}

fn save(state: &StateDict, out: &Path) -> Result<()> {
    durable::write(out, &write_tensors(state)?)?;
    console::say(&format!("{} tensors in {}", state.0.len(), out.display()));
    Ok(())
}
