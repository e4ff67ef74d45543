//! The event log of a run with its backends.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{GrowingFile, LocalVisBackend, OnVisError, VisBackend, VisConfig, VisCx, VisEvent, png};
use crate::base::error::IoContext;
use crate::base::fs::FileSystem;
use crate::base::number::count;
use crate::base::{Error, Result, WallClock, caught, durable};

/// The event log, in `vis_data`.
pub const EVENTS: &str = "events.jsonl";
/// What WorstSamplesHook keeps of the last validation or test, in `vis_data`.
pub const WORST_SAMPLES: &str = "worst_samples.json";

/// Names and values of one event, in order.
pub type Scalars<'a> = &'a [(&'a str, f64)];

/// A backend with its type's name and the keys that go with it.
pub type Given = (Box<dyn VisBackend>, String, VisConfig);

/// Writes events to `vis_data/events.jsonl` and tells them to the backends. Nothing that it does can end a run.
#[derive(Default)]
pub struct Visualizer {
    /// None in a dry run.
    place: Option<Place>,
    wall: WallClock,
    log: Option<GrowingFile>,
    of_log: Tally,
    /// How often the log began to fail.
    outages: u32,
    /// The end was told, and not yet what the backends lack.
    ended: bool,
    backends: Vec<Slot>,
    /// Lines of the run that is gone on with, until the log begins.
    earlier: Vec<u8>,
    /// What was told before.
    waiting: Vec<VisEvent>,
    complaints: Vec<Complaint>,
}

/// What is to be said of a failure.
pub(crate) struct Complaint {
    pub text: String,
    /// Of the log itself, which cannot be told it.
    pub of_log: bool,
}

struct Place {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    work: PathBuf,
}

struct Slot {
    backend: Box<dyn VisBackend>,
    name: String,
    on_error: OnVisError,
    tally: Tally,
}

/// What was lost.
#[derive(Default)]
struct Tally {
    in_a_row: u32,
    lost: u64,
    /// Those of them that were not even tried.
    untried: u64,
    first: String,
    /// What was lost when it was told last.
    told: u64,
}

impl Tally {
    fn gave_up(&self) -> bool {
        self.in_a_row >= OnVisError::IN_A_ROW
    }

    /// Notes how it went; what is to be said of a failure.
    fn count(&mut self, name: &str, event: &VisEvent, done: Result<(), String>) -> Option<String> {
        let Err(why) = done else {
            return None;
        };
        self.in_a_row += 1;
        self.lose(event, &why);
        let end = if self.gave_up() { "; no more are tried in this run" } else { "" };
        Some(format!("{name}: {} not written: {why}{end}", described(event)))
    }

    fn lose(&mut self, event: &VisEvent, why: &str) {
        if self.lost == 0 {
            self.first = format!("{} not: {why}", described(event));
        }
        self.lost += 1;
    }

    /// Of a backend that is told nothing more.
    fn pass_over(&mut self, event: &VisEvent) {
        self.untried += 1;
        self.lose(event, "it was given up");
    }

    /// What is said at the end, unless it was said before. A backend that sends later what it could not send at once
    /// lacks what it still holds, whatever failed on the way.
    fn told(&mut self, name: &str, held: Option<u64>) -> Option<String> {
        let lost = held.map_or(self.lost, |held| held + self.untried);
        if lost == 0 || lost == std::mem::replace(&mut self.told, lost) {
            return None;
        }
        Some(format!("{name} lacks {} of this run; first {}", count(lost, "event"), self.first))
    }
}

/// `the scalars of step 10 were`.
fn described(event: &VisEvent) -> String {
    match event.kind() {
        _ if event.has_scalars() => format!("the scalars of step {} were", event.step()),
        "table" => format!("the tables of step {} were", event.step()),
        kind => format!("the event `{kind}` was"),
    }
}

impl Visualizer {
    /// The log of a run in this `vis_data`, with these backends; with scalars.json if none of them writes anything.
    pub fn new(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        work: &Path,
        wall: WallClock,
        mut backends: Vec<Given>,
    ) -> Self {
        backends.retain(|(_, name, _)| !super::ELSEWHERE.contains(&name.as_str()));
        if backends.is_empty() {
            let local = Box::<LocalVisBackend>::default();
            backends.push((local, "LocalVisBackend".to_owned(), VisConfig::default()));
        }
        let slot = |(backend, name, config): Given| {
            let name = config.name.unwrap_or(name);
            Slot { backend, name, on_error: config.on_error, tally: Tally::default() }
        };
        let place = Some(Place { fs, dir: dir.to_owned(), work: work.to_owned() });
        Self { place, wall, backends: backends.into_iter().map(slot).collect(), ..Self::default() }
    }

    /// Begins the log: with the lines of the run that is gone on with, if there are some, and with what is told of this
    /// one: an event of kind `run`, or of kind `resume` behind those lines. Once.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn begin(&mut self, facts: impl FnOnce(&str) -> VisEvent) -> Result<()> {
        let Some(Place { fs, dir, .. }) = self.place.as_ref().filter(|_| self.log.is_none()) else {
            return Ok(());
        };
        let earlier = std::mem::take(&mut self.earlier);
        let mut log = GrowingFile::begin(&**fs, &dir.join(EVENTS))?;
        // Each save makes the lines durable that it counts; the name of their file is there before.
        fs.sync(dir).at(dir)?;
        let kind = if earlier.is_empty() { "run" } else { "resume" };
        let first = self.stamped(facts(kind));
        log.append(&earlier)?;
        log.append(first.line().as_bytes())?;
        self.log = Some(log);
        self.replay(&earlier);
        self.show(&first);
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().for_each(|event| self.write(event));
        Ok(())
    }

    /// Tells an event. Before the log begins it waits.
    pub fn add(&mut self, event: VisEvent) {
        if self.place.is_none() {
            return;
        }
        let event = self.stamped(event);
        self.ended |= event.kind() == "end";
        if self.log.is_some() { self.write(&event) } else { self.waiting.push(event) }
    }

    /// Tells the log alone, and no backend: of what one of them does not do it need not hear.
    pub(crate) fn add_to_log(&mut self, event: VisEvent) {
        if self.log.is_some() {
            let event = self.stamped(event);
            self.keep(&event);
        }
    }

    /// Tells scalars of a hook's own.
    pub fn add_scalars(&mut self, scalars: Scalars<'_>, step: u64) {
        self.add(VisEvent::new("scalars").with("step", step).with_scalars(scalars));
    }

    /// Keeps a picture, the bytes of a PNG file, in `vis_data/vis_image`, and tells of it.
    ///
    /// # Errors
    /// When it is no PNG, or the disk refuses it.
    pub fn add_image(&mut self, name: &str, png: &[u8], step: u64) -> Result<()> {
        let Some(Place { fs, dir, work }) = &self.place else { return Ok(()) };
        let Some([width, height]) = png::size(png) else {
            return Err(Error::invalid(format!("the picture `{name}` is no PNG file")));
        };
        let file = dir.join("vis_image").join(format!("{}_{step}.png", png::file_name(name)));
        durable::make_dir(&**fs, durable::parent(&file))?;
        durable::replace(&**fs, &file, png)?;
        let path = file.strip_prefix(work).unwrap_or(&file).to_string_lossy().into_owned();
        let event = VisEvent::new("image").with("name", name).with("step", step).with("path", path);
        self.add(event.with("width", width).with("height", height));
        Ok(())
    }

    /// Bytes of the log: checkpoints keep the number.
    pub fn written(&self) -> u64 {
        self.log.as_ref().map_or(0, GrowingFile::written)
    }

    /// The files that must be on the disk before a checkpoint counts their lines: the event log, those of the backends, and
    /// their folder.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Some(Place { dir, fs, .. }) = &self.place else { return Vec::new() };
        let views = self.backends.iter().flat_map(|slot| slot.backend.files());
        let is_there = |file: &PathBuf| fs.entry(file).is_ok_and(|entry| entry.is_some());
        let mut files: Vec<_> =
            [EVENTS.to_owned()].into_iter().chain(views).map(|name| dir.join(name)).collect();
        files.retain(is_there);
        files.push(dir.clone());
        files
    }

    /// Goes on with the first bytes of an older run's log, in its `vis_data`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn continue_from(&mut self, fs: &dyn FileSystem, dir: &Path, bytes: u64) -> Result<()> {
        let mut text = durable::read_plain(fs, &dir.join(EVENTS), u64::MAX)?;
        let missing = bytes.saturating_sub(text.len() as u64);
        text.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        // A disk that lost a part of the file has zeros there, or half a line.
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let (whole, torn): (Vec<_>, Vec<_>) = lines.partition(|line| VisEvent::parse(line).is_some());
        self.earlier = whole.concat();
        if missing > 0 || !torn.is_empty() {
            let torn =
                (!torn.is_empty()).then(|| format!("{} could not be read", count(torn.len() as u64, "line")));
            let missing = (missing > 0)
                .then(|| format!("of what the checkpoint counts {} are not there", count(missing, "byte")));
            let why = torn.into_iter().chain(missing).collect::<Vec<_>>().join(", and ");
            let text = format!("{}: {why}: this run's log lacks them", dir.join(EVENTS).display());
            // To both logs by a way of its own: the one of events has not begun.
            self.add(VisEvent::new("warning").with("text", text.as_str()));
            self.complaints.push(Complaint { text, of_log: true });
        }
        Ok(())
    }

    /// Forgets the scalars behind so many bytes: they will be told again. What was saved and said stays.
    ///
    /// # Errors
    /// When the log cannot be cut.
    pub fn rewind(&mut self, bytes: u64) -> Result<()> {
        let (Some(log), Some(Place { fs, .. })) = (&mut self.log, &self.place) else { return Ok(()) };
        let mut text = durable::read_plain(&**fs, log.path(), u64::MAX)?;
        text.truncate(usize::try_from(log.written()).unwrap_or(usize::MAX));
        let behind = text.split_off(usize::try_from(bytes).unwrap_or(usize::MAX).min(text.len()));
        log.truncate(bytes)?;
        for slot in &mut self.backends {
            if let Err(why) = caught(|| Ok(slot.backend.restart()?)) {
                let text = format!("{}: what was undone stays in it: {why}", slot.name);
                self.complaints.push(Complaint { text, of_log: false });
            }
        }
        self.replay(&text);
        let behind = behind.split_inclusive(|byte| *byte == b'\n').filter_map(VisEvent::parse);
        let stays = behind.filter(|event| matches!(event.kind(), "checkpoint" | "warning"));
        stays.for_each(|event| self.write(&event));
        Ok(())
    }

    /// What went wrong since this was asked last.
    pub(crate) fn complaints(&mut self) -> Vec<Complaint> {
        std::mem::take(&mut self.complaints)
    }

    /// What was lost, a sentence for the log, and one for each backend when it was told the end: until then one that
    /// sends later may make it good. Nothing is told twice.
    pub(crate) fn losses(&mut self) -> Vec<String> {
        let mut told: Vec<String> = self.of_log.told(EVENTS, None).into_iter().collect();
        if std::mem::take(&mut self.ended) {
            let of = |Slot { backend, name, tally, .. }: &mut Slot| tally.told(name, backend.held());
            told.extend(self.backends.iter_mut().filter_map(of));
        }
        told
    }

    fn stamped(&self, event: VisEvent) -> VisEvent {
        event.at(&self.wall.format("%Y-%m-%dT%H:%M:%S%.3f%:z"))
    }

    fn replay(&mut self, lines: &[u8]) {
        let events = lines.split_inclusive(|byte| *byte == b'\n').filter_map(VisEvent::parse);
        events.for_each(|event| self.show(&event));
    }

    fn write(&mut self, event: &VisEvent) {
        self.keep(event);
        self.show(event);
    }

    /// Writes it to the log. That is tried at every event, however often it failed: it is the record of the run, and a
    /// disk that was full for two seconds has to cost no more than these. An outage is two lines: when it begins, and
    /// when it is over; of the first ones only, so that a disk that comes and goes makes no flood.
    fn keep(&mut self, event: &VisEvent) {
        let Some(log) = &mut self.log else { return };
        let tally = &mut self.of_log;
        let complaint = match log.append(event.line().as_bytes()) {
            Ok(()) => {
                let lost = std::mem::take(&mut tally.in_a_row);
                let text = |lost: String| format!("{EVENTS} is written again, without {lost}");
                let lost = (lost > 0).then(|| count(u64::from(lost), "event"));
                lost.map(|lost| Complaint { text: text(lost), of_log: false })
            }
            // What the log says of itself is in the text log, and is no event of the run.
            Err(_) if event.kind() == "warning" && event.text("text").starts_with(EVENTS) => None,
            Err(why) => {
                let why = why.to_string();
                tally.lose(event, &why);
                tally.in_a_row = tally.in_a_row.saturating_add(1);
                let begins = tally.in_a_row == 1;
                self.outages = self.outages.saturating_add(u32::from(begins));
                let what = described(event);
                let text = || format!("{EVENTS}: {what} not written: {why}; each further event is tried");
                begins.then(|| Complaint { text: text(), of_log: true })
            }
        };
        self.complaints.extend(complaint.filter(|_| self.outages <= OnVisError::IN_A_ROW));
    }

    /// Tells it to the backends.
    fn show(&mut self, event: &VisEvent) {
        let Some(Place { fs, dir, work }) = &self.place else { return };
        let cx = VisCx { fs: &**fs, dir, work };
        for Slot { backend, name, on_error, tally } in &mut self.backends {
            if tally.gave_up() {
                tally.pass_over(event);
                continue;
            }
            let done = caught(|| Ok(backend.add(event, &cx)?)).map_err(|why| why.to_string());
            // Other events a backend may pass over.
            if done.is_ok() && event.has_scalars() {
                tally.in_a_row = 0;
            }
            let said = tally.count(name, event, done).filter(|_| *on_error == OnVisError::Warn);
            self.complaints.extend(said.map(|text| Complaint { text, of_log: false }));
        }
    }
}

/// Whether backends keep apart: each a name of its own, and files.
///
/// # Errors
/// The two that meet.
pub(crate) fn check_apart(backends: &[Given]) -> Result<(), (usize, Error)> {
    let name = |(_, name, config): &Given| config.name.clone().unwrap_or_else(|| name.clone());
    for (at, given) in backends.iter().enumerate() {
        let own = given.0.files();
        for other in &backends[..at] {
            let shared = other.0.files().into_iter().find(|file| own.contains(file));
            let place = other.0.place().filter(|place| given.0.place().as_ref() == Some(place));
            let text = if name(other) == name(given) {
                format!("two backends are called `{}`: give one a `name`", name(given))
            } else if let Some(file) = shared {
                format!("`{}` writes `{file}` too: leave one of them out", name(other))
            } else if let Some(place) = place {
                format!("`{}` writes {place} too: leave one of them out", name(other))
            } else {
                continue;
            };
            return Err((at, Error::config(text)));
        }
    }
    Ok(())
}

impl fmt::Debug for Visualizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.backends.iter().map(|slot| &slot.name).collect();
        write!(f, "Visualizer({names:?}, {} bytes)", self.written())
    }
}
