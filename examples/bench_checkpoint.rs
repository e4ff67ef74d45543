//! A large checkpoint against raw write(2) + fsync and raw read(2) of as many bytes, alternately in one run.
//!
//! `cargo run --release --example bench_checkpoint -- [SIZE_MB] [DIR]`
//!
//! 50 weights and their 50 momentum buffers are together SIZE_MB (1024) million bytes. Our side is what a run does: the
//! whole commit (files, hashes, manifest, every fsync, the rename, the pointer) and the verified load. The raw side
//! writes and reads one file of one buffer. Reads come from the page cache, into fresh memory on both sides. Names are
//! new in every round and old ones are removed outside the measurement.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ndarray::{ArrayD, IxDyn};
use shanty::base::fs::Disk;
use shanty::checkpoint::{Checkpoint, Commit, Home, load};
use shanty::params::{StateDict, StateTensor};
use shanty::plugin::prelude::*;

const ROUNDS: usize = 5;
const TENSORS: usize = 50;

fn filled(len: usize, seed: usize) -> ArrayD<Elem> {
    let value = |i: usize| ((i.wrapping_mul(2_654_435_761) ^ seed) & 0xffff) as Elem / 65536.0;
    ArrayD::from_shape_fn(IxDyn(&[len]), |index| value(index[0]))
}

fn checkpoint(bytes: usize) -> Result<Checkpoint, BoxError> {
    let len = bytes / (2 * TENSORS * size_of::<Elem>());
    let mut momentum = Record::of(&"momentum")?;
    let mut model = Vec::new();
    for i in 0..TENSORS {
        let name = format!("backbone.{i:02}.weight");
        momentum = momentum.with(format!("momentum.{name}"), filled(len, i + TENSORS));
        model.push((name, StateTensor { role: Role::Weight, value: filled(len, i) }));
    }
    Ok(Checkpoint { model: StateDict(model), optimizer: Some(momentum), ..Checkpoint::default() })
}

/// Lets the disk finish what went before.
fn settle() {
    let _ = Command::new("sync").status();
}

/// A field of the process's status in MiB (0 where /proc does not tell): VmRSS is now, VmHWM the peak.
fn memory(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1)?.parse().ok());
    line.unwrap_or(0.0) / 1024.0
}

/// Seconds, and the peak of memory meanwhile in MiB.
fn timed<T>(what: impl FnOnce() -> T) -> (f64, f64, T) {
    // Sets the peak back to what is in use.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let began = Instant::now();
    let result = what();
    (began.elapsed().as_secs_f64(), memory("VmHWM"), result)
}

fn raw_write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn raw_read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Median (min-max).
fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, median, max) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
}

#[derive(Default)]
struct Side {
    raw: Vec<f64>,
    ours: Vec<f64>,
    memory: Vec<f64>,
}

impl Side {
    fn report(&self, what: &str, raw: &str, megabytes: f64) {
        let rate = |seconds: &[f64]| seconds.iter().map(|s| megabytes / s).collect::<Vec<_>>();
        let ratios: Vec<_> = self.raw.iter().zip(&self.ours).map(|(raw, ours)| 100.0 * raw / ours).collect();
        println!(
            "{what}: {} MB/s, {raw} {} MB/s, ratio {} %, memory +{} MiB",
            spread(&rate(&self.ours), 0),
            spread(&rate(&self.raw), 0),
            spread(&ratios, 0),
            spread(&self.memory, 0)
        );
    }
}

fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let megabytes: usize = args.next().map_or(Ok(1024), |text| text.parse())?;
    let dir = args.next().map_or_else(std::env::temp_dir, Into::into).join("shanty_bench_checkpoint");
    fs::create_dir_all(&dir)?;
    let checkpoint = checkpoint(megabytes * 1_000_000)?;
    let raw: Vec<u8> = (0..megabytes * 1_000_000).map(|i| (i ^ (i >> 8)) as u8).collect();
    // What is in use before anything is saved or read.
    let base = memory("VmRSS");
    let (mut save, mut read) = (Side::default(), Side::default());
    for round in 0..ROUNDS {
        let (raw_file, name) = (dir.join(format!("raw_{round}")), format!("round_{round}"));
        settle();
        let (seconds, _, written) = timed(|| raw_write(&raw_file, &raw));
        written?;
        save.raw.push(seconds);
        settle();
        let commit = Commit {
            fs: &Disk,
            out_dir: &dir,
            name: &name,
            home: &Home { dir: dir.clone(), ..Home::default() },
            series: "",
            is_last: true,
            prune: &[],
        };
        let (seconds, peak, home) = timed(|| commit.run(&checkpoint));
        let (home, _) = home?;
        save.ours.push(seconds);
        save.memory.push(peak - base);
        settle();
        let (seconds, _, bytes) = timed(|| raw_read(&raw_file));
        read.raw.push(seconds);
        drop(bytes?);
        settle();
        let (seconds, peak, loaded) = timed(|| load(&home));
        read.ours.push(seconds);
        read.memory.push(peak - base);
        let loaded = loaded?;
        if round == 0 && loaded != checkpoint {
            return Err("what was loaded is not what was saved".into());
        }
        fs::remove_file(&raw_file)?;
        fs::remove_dir_all(&home)?;
    }
    println!("{megabytes} MB in {} and as many momentum buffers, {ROUNDS} rounds", TENSORS);
    save.report("commit", "raw write + fsync", megabytes as f64);
    read.report("verified load", "raw read", megabytes as f64);
    fs::remove_dir_all(&dir)?;
    Ok(())
}
