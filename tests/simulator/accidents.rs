//! What happens to a life, drawn.

use std::path::Path;

use rand::RngExt;

use shanty::base::Rng;
use shanty::base::fs::FileSystem;
use shanty::run::{Interrupt, Limits};
use shanty::testing::sim::{Act, Alarm, Broken, Crash, Faults, Machine, Refusal, Sabotage};

use super::case::{Case, HOME, Start};
use super::story::Whole;

/// What goes wrong in a life.
pub fn faults(rng: &mut Rng, whole: &Whole) -> Faults {
    let mut faults = Faults::default();
    if rng.random_range(0..10) < 7 {
        let how = if rng.random_range(0..4) == 0 { Crash::Kill } else { Crash::Power };
        faults.crash = Some((rng.random_range(1..=whole.operations), how));
    }
    if rng.random_range(0..6) == 0 {
        let act = Act::CHANGING[rng.random_range(0..Act::CHANGING.len())];
        faults.refusals.push(Refusal {
            from: rng.random_range(1..=whole.operations),
            act: (rng.random_range(0..4) > 0).then_some(act),
            errno: [5, 13, 28, 122][rng.random_range(0..4)],
            times: [1, 1, 3, u64::MAX][rng.random_range(0..4)],
        });
    }
    if rng.random_range(0..10) == 0 {
        faults.room = Some(rng.random_range(0..=whole.bytes));
    }
    if rng.random_range(0..16) == 0 {
        faults.unreadable = Some(rng.random_range(1..12));
    }
    if rng.random_range(0..4) == 0 {
        faults.slow = Some(rng.random_range(3..60));
    }
    faults
}

/// Signals, a time limit, a stop file.
pub fn alarms(rng: &mut Rng, machine: &Machine, whole: &Whole, start: &mut Start) {
    let interrupt = Interrupt::default();
    let mut limits = Limits { interrupt: interrupt.clone(), ..Limits::default() };
    let seconds = whole.seconds;
    let mut at = || rng.random_range(0.0..1.2) * seconds;
    let (first, second) = (at(), at());
    match rng.random_range(0..12) {
        0 => machine.after(first, Alarm::Signal([2, 15][rng.random_range(0..2)], interrupt)),
        1 => {
            machine.after(first, Alarm::Save(interrupt.clone()));
            machine.after(second, Alarm::Save(interrupt));
        }
        2 => limits.max_seconds = Some(first),
        3 => {
            machine.after(first, Alarm::Save(interrupt.clone()));
            machine.after(second, Alarm::Signal(15, interrupt));
        }
        4 => {
            let file = Path::new(HOME).join("stop");
            drop(machine.onlooker().remove(&file));
            limits.stop_file = Some(file.clone());
            machine.after(first, Alarm::File(file));
        }
        _ => {}
    }
    start.limits = limits;
    start.no_threads = rng.random_range(0..8) == 0;
}

/// A second run in the same place while the first lives: it must be refused, and say why. `Some` if it was not.
pub fn compete(case: &Case, machine: &Machine, sabotage: Option<Sabotage>) -> Option<String> {
    let process = machine.boot(Faults::default());
    let start = Start { life: 99, resume: true, ..Start::default() };
    let builder = match sabotage {
        Some(how) => case.builder(machine, Broken::new(process, how, case.keep), start),
        None => case.builder(machine, process, start),
    };
    match builder.and_then(|b| b.build()).and_then(|mut runner| runner.train()) {
        Err(error) if error.to_string().contains("in use by another run") => None,
        // The machine stopped under both of them.
        Err(error) if error.to_string().contains("simulated") => None,
        other => Some(format!("a second run in the same place came to {other:?}")),
    }
}
