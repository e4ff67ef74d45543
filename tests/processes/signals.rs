//! Ranks that are killed, told to leave, or hang, at random instants of real runs.
//!
//! `scripts/prove_ranks.sh` is the long form.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::RngExt;
use shanty::base::keyed;
use shanty::checkpoint::load;

use crate::command::{Place, places, said};

/// A run that ends long after it has been hurt.
const ENDLESS: &str = "train_cfg.max_epochs=1000000";
/// Runs are compared at the end of an epoch that is a multiple of this.
const APART: u64 = 40;

/// How often a test hurts its runs: as the variable says, else a few times.
fn count(variable: &str, short: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(short)
}

/// The processes of a launcher that run shanty.
fn ranks_of(launcher: u32) -> Vec<u32> {
    let parent = |id: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let is_below =
        |id: u32| std::iter::successors(Some(id), |id| parent(*id)).take(9).any(|id| id == launcher);
    let is_shanty =
        |id: &u32| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.ends_with("shanty"));
    let ids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    let mut ranks: Vec<u32> = ids.filter(is_shanty).filter(|id| is_below(*id)).collect();
    ranks.sort_unstable();
    ranks
}

/// A launcher whose words are read while it runs: a pipe that nobody reads fills up, and it waits for that for ever.
struct Started {
    child: Child,
    words: [JoinHandle<Vec<u8>>; 2],
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut words = Vec::new();
        from.read_to_end(&mut words).unwrap();
        words
    })
}

impl Started {
    /// Starts a run that would go on for long.
    fn new(place: &Place, work: &str, more: &[&str]) -> Self {
        let mut command = place.train(2, work, &[&["--set", ENDLESS], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let words = [read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap())];
        Self { child, words }
    }

    /// What it said, once it has ended.
    fn output(mut self) -> Output {
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = self.words.map(|words| words.join().unwrap());
        Output { status, stdout, stderr }
    }
}

/// The same, and its ranks once it has saved.
fn under_way(place: &Place, work: &str, more: &[&str]) -> (Started, Vec<u32>) {
    let mut run = Started::new(place, work, more);
    let began = Instant::now();
    while !place.work(work).join("last_checkpoint").exists() {
        if began.elapsed() > Duration::from_secs(30) || run.child.try_wait().unwrap().is_some() {
            run.child.kill().unwrap();
            panic!("it does not train: {}", said(&run.output()));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let ranks = ranks_of(run.child.id());
    assert_eq!(ranks.len(), 2);
    (run, ranks)
}

fn kill(signal: &str, id: u32) -> bool {
    Command::new("kill").args([signal, &id.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}

/// Reaped, or a failure if it hangs; with the time until the launcher and all of these ranks are gone.
fn reap(mut run: Started, ranks: &[u32]) -> (Output, Duration) {
    let began = Instant::now();
    let gone = |id: &u32| !Path::new(&format!("/proc/{id}/exe")).exists();
    while run.child.try_wait().unwrap().is_none() || !ranks.iter().all(gone) {
        assert!(began.elapsed() < Duration::from_secs(50), "it hangs, or a rank lives on");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let took = began.elapsed();
    (run.output(), took)
}

/// The checkpoints in a work_dir.
fn checkpoints(place: &Place, work: &str) -> Vec<String> {
    let Ok(all) = fs::read_dir(place.work(work)) else { return Vec::new() };
    let names = all.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("iter_") || name.starts_with("epoch_")).collect()
}

/// Goes on with what is left of a run, to an epoch's end behind it, and holds it against runs that were not cut.
fn goes_on_as_uncut(place: &Place, work: &str, uncut: &mut BTreeMap<u64, Vec<Vec<u8>>>) {
    let newest = fs::read_to_string(place.work(work).join("last_checkpoint"));
    let reached = newest.map_or(0, |name| load(&place.work(work).join(name.trim())).unwrap().meta.epoch);
    let end = (reached + 1).next_multiple_of(APART);
    let to_the_end = |work: &str, more: &[&str]| {
        let length = format!("train_cfg.max_epochs={end}");
        let output = place.train(2, work, &[more, &["--set", &length]].concat()).output().unwrap();
        assert_eq!(place.exit_code(work), Some(0), "{:?}: {}", place.what(), said(&output));
        assert!(!said(&output).contains("left in its place"), "{}", said(&output));
        place.end(work)
    };
    let whole = uncut.entry(end).or_insert_with(|| to_the_end(&format!("uncut_{end}"), &[]));
    assert!(to_the_end(work, &["--resume"]) == *whole, "{:?}: another end at epoch {end}", place.what());
}

/// A random rank is killed at a random instant, between the start and the midst of the training: the other is gone within
/// ten seconds, and the run goes on to the end of one that was not cut.
#[test]
fn a_rank_that_is_killed_ends_all() {
    let kills = count("SHANTY_RANK_KILLS", 2);
    for place in places("a_rank_that_is_killed_ends_all") {
        let (mut rng, mut uncut, mut longest) = (keyed(7, "kills", 0, 0), BTreeMap::new(), Duration::ZERO);
        let (mut done, mut early) = (0_usize, 0);
        while done < kills {
            let work = format!("w{done}");
            // Every second one falls into the training, however slow the machine makes the start.
            let run = if done.is_multiple_of(2) {
                under_way(&place, &work, &[]).0
            } else {
                Started::new(&place, &work, &[])
            };
            std::thread::sleep(Duration::from_secs_f64(rng.random_range(0.0..2.0)));
            let launcher = run.child.id();
            let ranks = ranks_of(launcher);
            // The launcher may not have started them yet.
            let killed = !ranks.is_empty() && kill("-KILL", ranks[rng.random_range(0..ranks.len())]);
            if !killed {
                kill("-KILL", launcher);
            }
            let (output, took) = reap(run, &ranks);
            if !killed {
                continue;
            }
            assert!(!output.status.success(), "{:?}: {}", place.what(), said(&output));
            assert!(took < Duration::from_secs(10), "{:?} took {took:?}", place.what());
            assert_eq!(place.exit_code(&work), None, "no code of a run that was killed");
            early += usize::from(checkpoints(&place, &work).is_empty());
            goes_on_as_uncut(&place, &work, &mut uncut);
            fs::remove_dir_all(place.work(&work)).unwrap();
            (done, longest) = (done + 1, longest.max(took));
        }
        println!(
            "{:?}: {kills} SIGKILLs of a random rank, {early} before the first checkpoint: the others gone within \
             {longest:?}, every run ended byte-identical",
            place.what()
        );
    }
}

/// SIGTERM to the launcher at a random instant of the training, or to one rank: all agree on one checkpoint, the file says
/// what to do, and the run goes on to the end of one that was not cut.
#[test]
fn a_signal_ends_all_in_one_checkpoint() {
    let terms = count("SHANTY_RANK_TERMS", 1);
    for place in places("a_signal_ends_all_in_one_checkpoint") {
        let (mut rng, mut uncut, mut longest) = (keyed(7, "terms", 0, 0), BTreeMap::new(), Duration::ZERO);
        for nth in 0..terms + 2 {
            let work = format!("w{nth}");
            let (run, ranks) = under_way(&place, &work, &[]);
            std::thread::sleep(Duration::from_secs_f64(rng.random_range(0.0..1.0)));
            let launcher = run.child.id();
            let whom = ranks.get(nth.wrapping_sub(terms)).copied().unwrap_or(launcher);
            assert!(kill("-TERM", whom));
            let (output, took) = reap(run, &ranks);
            let text = said(&output);
            assert_eq!(place.exit_code(&work), Some(143), "{:?}: {text}", place.what());
            // Open MPI's launcher passes on nothing more once it has been told to end.
            let said_once = |words: &str| text.matches(words).count() == 1 || whom == launcher;
            assert!(said_once("WARN - SIGTERM: saving and leaving"), "{text}");
            assert!(said_once("interrupted (SIGTERM"), "{text}");
            // One was saved in this moment, or is now; there is no other but the periodic one before it.
            let after = text.rsplit_once("WARN - SIGTERM: saving and leaving").map_or("", |(_, after)| after);
            assert!(after.matches("saving checkpoint").count() <= 1, "{:?}: {text}", place.what());
            assert!(checkpoints(&place, &work).len() <= 2, "{:?}: {text}", place.what());
            goes_on_as_uncut(&place, &work, &mut uncut);
            fs::remove_dir_all(place.work(&work)).unwrap();
            longest = longest.max(took);
        }
        println!(
            "{:?}: {terms} SIGTERMs to the launcher, 2 to a rank: one checkpoint each, code 143 in the file, gone within \
             {longest:?}, every run ended byte-identical",
            place.what()
        );
    }
}

/// A rank that is stopped is named by the others, and ended with them.
#[test]
fn a_rank_that_hangs_is_named_and_ended() {
    for place in places("a_rank_that_hangs_is_named_and_ended") {
        let (run, ranks) = under_way(&place, "w", &["env_cfg={dist_cfg: {timeout: 1.5}}"]);
        assert!(kill("-STOP", ranks[1]));
        let (output, took) = reap(run, &ranks);
        let text = said(&output);
        assert!(
            !output.status.success() && took < Duration::from_secs(12),
            "{:?} {took:?}: {text}",
            place.what()
        );
        // Ids grow as ranks are started, but for the one time in a million that they begin anew.
        let named =
            ["rank 0 has not come to", "rank 1 has not come to"].map(|named| text.matches(named).count());
        assert_eq!(named[0] + named[1], 1, "{:?}: {text}", place.what());
        assert!(text.contains("within 1.5s: it hangs"), "{:?}: {text}", place.what());
        goes_on_as_uncut(&place, "w", &mut BTreeMap::new());
    }
}
