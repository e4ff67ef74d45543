//! Thousands of lives of runs on a simulated machine, each by its seed, checked against what shanty promises.
//!
//! `SHANTY_SIM_SEEDS=50000 cargo test --release --test simulator -- --nocapture` is the long form.
//! `SHANTY_SIM_SEED=123 cargo test --test simulator one_seed -- --nocapture` tells one story, operation by operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod case;
mod promises;
mod story;
mod watch;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shanty::testing::sim::{Sabotage, Tally};
use story::{Telling, Told, tell};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|n| n.parse().ok())
}

/// Tells the stories of these seeds on two threads until `enough` violations were found.
fn tell_all(seeds: u64, telling: Telling, enough: usize) -> (Tally, Vec<(u64, String)>, u64) {
    let next = AtomicU64::new(0);
    let sum = Mutex::new((Tally::default(), Vec::new(), 0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || sum.lock().unwrap().1.len() >= enough {
                        break;
                    }
                    let Told { tally, violation, .. } = tell(seed, telling);
                    let mut sum = sum.lock().unwrap();
                    sum.0.add(&tally);
                    sum.1.extend(violation.map(|text| (seed, text)));
                    sum.2 += 1;
                }
            });
        }
    });
    let (tally, mut violations, told) = sum.into_inner().unwrap();
    violations.sort();
    (tally, violations, told)
}

#[test]
fn runs_keep_every_promise() {
    let seeds = number("SHANTY_SIM_SEEDS").unwrap_or(1000);
    let began = Instant::now();
    let (tally, violations, told) = tell_all(seeds, Telling::default(), 20);
    println!("{told} seeds, {tally}; {} violations; {:.1?}", violations.len(), began.elapsed());
    let lines: Vec<_> = violations.iter().map(|(seed, text)| format!("seed {seed}: {text}")).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// A real thread writes the saves: what comes before what is left to the system, and must not matter.
#[test]
fn saves_on_a_thread_keep_every_promise() {
    let (tally, violations, told) = tell_all(100, Telling { threads: true, ..Telling::default() }, 5);
    println!("{told} seeds with threads, {tally}; {} violations", violations.len());
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Whoever breaks the order of a commit is found.
#[test]
fn every_sabotage_is_found_within_a_thousand_seeds() {
    for how in Sabotage::ALL {
        let telling = Telling { sabotage: Some(how), ..Telling::default() };
        let (tally, violations, told) = tell_all(1000, telling, 1);
        let Some((seed, text)) = violations.first() else {
            panic!("{how:?} was not found in {told} seeds, {tally}")
        };
        println!("{how:?}: found by seed {seed}, after {told}: {text}");
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
