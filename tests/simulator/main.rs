//! Thousands of lives of runs on a simulated machine, each by its seed, checked against what shanty promises.
//!
//! `SHANTY_SIM_SEEDS=50000 cargo test --release --test simulator -- --nocapture` is the long form.
//! `SHANTY_SIM_SEED=123 cargo test --test simulator one_seed -- --nocapture` tells one story, operation by operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod accidents;
mod case;
mod promises;
mod spared;
mod story;
mod watch;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shanty::testing::sim::{Sabotage, Tally};
use spared::Spared;
use story::{Telling, Told, tell};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|n| n.parse().ok())
}

/// What came of many seeds.
#[derive(Default)]
struct Sum {
    tally: Tally,
    spared: Spared,
    violations: Vec<(u64, String)>,
    told: u64,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, spared, violations, told } = self;
        write!(f, "{told} seeds, {tally}; spared: {spared:?}; {} violations", violations.len())
    }
}

/// Tells the stories of these seeds on two threads until `enough` violations were found.
fn tell_all(seeds: u64, telling: Telling, enough: usize) -> Sum {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || sum.lock().unwrap().violations.len() >= enough {
                        break;
                    }
                    let told = tell(seed, telling);
                    let mut sum = sum.lock().unwrap();
                    sum.tally.add(&told.tally);
                    sum.spared.add(&told.spared);
                    sum.violations.extend(told.violation.map(|text| (seed, text)));
                    sum.told += 1;
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap();
    sum.violations.sort();
    sum
}

#[test]
fn runs_keep_every_promise() {
    let seeds = number("SHANTY_SIM_SEEDS").unwrap_or(1000);
    let began = Instant::now();
    let sum = tell_all(seeds, Telling::default(), 20);
    println!("{sum}; {:.1?}", began.elapsed());
    let lines: Vec<_> = sum.violations.iter().map(|(seed, text)| format!("seed {seed}: {text}")).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// Stories far out that were violations once: a refused read of a manifest made a checkpoint another run's.
#[test]
fn stories_that_broke_a_promise_are_told_again() {
    for seed in [8700, 10969, 12281, 19320, 22359, 23030, 24250, 24947, 34275, 34733, 41624, 49992] {
        assert_eq!(tell(seed, Telling::default()).violation, None, "seed {seed}");
    }
}

/// A real thread writes the saves: what comes before what is left to the system, and must not matter.
#[test]
fn saves_on_a_thread_keep_every_promise() {
    let sum = tell_all(100, Telling { threads: true, ..Telling::default() }, 5);
    println!("with threads: {sum}");
    assert!(sum.violations.is_empty(), "{:#?}", sum.violations);
}

/// Whoever breaks the order of a commit is found.
#[test]
fn every_sabotage_is_found_within_a_thousand_seeds() {
    for how in Sabotage::ALL {
        let telling = Telling { sabotage: Some(how), ..Telling::default() };
        let sum = tell_all(1000, telling, 1);
        let Some((seed, text)) = sum.violations.first() else { panic!("{how:?} was not found in {sum}") };
        println!("{how:?}: found by seed {seed}, after {}: {text}", sum.told);
    }
}

/// It is found by what happens to it, not by what it looks like.
#[test]
fn no_sabotage_shows_where_nothing_happens() {
    for how in Sabotage::ALL {
        let sum = tell_all(200, Telling { sabotage: Some(how), calm: true, ..Telling::default() }, 5);
        assert!(sum.violations.is_empty() && sum.told == 200, "{how:?}: {:#?}", sum.violations);
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..20 {
        let telling = Telling { journal: true, ..Telling::default() };
        let (one, two) = (tell(seed, telling), tell(seed, telling));
        let written = |told: &Told| -> Vec<String> {
            let lines = told.journal.iter();
            lines.filter(|line| !["Entry", "Open "].iter().any(|read| line.contains(read))).cloned().collect()
        };
        assert_eq!(written(&one), written(&two), "seed {seed}");
        assert_eq!((one.tally, one.violation), (two.tally, two.violation), "seed {seed}");
    }
}

#[test]
fn one_seed() {
    let Some(seed) = number("SHANTY_SIM_SEED") else { return };
    let sabotage = std::env::var("SHANTY_SIM_SABOTAGE").ok();
    let sabotage = sabotage.and_then(|name| Sabotage::ALL.into_iter().find(|how| format!("{how:?}") == name));
    let told = tell(seed, Telling { sabotage, journal: true, ..Telling::default() });
    told.journal.iter().for_each(|line| println!("{line}"));
    println!("{:#?}\n{}", told.case, told.tally);
    assert_eq!(told.violation, None);
}
