//! The simulated machine: a disk, a clock, and the lives of processes on it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;

use super::faults::{Act, Faults, Refused, Tally};
use super::tree::{EIO, ENOSPC, Id, Node, Tree, os};
use super::{Crash, Life};
use crate::base::{Rng, keyed};
use crate::run::Interrupt;

/// Something that happens at an instant of the simulated clock.
#[derive(Debug, Clone)]
pub enum Alarm {
    /// A signal by number: 15 is SIGTERM, 2 is SIGINT.
    Signal(usize, Interrupt),
    /// SIGUSR1.
    Save(Interrupt),
    /// A file appears.
    File(PathBuf),
}

/// A machine whose every accident is a function of its seed. Clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Mutex<World>>);

/// What a process is.
#[derive(Default)]
struct Process {
    faults: Faults,
    operations: u64,
    dead: bool,
    /// Looks on from outside of the story: nothing of it is counted.
    onlooker: bool,
    /// Readings of each file.
    readings: BTreeMap<PathBuf, u64>,
}

pub(super) struct World {
    seed: u64,
    pub tree: Tree,
    rng: Rng,
    now: f64,
    alarms: Vec<(f64, Alarm)>,
    lives: Vec<Process>,
    /// Who holds which file.
    pub locks: BTreeMap<Id, u64>,
    pub tally: Tally,
    pub refused: Vec<Refused>,
    journal: Option<Vec<String>>,
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    Go,
    /// This part of it is done, then it fails with this error.
    Refused(f64, i32),
    /// This part of it is done, then the process is no more.
    Dies(f64, Crash),
}

impl Verdict {
    /// How many of `n` steps are done; one that is refused never does the last.
    pub fn steps(self, n: usize) -> usize {
        match self {
            Self::Go => n,
            Self::Refused(part, _) => (n as f64 * part) as usize,
            Self::Dies(part, _) => (((n + 1) as f64 * part) as usize).min(n),
        }
    }

    /// Whether something that cannot be done in part is done. A refusal never does it.
    pub fn whole(self) -> bool {
        match self {
            Self::Go => true,
            Self::Refused(..) => false,
            Self::Dies(part, _) => part >= 0.5,
        }
    }
}

impl Machine {
    /// A machine with an empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            seed,
            tree: Tree::new(),
            rng: keyed(seed, "simulated machine", 0, 0),
            now: 0.0,
            alarms: Vec::new(),
            lives: Vec::new(),
            locks: BTreeMap::new(),
            tally: Tally::default(),
            refused: Vec::new(),
            journal: None,
        })))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down every operation.
    #[must_use]
    pub fn with_journal(self) -> Self {
        self.world().journal = Some(Vec::new());
        self
    }

    /// Starts a process; nothing of it is refused by default.
    pub fn boot(&self, faults: Faults) -> Life {
        let mut world = self.world();
        world.tree.capacity = faults.room.map_or(u64::MAX, |room| world.tree.used + room);
        world.lives.push(Process { faults, ..Process::default() });
        world.tally.lives += 1;
        let id = world.lives.len() as u64 - 1;
        world.note(format_args!("-- life {id} begins"));
        Life::new(self.clone(), id)
    }

    /// A process of someone who looks at the disk and is not part of the story.
    pub fn onlooker(&self) -> Life {
        let mut world = self.world();
        world.lives.push(Process { onlooker: true, ..Process::default() });
        Life::new(self.clone(), world.lives.len() as u64 - 1)
    }

    /// Ends all processes, as [`Crash`] says.
    pub fn crash(&self, how: Crash) {
        let mut world = self.world();
        for id in 0..world.lives.len() as u64 {
            world.die(id, Crash::Kill);
        }
        if how == Crash::Power {
            world.fail();
        }
    }

    /// Makes everything durable: what was there before the story begins.
    pub fn settle(&self) {
        let tree = &mut self.world().tree;
        for id in 0..tree.nodes.len() {
            tree.sync(id);
        }
    }

    /// A link at `path`.
    ///
    /// # Errors
    /// No folder for it.
    pub fn link(&self, path: &Path, to: &Path) -> io::Result<()> {
        self.world().tree.make_link(path, to)
    }

    /// Everything below a folder: `None` for directories, and what files and links hold.
    pub fn contents(&self, dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let world = self.world();
        let below = world.tree.reachable().into_iter().filter(|(path, _)| path.starts_with(dir));
        let bytes = |id: Id| match &world.tree.nodes[id] {
            Node::File(bytes) => Some(bytes.now.clone()),
            Node::Dir(_) => None,
            Node::Link(to) => Some(to.to_string_lossy().into_owned().into_bytes()),
        };
        below.map(|(path, id)| (path, bytes(id))).collect()
    }

    /// Seconds on its clock.
    pub fn now(&self) -> f64 {
        self.world().now
    }

    /// The clock of a run: each look at it takes a millisecond.
    pub fn timer(&self) -> impl FnMut() -> f64 + Send + 'static {
        let machine = self.clone();
        move || {
            let mut world = machine.world();
            world.advance(1e-3);
            world.now
        }
    }

    /// Lets something happen after this many seconds.
    pub fn after(&self, seconds: f64, alarm: Alarm) {
        let mut world = self.world();
        let at = world.now + seconds;
        world.alarms.push((at, alarm));
    }

    /// Forgets what has not happened yet.
    pub fn clear_alarms(&self) {
        self.world().alarms.clear();
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.world().tally
    }

    /// The operations that were refused so far, in order.
    pub fn refused(&self) -> Vec<Refused> {
        self.world().refused.clone()
    }

    /// What was written down so far.
    pub fn journal(&self) -> Vec<String> {
        self.world().journal.clone().unwrap_or_default()
    }

    /// Writes a line of one's own into the journal.
    pub fn note(&self, text: impl fmt::Display) {
        self.world().note(format_args!("{text}"));
    }
}

impl World {
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        if let Some(journal) = &mut self.journal {
            journal.push(text.to_string());
        }
    }

    fn advance(&mut self, seconds: f64) {
        self.now += seconds;
        while let Some(at) = self.alarms.iter().position(|(at, _)| *at <= self.now) {
            let (_, alarm) = self.alarms.swap_remove(at);
            self.tally.alarms += 1;
            match &alarm {
                Alarm::Signal(number, interrupt) => interrupt.signal.store(*number, Ordering::Relaxed),
                Alarm::Save(interrupt) => interrupt.save.store(true, Ordering::Relaxed),
                Alarm::File(path) => drop(self.tree.open(path)),
            }
            self.note(format_args!("   {alarm:?}"));
        }
    }

    pub fn is_dead(&self, life: u64) -> bool {
        self.lives.get(life as usize).is_none_or(|process| process.dead)
    }

    pub fn is_onlooker(&self, life: u64) -> bool {
        self.lives.get(life as usize).is_some_and(|process| process.onlooker)
    }

    pub fn operations(&self, life: u64) -> u64 {
        self.lives.get(life as usize).map_or(0, |process| process.operations)
    }

    /// Counts an operation and decides what becomes of it.
    pub fn judge(&mut self, life: u64, act: Act, path: &Path) -> io::Result<Verdict> {
        if self.is_dead(life) {
            return Err(gone());
        }
        let process = &mut self.lives[life as usize];
        if process.onlooker {
            return Ok(Verdict::Go);
        }
        self.tally.operations += 1;
        if act.reads() {
            return Ok(self.judge_reading(life, act, path));
        }
        process.operations += 1;
        let number = process.operations;
        let slow = process.faults.slow.is_some_and(|every| self.rng.random_range(0..every) == 0);
        let part = |rng: &mut Rng| rng.random_range(0.0..1.0);
        let verdict = if let Some((_, how)) = process.faults.crash.filter(|(at, _)| *at == number) {
            Verdict::Dies(part(&mut self.rng), how)
        } else if let Some(refusal) = process.faults.refusals.iter_mut().find_map(|r| {
            let errno = r.errno;
            r.meets(number, act).then_some(errno)
        }) {
            self.tally.refused += 1;
            Verdict::Refused(part(&mut self.rng), refusal)
        } else {
            Verdict::Go
        };
        self.tally.slow += u64::from(slow);
        self.advance(if slow { 5.0 } else { 1e-4 });
        Ok(verdict)
    }

    /// Two threads may read at once, so what becomes of a reading depends on nothing but the file and how often it was
    /// read. A process need not die while it reads: the disk is the same at its next operation.
    fn judge_reading(&mut self, life: u64, act: Act, path: &Path) -> Verdict {
        self.advance(1e-5);
        let Some(process) = self.lives.get_mut(life as usize) else { return Verdict::Go };
        let Some(every) = process.faults.unreadable.filter(|_| act == Act::Open) else { return Verdict::Go };
        let nth = process.readings.entry(path.to_owned()).or_default();
        *nth += 1;
        let address = xxhash_rust::xxh3::xxh3_64(path.as_os_str().as_encoded_bytes());
        if keyed(self.seed, "unreadable", address, *nth).random_range(0..every) > 0 {
            return Verdict::Go;
        }
        self.tally.refused += 1;
        Verdict::Refused(0.0, EIO)
    }

    /// What the process hears of an operation, after what was done of it.
    pub fn outcome<T>(&mut self, life: u64, verdict: Verdict, done: io::Result<T>) -> io::Result<T> {
        match verdict {
            Verdict::Go => {
                let full = |e: &io::Error| e.raw_os_error() == Some(ENOSPC);
                self.tally.full += u64::from(done.as_ref().is_err_and(full));
                done
            }
            Verdict::Refused(_, errno) => Err(os(errno)),
            Verdict::Dies(_, how) => {
                match how {
                    Crash::Kill => {
                        self.tally.kills += 1;
                        self.die(life, how);
                    }
                    Crash::Power => {
                        for id in 0..self.lives.len() as u64 {
                            self.die(id, how);
                        }
                        self.fail();
                    }
                }
                Err(gone())
            }
        }
    }

    fn fail(&mut self) {
        self.tally.power_failures += 1;
        self.tree.fail(&mut self.rng);
        self.note(format_args!("   the power fails"));
    }

    fn die(&mut self, life: u64, how: Crash) {
        if let Some(process) = self.lives.get_mut(life as usize).filter(|process| !process.dead) {
            process.dead = true;
            self.note(format_args!("   life {life} ends: {how:?}"));
        }
        self.locks.retain(|_, holder| *holder != life);
    }
}

/// Nobody hears this: the process is no more.
fn gone() -> io::Error {
    io::Error::other("simulated: the process is dead")
}
