//! A chain of lives: a run is started, meets its accidents, is resumed until it ends, and is looked at after each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;

use shanty::base::fs::FileSystem;
use shanty::base::{Error, Rng, keyed};
use shanty::hook::Point;
use shanty::run::{Outcome, Runner};
use shanty::testing::sim::{Broken, Crash, Faults, Life, Machine, Refused, Sabotage, Tally};

use super::accidents;
use super::case::{Case, HOME, Start, lay_out};
use super::promises::{self, End};
use super::spared::{Spared, is_of_a_checkpoint};
use super::watch::Watch;

/// How a story is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Telling {
    pub sabotage: Option<Sabotage>,
    pub threads: bool,
    pub journal: bool,
    /// Nothing happens, and nobody else is there.
    pub calm: bool,
}

/// What came of a seed.
pub struct Told {
    pub tally: Tally,
    pub violation: Option<String>,
    pub journal: Vec<String>,
    pub case: Case,
    pub spared: Spared,
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
        spared: Spared::default(),
    };
    let violation = story.run().err();
    let (tally, journal) = (story.machine.tally(), story.machine.journal());
    Told { tally, violation, journal, case: story.case, spared: story.spared }
}

struct Story {
    case: Case,
    rng: Rng,
    machine: Machine,
    telling: Telling,
    watch: Watch,
    /// The run that nobody disturbed.
    whole: Option<Whole>,
    /// What was not compared.
    spared: Spared,
}

#[derive(Clone)]
pub struct Whole {
    end: End,
    outcome: Outcome,
    pub operations: u64,
    pub seconds: f64,
    pub bytes: u64,
}

/// How a life ended.
struct Ended {
    result: Result<Outcome, Error>,
    log: Option<PathBuf>,
    died: bool,
    /// What the disk refused.
    refused: Vec<Refused>,
    /// It met somebody else's lock.
    locked_out: bool,
    power_failed: bool,
}

impl Ended {
    /// Whether the disk refused something in whose path this stands.
    fn refused(&self, what: &str) -> bool {
        self.refused.iter().any(|refused| refused.path.to_string_lossy().contains(what))
    }
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
        if !self.telling.calm {
            lay_out(&self.machine, &self.case);
        }
        let mut how = Begin::Fresh;
        for life in 0.. {
            let calm = self.telling.calm || life >= FAULTY_LIVES;
            if how == Begin::Over {
                self.watch.seen().committed = None;
            }
            let ended = self.live(life, how, calm)?;
            self.machine.note(format_args!("-- life {life}: {:?}", ended.result));
            self.look(&ended)?;
            match &ended.result {
                Ok(Outcome::Interrupted(_)) => {}
                Ok(outcome) if !ended.died => return self.finished(outcome, &ended),
                Ok(_) => {}
                Err(_) if ended.died => {}
                Err(error) => self.excuse(error, how, &ended)?,
            }
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
        let (resume, overwrite) = (how == Begin::Resumed, how == Begin::Over);
        self.watch.seen().begin(resume);
        let refused_before = self.machine.refused().len();
        let mut start = Start { life, resume, overwrite, threads: self.telling.threads, ..Start::default() };
        let faults = if calm { Faults::default() } else { accidents::faults(&mut self.rng, &whole) };
        let before = self.machine.tally();
        let process = self.machine.boot(faults);
        let mut other = None;
        if !calm {
            accidents::alarms(&mut self.rng, &self.machine, &whole, &mut start);
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
        let refused = self.machine.refused().split_off(refused_before);
        let told = |e: &Error| {
            !refused.is_empty() || e.exit_code() == 2 || e.to_string().contains("in use by another run")
        };
        if locked && !process.is_dead() && !result.as_ref().is_err_and(told) {
            return Err(format!("another process holds the folder, and the run came to {result:?}"));
        }
        log.iter().for_each(|log| self.watch.seen().end(log));
        let power_failed = after.power_failures != before.power_failures;
        Ok(Ended { result, log, died: process.is_dead(), refused, locked_out: locked, power_failed })
    }

    fn build(
        &self,
        process: &Life,
        start: Start,
        rival: Option<u64>,
        second: &Arc<Mutex<Option<String>>>,
    ) -> Result<Runner, Error> {
        let mut builder = match self.telling.sabotage {
            Some(how) => {
                let broken = Broken::new(process.clone(), how, self.case.keep);
                self.case.builder(&self.machine, broken, start)?
            }
            None => self.case.builder(&self.machine, process.clone(), start)?,
        };
        builder = self.watch.over(builder, &self.machine);
        if let Some(at) = rival {
            let (case, machine, second) = (self.case.clone(), self.machine.clone(), Arc::clone(second));
            let (sabotage, first) = (self.telling.sabotage, process.clone());
            builder = builder.on(Point::AfterTrainIter, move |cx, _| {
                if cx.progress.iter == at && !first.is_dead() {
                    let came = accidents::compete(&case, &machine, sabotage);
                    // Its thread that saves may have been killed meanwhile: then the folder was free.
                    if !first.is_dead() {
                        *second.lock().unwrap_or_else(PoisonError::into_inner) = came;
                    }
                }
                Ok(())
            });
        }
        builder.build()
    }

    /// Another process takes the work_dir before this one comes.
    fn take_the_lock(&mut self) -> Option<Box<dyn shanty::base::fs::Lock>> {
        let fs = self.machine.onlooker();
        shanty::checkpoint::lock_dir(&fs, &self.case.work).ok()
    }

    /// What holds after each life, however it ended.
    fn look(&mut self, ended: &Ended) -> Result<(), String> {
        self.is_untouched()?;
        let committed = self.watch.seen().committed;
        let passed_over = self.watch.seen().passed_over;
        promises::resumable(&self.machine, &self.case, committed)?;
        if let Some((committed, taken)) = passed_over {
            // What cannot be read today is passed over, and the run goes on from an older one.
            if !ended.refused.iter().any(|refused| refused.act.reads()) {
                return Err(format!(
                    "iteration {committed} was committed, and a resume went on from {taken}"
                ));
            }
            self.spared.passed_over += 1;
        }
        ended.log.iter().try_for_each(|log| promises::replays(&self.machine, log))?;
        match &ended.log {
            // The text log is written without waiting for the disk.
            Some(_) if ended.power_failed || ended.refused(".log") => {
                self.spared.text_log += 1;
                Ok(())
            }
            Some(log) => promises::log_is_text(&self.machine, log, ended.died),
            None => Ok(()),
        }
    }

    fn is_untouched(&self) -> Result<(), String> {
        if self.telling.calm { Ok(()) } else { promises::untouched(&self.machine, &self.case) }
    }

    /// A run that failed had a reason, and says it.
    fn excuse(&self, error: &Error, how: Begin, ended: &Ended) -> Result<(), String> {
        let text = whole_text(error);
        if how == Begin::Fresh && text.contains("holds checkpoints of an earlier run")
            || ended.locked_out && text.contains("in use by another run")
            || text.contains("the stop file /home/me/stop is there already")
        {
            return Ok(());
        }
        if matches!(error, Error::Config(_)) {
            return Err(format!("the config is blamed: {text}"));
        }
        let says = |refused: &Refused| {
            let cause = std::io::Error::from_raw_os_error(refused.errno).to_string();
            text.contains(cause.split(" (os").next().unwrap_or(&cause))
        };
        if text.contains("panic") || !ended.refused.iter().any(says) {
            return Err(format!(
                "it failed, and not with what the disk refused: {text}; {:?}",
                ended.refused
            ));
        }
        Ok(())
    }

    /// The end is that of the run that nobody disturbed, and stays.
    fn finished(&mut self, outcome: &Outcome, ended: &Ended) -> Result<(), String> {
        let (Some(whole), Some(log)) = (self.whole.clone(), ended.log.as_deref()) else {
            return Err("no log".into());
        };
        let end = promises::end(&self.machine, &self.case, log)?;
        let pruned = promises::planned(&self.machine, &self.watch.seen().saved);
        if !self.telling.calm {
            self.machine.crash(Crash::Power);
        }
        promises::resumable(&self.machine, &self.case, self.watch.seen().committed)?;
        self.is_untouched()?;
        let kept = promises::end(&self.machine, &self.case, log).map(|end| end.parts);
        if kept.as_ref().ok() != Some(&end.parts) && !matches!(&kept, Err(e) if e.contains("scalars")) {
            return Err("the power failed after the end, and the end is another".into());
        }
        if self.watch.seen().inexact {
            self.spared.inexact += 1;
            return Ok(());
        }
        if *outcome != whole.outcome {
            return Err(format!("it ended with {outcome:?}, undisturbed with {:?}", whole.outcome));
        }
        if let Some((name, _)) =
            whole.end.parts.iter().find(|(name, part)| end.parts.get(*name) != Some(part))
        {
            return Err(format!("another end: {name} differs"));
        }
        if end.parts.len() != whole.end.parts.len() {
            return Err("another end: other parts".into());
        }
        self.names(&whole.end.names, &end.names, pruned, ended)?;
        self.scalars(&whole.end.scalars, &end.scalars)
    }

    /// None is missing, and none is too many unless it could not be deleted.
    fn names(
        &mut self,
        whole: &[String],
        here: &[String],
        pruned: bool,
        ended: &Ended,
    ) -> Result<(), String> {
        let wrong = Err(format!("checkpoints {here:?} are left, undisturbed {whole:?}"));
        if whole.iter().any(|name| !here.contains(name)) {
            return wrong;
        }
        let ever = self.machine.refused();
        let stays = |name: &&String| {
            // Of the best ones the next best is the next save.
            let best = name.starts_with("best_");
            let refused = if best { &ever } else { &ended.refused };
            !(best || pruned) || refused.iter().any(|refused| is_of_a_checkpoint(&refused.path, best))
        };
        let surplus: Vec<_> = here.iter().filter(|name| !whole.contains(name)).collect();
        if surplus.iter().any(|name| !stays(name)) {
            return wrong;
        }
        self.spared.surplus += u64::from(!surplus.is_empty());
        Ok(())
    }

    /// Each step once, in order; none is missing unless the disk refused its line.
    fn scalars(&mut self, whole: &[String], here: &[String]) -> Result<(), String> {
        let mut rest = whole.iter();
        for line in here {
            if !rest.any(|expected| expected == line) {
                return Err(format!(
                    "scalars.json has the line {line}, which is not to come (again); {here:#?} {whole:#?}"
                ));
            }
        }
        if here.len() == whole.len() {
            return Ok(());
        }
        if !self.machine.refused().iter().any(|refused| refused.path.to_string_lossy().contains("vis_data")) {
            return Err(format!("scalars.json has {} lines, undisturbed {}", here.len(), whole.len()));
        }
        self.spared.lines += 1;
        Ok(())
    }
}

/// An error with its causes.
fn whole_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}
