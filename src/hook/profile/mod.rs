//! Where the time of a run goes: measured on every 64th iteration, or on all of them when a profile is asked for.

mod layers;

use std::time::Instant;

pub use layers::LayerTotals;

use super::Point;
use crate::nn::PassTimes;

/// Iterations of which one is measured, unless [`Profile::start`] asked for all.
const SAMPLED: u64 = 64;
/// Spans kept for a trace file, which so stays one that a browser opens; sums go on.
const MAX_SPANS: usize = 100_000;
const POINTS: usize = Point::ALL.len();
/// Seconds of a hook at a point, below which it is no line of its own.
const LEAST: f64 = 1e-4;
/// Parts of the run: the step of the model, and what it consists of where its tape tells it.
const STEP: &str = "train_step";
const FORWARD: &str = "forward";
const BACKWARD: &str = "backward";

/// Measured calls and the seconds that they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Calls that were measured.
    pub calls: u64,
    /// Their time together, in seconds.
    pub seconds: f64,
}

impl Spent {
    fn add(&mut self, seconds: f64) {
        self.calls += 1;
        self.seconds += seconds;
    }
}

/// One stretch of time in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Who took the time.
    pub who: Who,
    /// The point, or what the run did.
    pub what: &'static str,
    /// When it began and ended, in nanoseconds from the start of the run.
    pub ends: [u64; 2],
}

/// Who takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The run itself.
    Run,
    /// The hook in this place of the order.
    Hook(usize),
    /// The layer in this place of [`Profile::layers`].
    Layer(usize),
}

/// A call in which a hook did something: who, where, at which iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The hook's place in the order.
    pub hook: usize,
    /// The point.
    pub point: Point,
    /// Completed iterations.
    pub iter: u64,
}

/// The times of a run, and its calls where somebody wants them.
#[derive(Debug)]
pub struct Profile {
    began: Instant,
    full: bool,
    hooks: Vec<[Spent; POINTS]>,
    /// How often each point was called, measured or not.
    fired: [u64; POINTS],
    spans: Vec<Span>,
    /// Whether there were more spans than are kept.
    cut: bool,
    /// What the run itself does, while every call is measured: spans end somewhere, these sums do not.
    parts: Vec<(&'static str, Spent)>,
    layers: LayerTotals,
    /// Seconds in hooks while every call was measured, those of validations and saves aside.
    in_hooks: f64,
    /// Since when all is measured.
    started: Option<Instant>,
    /// Seconds in which all was measured.
    measured: f64,
    calls: Option<Vec<Call>>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            full: false,
            hooks: Vec::new(),
            fired: [0; POINTS],
            spans: Vec::new(),
            cut: false,
            parts: Vec::new(),
            layers: LayerTotals::default(),
            in_hooks: 0.0,
            started: None,
            measured: 0.0,
            calls: None,
        }
    }
}

/// Whether the hooks that are called there are part of neither a validation nor a save.
fn is_of_training(point: Point) -> bool {
    matches!(
        point,
        Point::BeforeTrain
            | Point::BeforeTrainEpoch
            | Point::BeforeTrainIter
            | Point::AfterBackward
            | Point::AfterTrainIter
            | Point::AfterTrainEpoch
            | Point::AfterTrain
    )
}

impl Profile {
    /// Measures every call from now on and keeps spans.
    pub fn start(&mut self) {
        self.full = true;
        self.started.get_or_insert_with(Instant::now);
    }

    /// Back to samples.
    pub fn stop(&mut self) {
        self.full = false;
        self.measured += self.started.take().map_or(0.0, |started| started.elapsed().as_secs_f64());
    }

    /// Whether every call is measured.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Writes down every call in which a hook did something.
    pub fn record_calls(&mut self) {
        self.calls = Some(Vec::new());
    }

    /// The calls, if they were written down.
    pub fn calls(&self) -> &[Call] {
        self.calls.as_deref().unwrap_or_default()
    }

    /// The spans that were kept: the first ones, if there were more than a trace takes.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether there were more spans than were kept.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// What the layers took, while every call was measured.
    pub fn layers(&self) -> &LayerTotals {
        &self.layers
    }

    /// Measures what this machine multiplies at most, for the table of layers, unless none of them multiplied.
    pub fn measure_peak(&mut self) {
        self.layers.measure_peak();
    }

    /// What the hook in this place spent at a point.
    pub fn spent(&self, hook: usize, point: Point) -> Spent {
        self.hooks.get(hook).map_or(Spent::default(), |points| points[point as usize])
    }

    /// Seconds that a hook took at a point in the whole run, estimated from the measured calls.
    pub fn estimate(&self, hook: usize, point: Point) -> f64 {
        let Spent { calls, seconds } = self.spent(hook, point);
        if calls == 0 { 0.0 } else { seconds / calls as f64 * self.fired[point as usize].max(calls) as f64 }
    }

    /// Counts a point; true when its calls are to be measured.
    pub(super) fn fire(&mut self, point: Point, iter: u64, hooks: usize) -> bool {
        self.fired[point as usize] += 1;
        if self.hooks.len() < hooks {
            self.hooks.resize(hooks, [Spent::default(); POINTS]);
        }
        let often = matches!(
            point,
            Point::BeforeTrainIter
                | Point::AfterBackward
                | Point::AfterTrainIter
                | Point::BeforeValIter
                | Point::AfterValIter
                | Point::BeforeTestIter
                | Point::AfterTestIter
        );
        self.full || !often || iter.is_multiple_of(SAMPLED)
    }

    pub(super) fn called(&mut self, hook: usize, point: Point, began: Instant) {
        let ended = Instant::now();
        let seconds = ended.duration_since(began).as_secs_f64();
        self.hooks[hook][point as usize].add(seconds);
        if self.full && is_of_training(point) {
            self.in_hooks += seconds;
        }
        self.keep(Who::Hook(hook), point.name(), [began, ended]);
    }

    pub(super) fn did(&mut self, hook: usize, point: Point, iter: u64) {
        if let Some(calls) = &mut self.calls {
            calls.push(Call { hook, point, iter });
        }
    }

    /// Measures what the run itself does, while every call is measured.
    pub(crate) fn begin(&self) -> Option<Instant> {
        self.full.then(Instant::now)
    }

    /// The end of what [`begin`](Self::begin) began.
    pub(crate) fn end(&mut self, what: &'static str, began: Option<Instant>) {
        if let Some(began) = began {
            self.part(what, [began, Instant::now()]);
        }
    }

    fn part(&mut self, what: &'static str, ends: [Instant; 2]) {
        let seconds = ends[1].duration_since(ends[0]).as_secs_f64();
        match self.parts.iter_mut().find(|(own, _)| *own == what) {
            Some((_, spent)) => spent.add(seconds),
            None => self.parts.push((what, Spent { calls: 1, seconds })),
        }
        self.keep(Who::Run, what, ends);
    }

    /// The passes of a training step, with their layers.
    pub(crate) fn passed(&mut self, passes: Vec<PassTimes>) {
        for PassTimes { marks: [began, turned, ended], layers, spans } in passes {
            self.part(FORWARD, [began, turned]);
            self.part(BACKWARD, [turned, ended]);
            let places: Vec<usize> = layers.iter().map(|layer| self.layers.add(layer)).collect();
            for (layer, ends) in spans {
                let what = if ends[0] < turned { FORWARD } else { BACKWARD };
                self.keep(Who::Layer(places[layer]), what, ends);
            }
        }
    }

    fn keep(&mut self, who: Who, what: &'static str, ends: [Instant; 2]) {
        if !self.full {
            return;
        }
        self.cut = self.spans.len() >= MAX_SPANS;
        if !self.cut {
            let ends = ends.map(|end| end.duration_since(self.began).as_nanos() as u64);
            self.spans.push(Span { who, what, ends });
        }
    }

    /// What the run itself spent its time with, while every call was measured: `data`, `train_step` with its `forward`
    /// and `backward`, `optimizer`, `val`, `test`, `save`.
    pub fn parts(&self) -> &[(&'static str, Spent)] {
        &self.parts
    }

    /// A line for each part of a training with its share of the time that was measured, longest first. Parts do not
    /// overlap: what a validation or a save takes has the hooks that are called in it.
    pub fn table(&self) -> String {
        let spent = |what: &str| self.parts.iter().find(|(own, _)| *own == what).map(|(_, spent)| *spent);
        let seconds = |what: &str| spent(what).map_or(0.0, |spent| spent.seconds);
        let mut rows: Vec<(&str, Spent)> = self
            .parts
            .iter()
            .filter(|(what, _)| *what != STEP)
            .map(|(what, spent)| (*what, *spent))
            .collect();
        if let Some(step) = spent(STEP) {
            let rest = (step.seconds - seconds(FORWARD) - seconds(BACKWARD)).max(0.0);
            let name = if spent(FORWARD).is_some() { "rest of the step" } else { "step" };
            rows.push((name, Spent { seconds: rest, ..step }));
        }
        let iterations = spent(STEP).map_or(0, |step| step.calls);
        rows.push(("hooks", Spent { calls: iterations, seconds: self.in_hooks }));
        let rest = self.measured - rows.iter().map(|(_, spent)| spent.seconds).sum::<f64>();
        rows.push(("all else", Spent { calls: iterations, seconds: rest.max(0.0) }));
        rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        let mut text = format!("{:<18}{:>12}{:>9}{:>12}", "part", "total", "share", "each");
        for (name, Spent { calls, seconds }) in rows {
            let share = 100.0 * seconds / self.measured.max(f64::MIN_POSITIVE);
            let each = 1e3 * seconds / calls.max(1) as f64;
            text += &format!("\n{name:<18}{seconds:>10.4} s{share:>7.1} %{each:>9.3} ms");
        }
        text + &format!("\n{:<18}{:>10.4} s", "measured", self.measured)
    }

    /// A line for each hook and point, longest first: estimated seconds, microseconds a call. Those of less than a tenth
    /// of a millisecond are one line.
    pub fn hook_table(&self, keys: &[std::sync::Arc<str>]) -> String {
        let mut rows: Vec<(f64, f64, &str, &str)> = Vec::new();
        for (hook, key) in keys.iter().enumerate() {
            for point in Point::ALL {
                let spent = self.spent(hook, *point);
                if spent.calls > 0 {
                    let each = spent.seconds / spent.calls as f64;
                    rows.push((self.estimate(hook, *point), each, &**key, point.name()));
                }
            }
        }
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut text = format!("{:<24}{:<24}{:>12}{:>14}", "hook", "point", "total", "a call");
        let shown = rows.partition_point(|(total, ..)| *total >= LEAST);
        let (rows, rest) = rows.split_at(shown);
        for (total, each, key, point) in rows {
            text += &format!("\n{key:<24}{point:<24}{total:>10.4} s{:>11.2} µs", each * 1e6);
        }
        if !rest.is_empty() {
            let name = format!("and {} more", rest.len());
            let total: f64 = rest.iter().map(|(total, ..)| total).sum();
            text += &format!("\n{name:<24}{:<24}{total:>10.4} s", "");
        }
        text
    }

    /// All that is known, where every call was measured: the parts, the layers, the hooks.
    pub fn tables(&self, keys: &[std::sync::Arc<str>]) -> String {
        let all = [Some(self.table()), self.layers.table(), Some(self.hook_table(keys))];
        all.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
    }
}
