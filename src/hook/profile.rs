//! Where the time of a run goes: measured on every 64th iteration, or on all of them when a profile is asked for.

use std::time::Instant;

use super::Point;

/// Iterations of which one is measured, unless [`Profile::start`] asked for all.
const SAMPLED: u64 = 64;
/// Spans kept for a trace file; later ones are only counted.
const MAX_SPANS: usize = 200_000;
const POINTS: usize = Point::ALL.len();

/// Measured calls and the seconds that they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Calls that were measured.
    pub calls: u64,
    /// Their time together, in seconds.
    pub seconds: f64,
}

/// One stretch of time in a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The hook's place in the order; `None` for the run itself.
    pub hook: Option<usize>,
    /// The point, or what the run did.
    pub what: &'static str,
    /// Seconds from the start of the run.
    pub begin: f64,
    /// Seconds.
    pub length: f64,
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
    /// What the run itself does, while every call is measured: spans end somewhere, these sums do not.
    parts: Vec<(&'static str, Spent)>,
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
            parts: Vec::new(),
            calls: None,
        }
    }
}

impl Profile {
    /// Measures every call from now on and keeps spans.
    pub fn start(&mut self) {
        self.full = true;
    }

    /// Back to samples.
    pub fn stop(&mut self) {
        self.full = false;
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

    /// The spans that were kept.
    pub fn spans(&self) -> &[Span] {
        &self.spans
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
        let length = began.elapsed().as_secs_f64();
        let spent = &mut self.hooks[hook][point as usize];
        spent.calls += 1;
        spent.seconds += length;
        self.keep(Some(hook), point.name(), began, length);
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
        let Some(began) = began else { return };
        let length = began.elapsed().as_secs_f64();
        match self.parts.iter_mut().find(|(own, _)| *own == what) {
            Some((_, spent)) => (spent.calls, spent.seconds) = (spent.calls + 1, spent.seconds + length),
            None => self.parts.push((what, Spent { calls: 1, seconds: length })),
        }
        self.keep(None, what, began, length);
    }

    fn keep(&mut self, hook: Option<usize>, what: &'static str, began: Instant, length: f64) {
        if self.full && self.spans.len() < MAX_SPANS {
            let begin = began.duration_since(self.began).as_secs_f64();
            self.spans.push(Span { hook, what, begin, length });
        }
    }

    /// What the run itself spent its time with, while every call was measured: `data`, `train_step` (forward and
    /// backward), `optimizer`, `val`, `save`.
    pub fn parts(&self) -> &[(&'static str, Spent)] {
        &self.parts
    }

    /// A line for each hook and point, and for each part of the run if it was measured, longest first: estimated
    /// seconds, microseconds a call.
    pub fn table(&self, keys: &[std::sync::Arc<str>]) -> String {
        let part = |(what, spent): &(&'static str, Spent)| {
            (spent.seconds, spent.seconds / spent.calls as f64, "(run)", *what)
        };
        let mut rows: Vec<(f64, f64, &str, &str)> = self.parts.iter().map(part).collect();
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
        for (total, each, key, point) in rows {
            text += &format!("\n{key:<24}{point:<24}{total:>10.4} s{:>11.2} µs", each * 1e6);
        }
        text
    }
}
