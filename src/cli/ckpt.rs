//! `shanty ckpt`: look into checkpoints, compare, average and convert them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::evaluate::refuse_swapped;
use super::output::{Output, spare, spare_inputs};
use super::{ConfigArgs, console};
use crate::base::escape::escaped;
use crate::base::fs::Disk;
use crate::base::number::{count, short};
use crate::base::{Error, Result};
use crate::checkpoint::{Checkpoint, MODEL_FILE, digest, load, locate, raw, write_tensors};
use crate::nn::FusedWeights;
use crate::run::{fused_weights, quoted};

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
        /// A checkpoint: a directory of ours, a work_dir, `latest` or `best` in one, a .safetensors or a .pth file.
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
    /// The mean of the weights of several checkpoints that hold the same tensors, as a .safetensors file. Whole numbers
    /// are those of the last.
    Average {
        /// The checkpoints.
        #[arg(required = true, num_args = 1..)]
        checkpoints: Vec<PathBuf>,
        /// The file to write.
        #[arg(long, short)]
        out: PathBuf,
    },
    /// The weights of a checkpoint as a .safetensors file, with each batch norm in the convolution or linear layer
    /// before it. The same config reads them by `load_options.fused=true`.
    Fuse {
        #[command(flatten)]
        config: ConfigArgs,
        /// A checkpoint.
        checkpoint: PathBuf,
        /// The file to write.
        out: PathBuf,
    },
    /// The weights of a checkpoint as a .safetensors file, each in the type that it has.
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
            What::Inspect { checkpoint } => inspect(&named(checkpoint)?)?,
            What::Digest { checkpoint, parts } => {
                let checkpoint = load(&named(checkpoint)?)?;
                if *parts {
                    for (name, hash) in digest::parts(&checkpoint) {
                        console::say(&format!("{hash}  {}", escaped(&name)));
                    }
                }
                console::say(&digest::of(&checkpoint));
            }
            What::Diff { a, b } => return diff(&load(&named(a)?)?, &load(&named(b)?)?),
            What::Average { checkpoints, out } => {
                refuse_other_type(out)?;
                let paths = checkpoints.iter().map(|path| named(path)).collect::<Result<Vec<_>>>()?;
                let save = Save::of(&paths, out)?;
                let all = paths.iter().map(|path| Ok((path.as_path(), raw::read(path)?)));
                save.write(&raw::mean(&all.collect::<Result<Vec<_>>>()?)?)?;
            }
            What::Fuse { config, checkpoint, out } => fuse(config, checkpoint, out)?,
            What::Convert { checkpoint, out } => {
                refuse_other_type(out)?;
                let path = named(checkpoint)?;
                Save::of(std::slice::from_ref(&path), out)?.write(&raw::read(&path)?)?;
            }
        }
        Ok(0)
    }
}

fn fuse(config: &ConfigArgs, checkpoint: &Path, out: &Path) -> Result<()> {
    refuse_swapped(&config.config, checkpoint, "ckpt fuse")?;
    refuse_other_type(out)?;
    let mut config = config.clone();
    config.set.extend([format!("load_from={}", quoted(checkpoint)?), "resume=false".into()]);
    let node = config.resolve()?;
    spare_inputs(out, &node)?;
    let save = Save::of(&[checkpoint.to_owned()], out)?;
    let (weights, FusedWeights { fused, left }) = fused_weights(&node, Some(&config.name()))?;
    for (norm, reason) in &left {
        console::complain(&format!("`{}` stays: {reason}", escaped(norm)));
    }
    if fused.is_empty() {
        return Err(Error::config("there is no batch norm that could be fused"));
    }
    console::complain(&format!("{} in the weights before them", count(fused.len() as u64, "batch norm")));
    save.write_bytes(weights.0.len(), &write_tensors(&weights)?)
}

/// A checkpoint, by its path or by a word of its folder.
fn named(path: &Path) -> Result<PathBuf> {
    locate(&Disk, path, Path::new("."))
}

fn inspect(path: &Path) -> Result<()> {
    let tensors = raw::read(path)?;
    // A file of weights may hold types that no model computes with: its tensors are all there is to tell.
    let checkpoint = if path.is_dir() { load(path)? } else { Checkpoint::default() };
    let meta = &checkpoint.meta;
    if !meta.version.is_empty() {
        console::say(&format!(
            "{}: epoch {}, iteration {}, seed {}, written by shanty {}",
            escaped(&meta.experiment_name),
            meta.epoch,
            meta.iter,
            meta.seed,
            escaped(&meta.version)
        ));
    }
    let mut numbers = 0usize;
    for tensor in &tensors {
        numbers = numbers.saturating_add(tensor.shape.iter().product());
        console::say(&format!("  {:<48} {:<5} {:?}", escaped(&tensor.name), tensor.dtype, tensor.shape));
    }
    console::say(&format!("{} tensors, {numbers} numbers", tensors.len()));
    match &checkpoint.optimizer {
        Some(record) => console::say(&format!("optimizer: {} tensors", record.tensors.len())),
        None => console::say("no optimizer: weights only"),
    }
    for (key, record) in &checkpoint.hooks {
        let tensors = match record.tensors.len() {
            0 => String::new(),
            n => format!("{n} tensors, "),
        };
        console::say(&format!("hook {}: {tensors}{}", escaped(key), record.data));
    }
    Ok(())
}

fn diff(a: &Checkpoint, b: &Checkpoint) -> Result<u8> {
    let (mut one, two) = (digest::parts(a), digest::parts(b));
    one.retain(|part| !two.contains(part));
    let only = |part: &&(String, String)| !digest::parts(a).iter().any(|(name, _)| *name == part.0);
    for (name, _) in &one {
        let far = name.strip_prefix("model/").and_then(|n| distance(a.model.get(n)?, b.model.get(n)?));
        let far = far.map(|far| format!(", by up to {}", short(far))).unwrap_or_default();
        console::say(&format!("{} differs{far}", escaped(name)));
    }
    let new: Vec<_> = two.iter().filter(only).collect();
    new.iter().for_each(|(name, _)| console::say(&format!("{} is only in the second", escaped(name))));
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

/// Endings under which other programs look for other types of file.
const OTHER_TYPES: [&str; 22] = [
    "pth", "pt", "bin", "ckpt", "pkl", "npz", "npy", "h5", "hdf5", "onnx", "gguf", "json", "jsonl", "yaml",
    "yml", "py", "toml", "csv", "tsv", "txt", "svg", "png",
];

fn refuse_other_type(out: &Path) -> Result<()> {
    let ending = out.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if !OTHER_TYPES.contains(&ending.as_str()) {
        return Ok(());
    }
    let name = out.with_extension("safetensors");
    Err(Error::config(format!(
        "`{}` would not be a .{ending} file: shanty writes .safetensors only, name it `{}`",
        escaped(&out.to_string_lossy()),
        escaped(&name.to_string_lossy())
    )))
}

/// Where tensors go.
struct Save<'a> {
    out: &'a Path,
    file: Output,
}

impl<'a> Save<'a> {
    /// Before the checkpoints are read of which they are.
    fn of(read: &[PathBuf], out: &'a Path) -> Result<Self> {
        let weights = |path: &PathBuf| if path.is_dir() { path.join(MODEL_FILE) } else { path.clone() };
        spare(out, &read.iter().map(weights).collect::<Vec<_>>())?;
        Ok(Self { out, file: Output::at(out)? })
    }

    /// Writes tensors, and says so: beside them if they go to stdout.
    fn write(self, tensors: &[raw::RawTensor]) -> Result<()> {
        self.write_bytes(tensors.len(), &raw::write(tensors)?)
    }

    /// Writes a file of so many tensors.
    fn write_bytes(self, tensors: usize, bytes: &[u8]) -> Result<()> {
        let told = format!("{tensors} tensors in {}", self.out.display());
        let say = if self.file.write(bytes)? { console::tell } else { console::complain };
        say(&told);
        Ok(())
    }
}
