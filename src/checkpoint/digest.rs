//! Digests: two runs are equal if theirs are, and if not the first tensor that differs has a name.

use xxhash_rust::xxh3::Xxh3;

use crate::base::{Elem, Error, Record, Result};
use crate::comm::Comm;
use crate::params::{Params, Set, StateDict, all, trained};

use super::Checkpoint;

/// An xxh3-128 over names, shapes and bits.
#[derive(Clone, Default)]
pub struct Digest(Xxh3);

impl Digest {
    /// Adds a tensor: its name, its shape, the bits of its values in logical order.
    pub fn tensor(&mut self, name: &str, value: &ndarray::ArrayViewD<'_, Elem>) {
        self.text(name);
        value.shape().iter().for_each(|n| self.number(*n as u64));
        let mut bytes = Vec::with_capacity(value.len() * size_of::<Elem>());
        value.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        self.0.update(&bytes);
    }

    /// Adds a text with its length.
    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Adds all tensors of a model.
    ///
    /// # Errors
    /// What the device of the model says.
    pub fn params(&mut self, params: &dyn Params) -> Result<()> {
        params.read(Set::Values, &all, &mut |p, value| self.tensor(p.name, &value))
    }

    /// Adds the data and tensors of a record.
    pub fn record(&mut self, record: &Record) {
        self.text(&record.data.to_string());
        record.tensors.iter().for_each(|(name, value)| self.tensor(name, &value.view()));
    }

    /// The digest of what was added: 32 hex digits.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

/// The digest of each part of a checkpoint by name: every tensor of the model, the optimizer and the hooks, and plain
/// data. Names of the run, times and paths do not count.
pub fn parts(checkpoint: &Checkpoint) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let one = |name: &str, value: &ndarray::ArrayD<Elem>| {
        let mut digest = Digest::default();
        digest.tensor(name, &value.view());
        digest.hex()
    };
    let StateDict(model) = &checkpoint.model;
    all.extend(model.iter().map(|(name, t)| (format!("model/{name}"), one(name, &t.value))));
    let mut record = |prefix: String, record: &Record| {
        let mut data = Digest::default();
        data.text(&record.data.to_string());
        all.push((format!("{prefix} (data)"), data.hex()));
        all.extend(record.tensors.iter().map(|(name, t)| (format!("{prefix}/{name}"), one(name, t))));
    };
    checkpoint.optimizer.iter().for_each(|r| record("optimizer".into(), r));
    checkpoint.hooks.iter().for_each(|(key, r)| record(format!("hook {key}"), r));
    let meta = &checkpoint.meta;
    let mut counters = Digest::default();
    [meta.epoch, meta.iter, meta.batch, meta.seed, meta.validated.map_or(0, |at| at + 1)]
        .iter()
        .for_each(|n| counters.number(*n));
    all.push(("counters".into(), counters.hex()));
    let earlier = checkpoint.rollback.iter().flat_map(|earlier| parts(earlier));
    all.extend(earlier.map(|(name, part)| (format!("rollback/{name}"), part)));
    all
}

/// Makes sure that all ranks, each of which calls this, hold equal weights. Buffers do not count, for they belong to a
/// rank.
///
/// # Errors
/// The first rank that holds others than rank 0, and the first of them; what the other ranks say, and the device.
pub fn same_on_all_ranks(params: &dyn Params, comm: &dyn Comm) -> Result<()> {
    if comm.place().world == 1 {
        return Ok(());
    }
    let mut tensors: Vec<(String, String)> = Vec::new();
    params.read(Set::Values, &trained, &mut |p, value| {
        let mut digest = Digest::default();
        digest.tensor(p.name, &value);
        tensors.push((p.name.to_owned(), digest.hex()));
    })?;
    let lines = |tensors: &[(String, String)]| -> String {
        tensors.iter().flat_map(|(name, own)| [name.as_str(), " ", own.as_str(), "\n"]).collect()
    };
    let mut whole = Digest::default();
    tensors.iter().for_each(|(_, own)| whole.text(own));
    let given = comm.gather(whole.hex().as_bytes())?;
    let Some(rank) = given.iter().position(|own| Some(own) != given.first()) else { return Ok(()) };
    let given = comm.gather(lines(&tensors).as_bytes())?;
    let of = |rank: usize| String::from_utf8_lossy(given.get(rank).map_or(&[][..], Vec::as_slice));
    let (first, other) = (of(0), of(rank));
    let differs = first.lines().zip(other.lines()).find(|(first, other)| first != other);
    let tensor =
        differs.and_then(|(first, _)| first.rsplit_once(' ')).map_or("their number", |(name, _)| name);
    Err(Error::invalid(format!(
        "rank {rank} holds other weights than rank 0, the first of them `{tensor}`: ranks that train together take the same \
         steps, so something changed them by what its own rank alone saw"
    )))
}

/// One digest over all [`parts`].
pub fn of(checkpoint: &Checkpoint) -> String {
    let mut digest = Digest::default();
    for (name, part) in parts(checkpoint) {
        digest.text(&name);
        digest.text(&part);
    }
    digest.hex()
}

/// The first part in which two checkpoints differ, or that only one has.
pub fn first_difference(a: &Checkpoint, b: &Checkpoint) -> Option<String> {
    let (a, b) = (parts(a), parts(b));
    let differs = a
        .iter()
        .zip(&b)
        .find(|(x, y)| x != y)
        .map(|(x, y)| if x.0 == y.0 { x.0.clone() } else { format!("{} (against {})", x.0, y.0) });
    differs.or_else(|| {
        let rest = if a.len() > b.len() { a.get(b.len()) } else { b.get(a.len()) };
        rest.map(|(name, _)| format!("{name} (only in one)"))
    })
}
