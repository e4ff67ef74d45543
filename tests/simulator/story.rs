//! A chain of lives: a run is started, meets its accidents, is resumed until it ends, and is looked at after each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;

use shanty::base::fs::FileSystem;
use shanty::base::{Error, Rng, keyed};
use shanty::hook::Point;
use shanty::run::{Interrupt, Limits, Outcome, Runner};
use shanty::testing::sim::{Act, Alarm, Broken, Crash, Faults, Life, Machine, Refusal, Sabotage, Tally};

use super::case::{Case, HOME, Start, lay_out};
use super::promises::{self, End};
use super::watch::Watch;

/// How a story is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Telling {
    pub sabotage: Option<Sabotage>,
    pub threads: bool,
    pub journal: bool,
}

/// What came of a seed.
pub struct Told {
    pub tally: Tally,
    pub violation: Option<String>,
    pub journal: Vec<String>,
    pub case: Case,
}

/// The whole story of a seed.
pub fn tell(seed: u64, telling: Telling) -> Told {
    let mut rng = keyed(seed, "story", 0, 0);
    let case = Case::draw(seed, &mut rng);
    let machine = Machine::new(seed);
    let machine = if telling.journal { machine.with_journal() } else { machine };
    let mut story = Story {
        case,
        rng,
        machine,
        telling,
        watch: Watch::default(),
        whole: None,
        inexact: false,
        scarred: false,
    };
    let violation = story.run().err();
    Told { tally: story.machine.tally(), violation, journal: story.machine.journal(), case: story.case }
}

struct Story {
    case: Case,
    rng: Rng,
    machine: Machine,
    telling: Telling,
    watch: Watch,
    /// The run that nobody disturbed.
    whole: Option<Whole>,
    /// It went on from a checkpoint of an iteration that had failed, which promises no bits.
    inexact: bool,
    /// Lines of the logs may be missing: the disk refused them, or lost them.
    scarred: bool,
}

#[derive(Clone)]
struct Whole {
    end: End,
    outcome: Outcome,
    operations: u64,
    seconds: f64,
    bytes: u64,
}

/// How a life ended.
struct Ended {
    result: Result<Outcome, Error>,
    log: Option<PathBuf>,
    died: bool,
    hurt: bool,
    disturbed: bool,
}

/// How a life begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Fresh,
    Resumed,
    /// From the beginning, over what an earlier life left.
    Over,
}

const FAULTY_LIVES: u64 = 6;

impl Story {
    fn run(&mut self) -> Result<(), String> {
        self.whole = Some(self.undisturbed()?);
        lay_out(&self.machine, &self.case);
        let mut how = Begin::Fresh;
        for life in 0.. {
            let calm = life >= FAULTY_LIVES;
            if how == Begin::Over {
                self.watch.seen().committed = None;
            }
            let ended = self.live(life, how, calm)?;
            self.machine.note(format_args!("-- life {life}: {:?}", ended.result));
            self.look(&ended)?;
            match &ended.result {
                Ok(Outcome::Left(_)) => {}
                Ok(outcome) if !ended.died => return self.finished(outcome, &ended),
                Ok(_) => {}
                Err(_) if ended.died => {}
                Err(error) => self.excuse(error, how, ended.hurt)?,
            }
            let next = promises::newest(&self.machine, &self.case)?.checkpoint;
            self.inexact |= next.is_some_and(|(_, checkpoint)| checkpoint.meta.inexact);
            if calm {
                return Err("a life without faults did not finish".into());
            }
            let began_over = how == Begin::Over && self.watch.seen().committed.is_none();
            if began_over {
                // The folder is this run's now, and what lies there is another's: only `--overwrite` goes on.
                continue;
            }
            how = match self.rng.random_range(0..12) {
                0 if life + 1 < FAULTY_LIVES => Begin::Over,
                1 if life + 1 < FAULTY_LIVES => Begin::Fresh,
                _ => Begin::Resumed,
            };
        }
        Ok(())
    }

    /// The same run on a machine of its own, from the beginning to the end.
    fn undisturbed(&self) -> Result<Whole, String> {
        let machine = Machine::new(self.case.seed);
        let life = machine.boot(Faults::default());
        life.create_dir(Path::new(HOME)).map_err(|e| e.to_string())?;
        let start = Start { threads: self.telling.threads, ..Start::default() };
        let builder = self.case.builder(&machine, life.clone(), start).map_err(|e| e.to_string())?;
        let mut runner = builder.build().map_err(|e| e.to_string())?;
        let outcome = runner.train().map_err(|e| format!("undisturbed: {e}"))?;
        let log = runner.session().state.dirs.log.clone();
        drop(runner);
        Ok(Whole {
            end: promises::end(&machine, &self.case, &log).map_err(|e| format!("undisturbed: {e}"))?,
            outcome,
            operations: life.operations(),
            seconds: machine.now(),
            bytes: machine.contents(Path::new("/")).values().flatten().map(|b| b.len() as u64 + 64).sum(),
        })
    }

    /// One process of the run.
    fn live(&mut self, life: u64, how: Begin, calm: bool) -> Result<Ended, String> {
        let Some(whole) = self.whole.clone() else { return Err("no whole run".into()) };
        self.machine.clear_alarms();
        self.watch.seen().saved.clear();
        let (resume, overwrite) = (how == Begin::Resumed, how == Begin::Over);
        let mut start = Start { life, resume, overwrite, threads: self.telling.threads, ..Start::default() };
        let faults = if calm { Faults::default() } else { self.faults(&whole) };
        let before = self.machine.tally();
        let process = self.machine.boot(faults);
        let mut other = None;
        if !calm {
            self.alarms(&whole, &mut start);
            if self.rng.random_range(0..16) == 0 {
                other = self.take_the_lock();
            }
        }
        let locked = other.is_some();
        let second = Arc::new(Mutex::new(None));
        let rival = (!calm && self.rng.random_range(0..8) == 0).then(|| self.rng.random_range(1..6));
        let built = catch_unwind(AssertUnwindSafe(|| self.build(&process, start.clone(), rival, &second)));
        let built = built.map_err(|_| "a panic while the run was built".to_owned())?;
        let mut log = None;
        let result = match built {
            Ok(mut runner) => {
                log = Some(runner.session().state.dirs.log.clone());
                let train = AssertUnwindSafe(|| {
                    let result = runner.train();
                    drop(runner);
                    result
                });
                catch_unwind(train).map_err(|_| "a panic while it trained".to_owned())?
            }
            Err(error) => Err(error),
        };
        drop(other);
        if let Some(text) = second.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(text);
        }
        let after = self.machine.tally();
        let hurt =
            (after.refused, after.full, after.locked_out) != (before.refused, before.full, before.locked_out);
        let refused = (after.refused, after.full) != (before.refused, before.full);
        let told =
            |e: &Error| refused || e.exit_code() == 2 || e.to_string().contains("in use by another run");
        if locked && !process.is_dead() && !result.as_ref().is_err_and(told) {
            return Err(format!("another process holds the folder, and the run came to {result:?}"));
        }
        self.scarred |= refused;
        let disturbed = hurt || after.power_failures != before.power_failures;
        Ok(Ended { result, log, died: process.is_dead(), hurt, disturbed })
    }

    fn build(
        &self,
        process: &Life,
        start: Start,
        rival: Option<u64>,
        second: &Arc<Mutex<Option<String>>>,
    ) -> Result<Runner, Error> {
        let mut builder = match self.telling.sabotage {
            Some(how) => self.case.builder(&self.machine, Broken::new(process.clone(), how), start)?,
            None => self.case.builder(&self.machine, process.clone(), start)?,
        };
        builder = self.watch.over(builder, &self.machine);
        if let Some(at) = rival {
            let (case, machine, second) = (self.case.clone(), self.machine.clone(), Arc::clone(second));
            let (sabotage, first) = (self.telling.sabotage, process.clone());
            builder = builder.on(Point::AfterTrainIter, move |cx, _| {
                if cx.clock.iter == at && !first.is_dead() {
                    let came = compete(&case, &machine, sabotage);
                    *second.lock().unwrap_or_else(PoisonError::into_inner) = came;
                }
                Ok(())
            });
        }
        builder.build()
    }

    /// What goes wrong in a life.
    fn faults(&mut self, whole: &Whole) -> Faults {
        let rng = &mut self.rng;
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
    fn alarms(&mut self, whole: &Whole, start: &mut Start) {
        let interrupt = Interrupt::default();
        let mut limits = Limits { interrupt: interrupt.clone(), ..Limits::default() };
        let seconds = whole.seconds;
        let mut at = || self.rng.random_range(0.0..1.2) * seconds;
        let (first, second) = (at(), at());
        match self.rng.random_range(0..12) {
            0 => self.machine.after(first, Alarm::Signal([2, 15][self.rng.random_range(0..2)], interrupt)),
            1 => {
                self.machine.after(first, Alarm::Save(interrupt.clone()));
                self.machine.after(second, Alarm::Save(interrupt));
            }
            2 => limits.max_seconds = Some(first),
            3 => {
                self.machine.after(first, Alarm::Save(interrupt.clone()));
                self.machine.after(second, Alarm::Signal(15, interrupt));
            }
            4 => {
                let file = Path::new(HOME).join("stop");
                drop(self.machine.onlooker().remove(&file));
                limits.stop_file = Some(file.clone());
                self.machine.after(first, Alarm::File(file));
            }
            _ => {}
        }
        start.limits = limits;
        start.no_threads = self.rng.random_range(0..8) == 0;
    }

    /// Another process takes the work_dir before this one comes.
    fn take_the_lock(&mut self) -> Option<Box<dyn shanty::base::fs::Lock>> {
        let fs = self.machine.onlooker();
        shanty::checkpoint::lock_dir(&fs, &self.case.work).ok()
    }

    /// What holds after each life, however it ended.
    fn look(&self, ended: &Ended) -> Result<(), String> {
        promises::untouched(&self.machine, &self.case)?;
        promises::resumable(&self.machine, &self.case, self.watch.seen().committed)?;
        match &ended.log {
            Some(log) if !ended.disturbed => promises::log_is_text(&self.machine, log, ended.died),
            _ => Ok(()),
        }
    }

    /// A run that failed had a reason, and says it.
    fn excuse(&self, error: &Error, how: Begin, hurt: bool) -> Result<(), String> {
        let text = error.to_string();
        if how == Begin::Fresh && text.contains("holds checkpoints of an earlier run") {
            return Ok(());
        }
        if text.contains("the stop file /home/me/stop is there already") {
            return Ok(());
        }
        if !hurt {
            return Err(format!("it failed without a fault: {text}"));
        }
        if text.contains("panic") {
            return Err(format!("a panic: {text}"));
        }
        if matches!(error, Error::Config(_)) {
            return Err(format!("the disk was at fault, and the config is blamed: {text}"));
        }
        Ok(())
    }

    /// The end is that of the run that nobody disturbed, and stays.
    fn finished(&mut self, outcome: &Outcome, ended: &Ended) -> Result<(), String> {
        let (Some(whole), Some(log)) = (self.whole.clone(), ended.log.as_deref()) else {
            return Err("no log".into());
        };
        if *outcome != whole.outcome {
            return Err(format!("it ended with {outcome:?}, undisturbed with {:?}", whole.outcome));
        }
        let end = promises::end(&self.machine, &self.case, log)?;
        let pruned = promises::planned(&self.machine, &self.watch.seen().saved);
        self.machine.crash(Crash::Power);
        promises::resumable(&self.machine, &self.case, self.watch.seen().committed)?;
        promises::untouched(&self.machine, &self.case)?;
        let kept = promises::end(&self.machine, &self.case, log).map(|end| end.parts);
        if kept.as_ref().ok() != Some(&end.parts) && !matches!(&kept, Err(e) if e.contains("scalars")) {
            return Err("the power failed after the end, and the end is another".into());
        }
        if self.inexact {
            return Ok(());
        }
        if let Some((name, _)) =
            whole.end.parts.iter().find(|(name, part)| end.parts.get(*name) != Some(part))
        {
            return Err(format!("another end: {name} differs"));
        }
        if end.parts.len() != whole.end.parts.len() {
            return Err("another end: other parts".into());
        }
        let names = &whole.end.names;
        let may_stay = |name: &String| names.contains(name) || (self.scarred && name.starts_with("best_"));
        if pruned
            && !ended.hurt
            && !(names.iter().all(|n| end.names.contains(n)) && end.names.iter().all(may_stay))
        {
            return Err(format!("checkpoints {:?} are left, undisturbed {names:?}", end.names));
        }
        self.scalars(&whole.end.scalars, &end.scalars)
    }

    /// Each step once, in order; none is missing unless the disk refused its line.
    fn scalars(&self, whole: &[String], here: &[String]) -> Result<(), String> {
        let mut rest = whole.iter();
        for line in here {
            if !rest.any(|expected| expected == line) {
                return Err(format!(
                    "scalars.json has the line {line}, which is not to come (again); {here:#?} {whole:#?}"
                ));
            }
        }
        if !self.scarred && here.len() < whole.len() {
            return Err(format!("scalars.json has {} lines, undisturbed {}", here.len(), whole.len()));
        }
        Ok(())
    }
}

/// A second run in the same place while the first lives: it must be refused, and say why. `Some` if it was not.
fn compete(case: &Case, machine: &Machine, sabotage: Option<Sabotage>) -> Option<String> {
    let process = machine.boot(Faults::default());
    let start = Start { life: 99, resume: true, ..Start::default() };
    let builder = match sabotage {
        Some(how) => case.builder(machine, Broken::new(process, how), start),
        None => case.builder(machine, process, start),
    };
    match builder.and_then(|b| b.build()).and_then(|mut runner| runner.train()) {
        Err(error) if error.to_string().contains("in use by another run") => None,
        // The machine stopped under both of them.
        Err(error) if error.to_string().contains("simulated") => None,
        other => Some(format!("a second run in the same place came to {other:?}")),
    }
}
