//! What the files of a run tell, whether it is still under way or long over: nothing is written, nothing is waited for.

mod record;

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::base::error::IoContext;
use crate::base::number::count;
use crate::base::{Error, Result};
use crate::checkpoint::{LOCK_FILE, OWNER_FILE, VIS_DATA};
use crate::config::{self, Node};
use crate::hook::Mode;
use crate::metric::Direction;
use crate::vis::{EVENTS, SCALARS, WORST_SAMPLES};
use record::Record;

/// One line of scalars.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Training, or an evaluation.
    pub mode: Mode,
    /// Whether a hook has told it of its own accord: it says nothing of how far the run is.
    pub own: bool,
    /// Completed iterations: of an evaluation those of the training before it.
    pub iter: f64,
    /// Of a training the epoch under way, if it counts them.
    pub epoch: Option<f64>,
    /// Names without the mode, and values.
    pub values: Vec<(String, f64)>,
}

impl Line {
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunState {
    /// A process holds its folder.
    Running,
    /// Its schedule is complete.
    Finished,
    /// A hook ended it.
    Stopped,
    /// It saved and left.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// Its process is gone without a word.
    Died,
}

impl RunState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Died => "died",
        }
    }

    /// By the `reason` of the event `end`.
    fn ended(reason: &str) -> Option<Self> {
        let all = [Self::Finished, Self::Stopped, Self::Interrupted, Self::Failed];
        all.into_iter().find(|state| state.name() == reason)
    }

    /// By how the last line of a log begins that tells of an end.
    fn told(message: &str) -> Option<Self> {
        let begins = [
            ("finished after ", Self::Finished),
            ("stopped by ", Self::Stopped),
            ("interrupted (", Self::Interrupted),
            ("failed: ", Self::Failed),
        ];
        begins.into_iter().find(|(begin, _)| message.starts_with(begin)).map(|(_, state)| state)
    }
}

/// A message of the text log.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub time: String,
    pub level: String,
    pub text: String,
}

/// A checkpoint: its name, its iteration, its bytes.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    pub name: String,
    pub iter: u64,
    pub bytes: u64,
}

/// The best value of the first metric.
#[derive(Debug, Clone)]
pub(super) struct Best {
    pub name: String,
    pub value: f64,
    pub iter: f64,
    pub direction: Direction,
}

/// The files of one run.
#[derive(Debug)]
pub(super) struct RunFiles {
    /// The work_dir.
    pub dir: PathBuf,
    /// The folder of logs of the newest training.
    pub log: PathBuf,
    record: Record,
    pub config: Option<Node>,
    pub messages: Vec<Message>,
    pub state: RunState,
    /// What WorstSamplesHook kept of the newest validation or test.
    pub worst: Option<Value>,
}

/// Whether a folder is the work_dir of a run.
pub(super) fn is_work_dir(dir: &Path) -> bool {
    dir.join(OWNER_FILE).is_file() || log_folders(dir).next().is_some()
}

fn log_folders(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.join(VIS_DATA).is_dir())
}

impl RunFiles {
    /// Reads a work_dir, or one of its folders of logs.
    ///
    /// # Errors
    /// When it is none, or its event log cannot be read.
    pub fn read(given: &Path) -> Result<Self> {
        let (dir, mut logs): (PathBuf, Vec<PathBuf>) = if given.join(VIS_DATA).is_dir() {
            (given.parent().unwrap_or(given).to_owned(), vec![given.to_owned()])
        } else {
            (given.to_owned(), log_folders(given).collect())
        };
        if logs.is_empty() {
            let shown = given.display();
            let what = if given.is_dir() { "no run has logged in it" } else { "there is no such folder" };
            return Err(Error::config(format!("{shown}: {what}; name the work_dir of a run")));
        }
        logs.sort();
        // Asked first: a run that ends meanwhile has told of its end before it lets go of its folder.
        let is_held = is_held(&dir);
        let (log, record) = newest(&logs)?;
        let text = fs::read_to_string(log.join(VIS_DATA).join("config.yaml")).ok();
        let config = text.and_then(|text| config::parse("config.yaml", &text).ok());
        let messages = messages(&log);
        // An earlier run of this folder is another one, unless this one goes on with it.
        let own = |given: &&PathBuf| record.resumed || **given >= log;
        let worst = logs.iter().rev().filter(own).find_map(|log| worst(log));
        let mut files = Self { dir, log, record, config, messages, state: RunState::Died, worst };
        files.state = files.how(is_held);
        Ok(files)
    }

    /// What people call it: the name of its folder.
    pub fn name(&self) -> String {
        let path = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    fn how(&self, is_held: bool) -> RunState {
        let held = is_held.then_some(RunState::Running);
        if !self.record.is_older {
            return self.record.end.or(held).unwrap_or(RunState::Died);
        }
        // Without an event log the text may say it, and else that nothing was left to do.
        let told = || self.messages.iter().rev().find_map(|message| RunState::told(&message.text));
        let complete = || self.epochs().is_some_and(|(done, all)| all.is_some_and(|all| done >= all));
        let unsaid = || if complete() { RunState::Finished } else { RunState::Died };
        held.or_else(told).unwrap_or_else(unsaid)
    }

    /// The scalars, in their order.
    pub fn scalars(&self) -> &[Line] {
        &self.record.lines
    }

    /// Those of a training or of evaluations, without what hooks have told of their own accord.
    pub fn of(&self, mode: Mode) -> impl DoubleEndedIterator<Item = &Line> {
        self.record.lines.iter().filter(move |line| line.mode == mode && !line.own)
    }

    /// The warnings of the event log, with those of the runs that this one goes on with.
    pub fn warnings(&self) -> &[String] {
        &self.record.warnings
    }

    /// How much of the training is done, as far as the event log says how long it is.
    pub fn fraction(&self) -> Option<f64> {
        let last = self.of(Mode::Train).next_back()?;
        let all = self.record.max_iters.filter(|all| *all > 0.0)?;
        Some((last.iter / all).clamp(0.0, 1.0))
    }

    /// What the numbers lack, of an event log that was damaged.
    pub fn lacks(&self) -> Option<String> {
        let file = self.log.join(VIS_DATA).join(EVENTS);
        let lines = (self.record.unread > 0).then(|| count(self.record.unread, "line"))?;
        let instead = if self.record.is_older { ": the numbers are those of `scalars.json`" } else { "" };
        Some(format!("{}: {lines} could not be read{instead}", file.display()))
    }

    /// The last message that tells of an end.
    pub fn end(&self) -> Option<&str> {
        let ends = |message: &&Message| RunState::told(&message.text).is_some();
        self.messages.iter().rev().find(ends).map(|message| message.text.as_str())
    }

    /// A value of the config by its path.
    pub fn configured(&self, path: &str) -> Option<f64> {
        self.config.as_ref()?.at_path(path)?.summary().parse().ok()
    }

    /// What the run counts.
    pub fn unit(&self) -> &'static str {
        let last = self.of(Mode::Train).next_back();
        if last.is_some_and(|line| line.epoch.is_some()) { "epoch" } else { "iteration" }
    }

    /// The epoch under way, and how many there will be; of a run that counts iterations those.
    pub fn epochs(&self) -> Option<(f64, Option<f64>)> {
        let last = self.of(Mode::Train).next_back()?;
        match last.epoch {
            Some(epoch) => Some((epoch, self.configured("train_cfg.max_epochs"))),
            None => Some((last.iter, self.configured("train_cfg.max_iters"))),
        }
    }

    /// The best value of the first metric that has a direction: of validations, and of tests where there are none.
    pub fn best(&self) -> Option<Best> {
        self.best_of(Mode::Val).or_else(|| self.best_of(Mode::Test))
    }

    fn best_of(&self, mode: Mode) -> Option<Best> {
        let is_metric = |name: &str| !matches!(name, "time" | "data_time");
        // A name says less than the metric itself: more of an error of the field is worse, whatever it is called.
        let direction = |name: &str| {
            let told = self.record.directions.get(name).copied();
            told.or_else(|| Direction::infer(name, None, None).ok())
        };
        let names = self.of(mode).flat_map(|line| line.values.iter().map(|(name, _)| name.as_str()));
        let mut metrics = names.filter(|name| is_metric(name));
        let (name, direction) = metrics.find_map(|name| Some((name, direction(name)?)))?;
        let mut best: Option<Best> = None;
        for line in self.of(mode) {
            let Some(value) = line.get(name) else { continue };
            if direction.beats(value, best.as_ref().map(|best| best.value)) {
                best = Some(Best { name: name.to_owned(), value, iter: line.iter, direction });
            }
        }
        best
    }

    /// The checkpoints in the work_dir, oldest first.
    pub fn checkpoints(&self) -> Vec<Saved> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut all: Vec<Saved> = entries.filter_map(|entry| saved(&entry.path())).collect();
        all.sort_by(|a, b| (a.iter, &a.name).cmp(&(b.iter, &b.name)));
        all
    }

    /// The tables of the last evaluation that had some, each with the keys of a line of `tables.json`.
    pub fn tables(&self) -> &[Map<String, Value>] {
        &self.record.tables
    }

    /// Where the values of the config were written.
    pub fn places(&self) -> Map<String, Value> {
        let text = fs::read_to_string(self.log.join(VIS_DATA).join("places.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// When something was written last.
    pub fn touched(&self) -> Option<SystemTime> {
        let numbers = if self.record.is_older { SCALARS } else { EVENTS };
        let files = [self.log_file(), self.log.join(VIS_DATA).join(numbers)];
        files.iter().filter_map(|file| fs::metadata(file).ok()?.modified().ok()).max()
    }

    fn log_file(&self) -> PathBuf {
        log_file(&self.log)
    }
}

/// The newest training of folders in their order, with the tests since; the newest of all if none trains.
fn newest(logs: &[PathBuf]) -> Result<(PathBuf, Record)> {
    let mut later: Vec<(PathBuf, Record)> = Vec::new();
    for log in logs.iter().rev() {
        let mut record = Record::read(log)?;
        if record.trains {
            later.iter().rev().for_each(|(_, evaluation)| record.add_tests(evaluation));
            return Ok((log.clone(), record));
        }
        later.push((log.clone(), record));
    }
    Ok(later.into_iter().next().unwrap_or_default())
}

/// What a hook kept of the worst samples: a plain file of a size that it may have.
fn worst(log: &Path) -> Option<Value> {
    const MOST: u64 = 64 << 20;
    let file = log.join(VIS_DATA).join(WORST_SAMPLES);
    let about = fs::symlink_metadata(&file).ok()?;
    (about.is_file() && about.len() <= MOST).then(|| serde_json::from_slice(&fs::read(&file).ok()?).ok())?
}

fn log_file(log: &Path) -> PathBuf {
    log.join(log.file_name().unwrap_or_default()).with_extension("log")
}

/// Whether a process trains in the folder. The lock is tried only if its holder seems to live: a run that begins in this
/// instant must find it free.
fn is_held(dir: &Path) -> bool {
    let Ok(mut file) = File::open(dir.join(LOCK_FILE)) else { return false };
    let mut holder = String::new();
    let _ = (&mut file).take(64).read_to_string(&mut holder);
    let processes = Path::new("/proc/self").exists();
    if processes && !Path::new("/proc").join(holder.trim()).exists() {
        return false;
    }
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The messages of the text log; what follows on further lines belongs to the one before.
fn messages(log: &Path) -> Vec<Message> {
    let text = fs::read(log_file(log)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut all: Vec<Message> = Vec::new();
    for line in text.lines() {
        match line.split_once(" - shanty - ").and_then(|(time, rest)| Some((time, rest.split_once(" - ")?))) {
            Some((time, (level, text))) => {
                all.push(Message { time: time.to_owned(), level: level.to_owned(), text: text.to_owned() });
            }
            None => {
                if let Some(message) = all.last_mut() {
                    message.text.push('\n');
                    message.text.push_str(line);
                }
            }
        }
    }
    all
}

fn saved(dir: &Path) -> Option<Saved> {
    let text = fs::read_to_string(dir.join("manifest.json")).ok()?;
    let manifest: Value = serde_json::from_str(&text).ok()?;
    let files = manifest.get("files")?.as_object()?;
    let bytes = files.values().filter_map(|file| file.get("bytes")?.as_u64()).fold(0, u64::saturating_add);
    let name = dir.file_name()?.to_string_lossy().into_owned();
    Some(Saved { name, iter: manifest.get("iter")?.as_u64()?, bytes })
}

/// All work_dirs below a folder, itself too. What cannot be read is passed over.
pub(super) fn below(root: &Path) -> Result<Vec<PathBuf>> {
    /// Deeper nobody keeps runs; a link is not followed.
    const DEEPEST: usize = 6;
    let (mut found, mut look) = (Vec::new(), vec![(root.to_owned(), 0)]);
    fs::read_dir(root).at(root)?;
    while let Some((dir, depth)) = look.pop() {
        let is_run = is_work_dir(&dir);
        if is_run {
            found.push(dir.clone());
        }
        if depth == DEEPEST {
            continue;
        }
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let path = entry.path();
            // What a run has saved and logged holds no other runs.
            let own = is_run && (path.join("manifest.json").exists() || path.join(VIS_DATA).exists());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !hidden && !own {
                look.push((path, depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}
