//! Random damage to everything that is read from disk: no panic, and no memory beyond the size of the file.
//!
//! `SHANTY_FUZZ_SECONDS=600 cargo test --release --test fuzz -- --nocapture --test-threads 1` is the long form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::RngExt;
use shanty::base::{Rng, keyed};
use shanty::checkpoint::{load, parse_tensors};
use shanty::testing::{reseal, toy_runner};

/// Megabytes that a process may take at its highest, all inputs being far below one.
const LIMIT_MB: u64 = 400;

/// Cuts, overwrites, repeats and inserts: bytes that formats care about, and pieces of the input itself.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    const SALT: [&[u8]; 10] = [
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"18446744073709551615",
        b"-1",
        b"1e999",
        b"{",
        b"[[[[[[[[",
        b"\"",
        b"null",
        b"\x00",
        b"\x80\x02}",
    ];
    for _ in 0..rng.random_range(1..=4u32) {
        let at = rng.random_range(0..=bytes.len() as u64) as usize;
        match rng.random_range(0..6u32) {
            0 => bytes.truncate(at),
            1 | 2 if at < bytes.len() => bytes[at] = rng.random_range(0..256u32) as u8,
            3 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8u32),
            4 => {
                let end = (at + rng.random_range(1..64u64) as usize).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len() as u64) as usize;
                bytes.splice(to..to, piece);
            }
            _ => {
                let salt = SALT[rng.random_range(0..SALT.len() as u64) as usize];
                let end = (at + salt.len() * rng.random_range(0..2u64) as usize).min(bytes.len());
                bytes.splice(at..end, salt.iter().copied());
            }
        }
    }
}

fn highest_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Feeds damaged copies of `seeds` to `read` for as long as the environment says.
fn fuzz(name: &str, seeds: &[Vec<u8>], read: impl Fn(&[u8])) {
    let seconds = std::env::var("SHANTY_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0u64;
    while Instant::now() < end {
        let mut rng = keyed(0, name, count, 0);
        let mut bytes = seeds[(count % seeds.len() as u64) as usize].clone();
        damage(&mut bytes, &mut rng);
        if catch_unwind(AssertUnwindSafe(|| read(&bytes))).is_err() {
            let kept = std::env::temp_dir().join(format!("shanty_fuzz_{name}_{count}"));
            fs::write(&kept, &bytes).unwrap();
            panic!("{name}: input {count} panics, kept in {}", kept.display());
        }
        count += 1;
    }
    let highest = highest_mb();
    println!("{name}: {count} inputs in {seconds} s, no panic, {highest} MB at the highest");
    assert!(highest < LIMIT_MB, "{name}: {highest} MB");
}

/// A real checkpoint.
fn checkpoint(dir: &Path) -> std::path::PathBuf {
    toy_runner(dir, 1, 3).unwrap().build().unwrap().train().unwrap();
    dir.join("epoch_1")
}

#[test]
fn manifest() {
    let dir = tempfile::tempdir().unwrap();
    let home = checkpoint(dir.path());
    let file = home.join("manifest.json");
    let elsewhere =
        br#"{"iter": 1, "resumable": true, "files": {"../../../../dev/zero": {"bytes": 0, "xxh3_128": ""}}}"#;
    let link = br#"{"iter": 1, "resumable": true, "files": {"/dev/zero": {"bytes": 9, "xxh3_128": ""}, "..": {"bytes": 4096, "xxh3_128": ""}}}"#;
    let seeds = [fs::read(&file).unwrap(), elsewhere.to_vec(), link.to_vec()];
    fuzz("manifest", &seeds, |bytes| {
        fs::write(&file, bytes).unwrap();
        let _ = load(&home);
    });
}

#[test]
fn state() {
    let dir = tempfile::tempdir().unwrap();
    let home = checkpoint(dir.path());
    let state = home.join("state.json");
    fuzz("state", &[fs::read(&state).unwrap()], |bytes| {
        fs::write(&state, bytes).unwrap();
        // The manifest is right, so that the damage is read.
        reseal(&home, |_| {}).unwrap();
        let _ = load(&home);
    });
}

#[test]
fn safetensors() {
    let dir = tempfile::tempdir().unwrap();
    let home = checkpoint(dir.path());
    let seeds = ["model.safetensors", "optimizer.safetensors"].map(|file| fs::read(home.join(file)).unwrap());
    fuzz("safetensors", &seeds, |bytes| {
        let _ = parse_tensors(Path::new("fuzz"), bytes);
    });
}

#[cfg(feature = "torch")]
#[test]
fn pth() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pth");
    let seeds = ["plain.pth", "legacy.pth", "nested.pth", "expanded.pth", "evil.pth"]
        .map(|file| fs::read(fixtures.join(file)).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fuzz.pth");
    fuzz("pth", &seeds, |bytes| {
        fs::write(&file, bytes).unwrap();
        let _ = shanty::checkpoint::read_tensors(&file);
    });
}
