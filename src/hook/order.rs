//! How hooks come into line: by priority, then by what they declare of each other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::declared::matches_key;
use super::dispatch::{Failures, Points, Slot};
use super::{Hook, HookConfig, HookOrder, Hooks, Metrics, Point};
use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::checkpoint::Names;
use crate::metric::meant;

/// What a hook and its config say of its place.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    declared: HookOrder,
    /// The config gave the priority: it is meant as it stands.
    fixed: bool,
}

/// Why hooks cannot be ordered: the hook that the complaint is about, and what it says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Misplaced {
    /// The key of the hook.
    pub hook: String,
    /// One sentence.
    pub message: String,
    /// What there is instead of what is asked for.
    pub given: Option<String>,
    /// The nearest name.
    pub near: Option<String>,
}

impl Misplaced {
    fn error(hook: &str, message: String) -> Error {
        Self { hook: hook.to_owned(), message, ..Self::default() }.into()
    }
}

impl std::fmt::Display for Misplaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.given.iter().try_for_each(|given| write!(f, ": {given}"))?;
        self.near.iter().try_for_each(|near| write!(f, "; did you mean `{near}`?"))
    }
}

impl std::error::Error for Misplaced {}

impl From<Misplaced> for Error {
    fn from(misplaced: Misplaced) -> Self {
        Self::Config(Box::new(misplaced))
    }
}

/// Places of one hook beside another: those of some thousands beside all of each other would take all memory.
const MOST_EDGES: usize = 1_000_000;

/// One hook before another, by their places.
struct Edge {
    first: usize,
    second: usize,
    /// The first one declared it.
    comes_first: bool,
}

impl Hooks {
    /// Adds a hook: after the last one of the same priority or before it. `name` is its type's name; the key of a
    /// second hook of the same name is `name#2`. Gives the key. [`resolve`](Self::resolve) has to follow.
    pub fn insert(&mut self, hook: Box<dyn Hook>, name: &str, options: &HookConfig) -> Arc<str> {
        let priority = options.priority.unwrap_or_else(|| hook.priority());
        let wanted = options.key.as_deref().unwrap_or(name);
        let key: Arc<str> = match self.same.get(wanted) {
            None => Arc::from(wanted),
            Some(n) => Arc::from(format!("{wanted}#{}", n + 1)),
        };
        self.count(&key);
        let mut declared = hook.order();
        let named = |names: &Option<crate::config::OneOrMany<String>>| {
            names.iter().flat_map(|n| n.0.clone()).map(std::borrow::Cow::Owned).collect::<Vec<_>>()
        };
        declared.before.extend(named(&options.before));
        declared.after.extend(named(&options.after));
        let at = self.slots.iter().rposition(|s| s.priority <= priority).map_or(0, |i| i + 1);
        let own = Arc::clone(&key);
        let slot = Slot {
            on_error: options.on_error.unwrap_or_else(|| hook.policy()),
            hook,
            key,
            name: name.to_owned(),
            priority,
            place: Place { declared, fixed: options.priority.is_some() },
            points: Points::ALL,
            failures: Failures::default(),
        };
        self.slots.insert(at, slot);
        own
    }

    /// Counts a key as one more of each name that it begins with: `EMAHook#2` is an `EMAHook`.
    fn count(&mut self, key: &str) {
        let parts = key.match_indices('#').map(|(at, _)| &key[..at]).chain([key]);
        parts.for_each(|name| *self.same.entry(name.to_owned()).or_default() += 1);
    }

    /// Goes back to these hooks in this order.
    pub(crate) fn put_back(&mut self, keys: &[Arc<str>]) {
        let places: HashMap<_, _> = keys.iter().zip(0..).collect();
        self.slots.retain(|slot| places.contains_key(&slot.key));
        self.slots.sort_by_key(|slot| places.get(&slot.key).copied());
        self.same.clear();
        keys.iter().for_each(|key| self.count(key));
        self.renamed();
    }

    fn renamed(&mut self) {
        self.keys = self.slots.iter().map(|s| Arc::clone(&s.key)).collect();
        self.places = self.keys.iter().cloned().zip(0..).collect();
        self.union = Points::ALL;
    }

    /// Brings the hooks into the order that they declare, as near to their priorities as it allows, and checks that
    /// nobody reads what nobody has written yet. `metrics` are the names that the run's validation will give; `None`
    /// without a validation.
    ///
    /// # Errors
    /// [`Error::Config`] that names both hooks: of a cycle, of a priority that contradicts a declaration, of a reader
    /// before every writer.
    pub fn resolve(&mut self, metrics: Option<&[String]>) -> Result<()> {
        self.renamed();
        let edges = self.edges()?;
        for &Edge { first, second, .. } in &edges {
            let (a, b) = (&self.slots[first], &self.slots[second]);
            if a.priority > b.priority && (a.place.fixed || b.place.fixed) {
                let text = format!(
                    "hook `{}` must come before `{}`, but its priority {} puts it behind (priority {})",
                    a.key, b.key, a.priority, b.priority
                );
                return Err(Misplaced::error(if a.place.fixed { &a.key } else { &b.key }, text));
            }
        }
        let order = self.sorted(&edges)?;
        let mut slots: Vec<_> = std::mem::take(&mut self.slots).into_iter().map(Some).collect();
        self.slots = order.into_iter().filter_map(|i| slots[i].take()).collect();
        self.renamed();
        self.check_reads(metrics)
    }

    fn edges(&self) -> Result<Vec<Edge>> {
        // Who goes by a name: by its key, or by its type's name.
        let mut called: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, slot) in self.slots.iter().enumerate() {
            called.entry(&slot.key).or_default().push(place);
            if slot.name != *slot.key {
                called.entry(&slot.name).or_default().push(place);
            }
        }
        let mut edges = Vec::new();
        for (own, slot) in self.slots.iter().enumerate() {
            for (names, comes_first) in
                [(&slot.place.declared.before, true), (&slot.place.declared.after, false)]
            {
                for name in names {
                    let Some(others) = called.get(&**name) else {
                        self.check_name(slot, name)?;
                        continue;
                    };
                    for other in others.iter().copied().filter(|other| *other != own) {
                        let (first, second) = if comes_first { (own, other) } else { (other, own) };
                        edges.push(Edge { first, second, comes_first });
                    }
                    if edges.len() > MOST_EDGES {
                        let text = format!(
                            "hooks want more than {MOST_EDGES} places beside each other: hook `{}` alone has {} called \
                             `{name}`",
                            slot.key,
                            others.len()
                        );
                        return Err(Misplaced::error(&slot.key, text));
                    }
                }
            }
        }
        Ok(edges)
    }

    /// A name that is not in the run, and not registered, is a slip of the pen.
    fn check_name(&self, slot: &Slot, name: &str) -> Result<()> {
        let registered = || crate::registry::entries("hook").map(|entry| entry.name);
        if registered().any(|known| known == name) {
            return Ok(());
        }
        let known: Vec<_> = self.slots.iter().map(|s| &*s.key).chain(registered()).collect();
        let near = nearest(name, known).map(str::to_owned);
        let message = format!("hook `{}` wants a place beside `{name}`, which is no hook", slot.key);
        Err(Misplaced { hook: slot.key.to_string(), message, given: None, near }.into())
    }

    /// The place that each hook wants: its own, or beside the hook that it named. Who declares is the one who moves.
    fn wanted(&self, edges: &[Edge]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.slots.len()).collect();
        for _ in 0..places.len() {
            let before = places.clone();
            for &Edge { first, second, comes_first } in edges {
                if comes_first {
                    places[first] = places[first].min(places[second]);
                } else {
                    places[second] = places[second].max(places[first]);
                }
            }
            if places == before {
                break;
            }
        }
        places
    }

    /// A topological order that takes the hook of the lowest place whenever it may choose.
    fn sorted(&self, edges: &[Edge]) -> Result<Vec<usize>> {
        let wanted = self.wanted(edges);
        // Of each hook for how many it waits, and who waits for it.
        let (mut waits, mut followers) = (vec![0usize; wanted.len()], vec![Vec::new(); wanted.len()]);
        for &Edge { first, second, .. } in edges {
            waits[second] += 1;
            followers[first].push(second);
        }
        let free = wanted.iter().copied().zip(0..).filter(|(_, i)| waits[*i] == 0);
        let mut free: BTreeSet<(usize, usize)> = free.collect();
        let mut order = Vec::with_capacity(wanted.len());
        while let Some((_, next)) = free.pop_first() {
            order.push(next);
            for &follower in &followers[next] {
                waits[follower] -= 1;
                if waits[follower] == 0 {
                    free.insert((wanted[follower], follower));
                }
            }
        }
        if order.len() == wanted.len() {
            return Ok(order);
        }
        Err(self.cycle(&(0..wanted.len()).filter(|i| waits[*i] > 0).collect(), edges))
    }

    /// Follows what each hook waits for until one comes again.
    fn cycle(&self, left: &BTreeSet<usize>, edges: &[Edge]) -> Error {
        let mut path: Vec<usize> = left.first().copied().into_iter().collect();
        while let Some(&last) = path.last() {
            let Some(edge) = edges.iter().find(|e| e.second == last && left.contains(&e.first)) else {
                break;
            };
            let start = path.iter().position(|i| *i == edge.first);
            path.push(edge.first);
            if let Some(start) = start {
                path.drain(..start);
                break;
            }
        }
        path.reverse();
        let names: Vec<_> = path.iter().map(|i| format!("`{}`", self.slots[*i].key)).collect();
        let text = format!("hooks wait for each other: {}", names.join(" before "));
        Misplaced::error(path.first().map_or("", |i| &self.slots[*i].key), text)
    }

    /// Keys of hooks that go by a metric of the validation, with the metric.
    pub(crate) fn save_names(&self, by_epoch: bool, most: u64) -> Names {
        // Those that nobody planned have names of their own.
        let unplanned = ["iter_{}", "emergency_iter_{}"].map(String::from).into();
        let planned = self.slots.iter().flat_map(|slot| slot.hook.save_names(by_epoch));
        Names { templates: planned.collect(), unplanned, done: 0, most }
    }

    pub(crate) fn metric_readers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.slots.iter().flat_map(|slot| {
            let reads = slot.place.declared.reads.iter().filter(|(p, _)| *p == Point::AfterValEpoch);
            reads.filter_map(|(_, key)| Some((&*slot.key, key.strip_prefix("val/")?)))
        })
    }

    /// Whether a validation that gives these metrics gives those that hooks go by.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(crate) fn check_metrics(&self, metrics: &Metrics) -> Result<()> {
        let names: Vec<_> = metrics.0.iter().map(|(name, _)| name.clone()).collect();
        self.slots.iter().try_for_each(|slot| {
            slot.hook.check_metrics(metrics).map_err(|why| Misplaced::error(&slot.key, why.to_string()))?;
            let mut reads = slot.place.declared.reads.iter();
            reads.try_for_each(|(point, key)| check_metric(&slot.key, *point, key, Some(&names)))
        })
    }

    fn check_reads(&self, metrics: Option<&[String]>) -> Result<()> {
        for (place, slot) in self.slots.iter().enumerate() {
            for (point, key) in &slot.place.declared.reads {
                self.check_read(place, *point, key, metrics)?;
            }
            for (point, key) in &slot.place.declared.writes {
                check_write(&slot.key, *point, key)?;
                if key == "weights" {
                    self.check_alone(place, *point)?;
                }
            }
        }
        Ok(())
    }

    /// Two hooks that lend the model other weights would put back each other's.
    fn check_alone(&self, place: usize, point: Point) -> Result<()> {
        let own = &self.slots[place].key;
        let also = |s: &&Slot| s.place.declared.writes.iter().any(|(p, k)| *p == point && k == "weights");
        match self.slots[..place].iter().find(also) {
            Some(other) => Err(Misplaced::error(
                own,
                format!(
                    "hooks `{}` and `{own}` both put other weights into the model in {}: keep one of them",
                    other.key,
                    point.name()
                ),
            )),
            None => Ok(()),
        }
    }

    fn check_read(&self, reader: usize, point: Point, key: &str, metrics: Option<&[String]>) -> Result<()> {
        let own = &self.slots[reader].key;
        let writer = |fits: &dyn Fn(&str) -> bool| {
            let writes = |s: &Slot| s.place.declared.writes.iter().any(|(p, k)| *p == point && fits(k));
            self.slots.iter().enumerate().find(|(i, s)| *i != reader && writes(s))
        };
        // Who writes exactly this key is its writer; a `train/*` is only one where there is nobody else.
        let Some((first, writer)) = writer(&|k| k == key).or_else(|| writer(&|k| matches_key(k, key))) else {
            return check_metric(own, point, key, metrics);
        };
        if first > reader {
            let text = format!(
                "hook `{own}` reads `{key}` in {} before `{}` writes it there: give `{own}` a priority above {} or \
                 `after: {}`",
                point.name(),
                writer.key,
                writer.priority.value(),
                writer.key
            );
            return Err(Misplaced::error(own, text));
        }
        Ok(())
    }
}

/// A metric that the validation does not give, or that there is no validation to give. Names that end in `*` stand for
/// all that begin so; without any name nobody knows what it gives before there are data.
fn check_metric(hook: &str, point: Point, key: &str, metrics: Option<&[String]>) -> Result<()> {
    let Some(wanted) = key.strip_prefix("val/").filter(|_| point == Point::AfterValEpoch) else {
        return Ok(());
    };
    let Some(metrics) = metrics else {
        let what = if wanted == "*" { "a metric".to_owned() } else { format!("`{wanted}`") };
        let text = format!("hook `{hook}` goes by {what} of the validation, but the run has no validation");
        return Err(Misplaced::error(hook, text));
    };
    if metrics.is_empty() || metrics.iter().any(|given| matches_key(given, wanted)) {
        return Ok(());
    }
    // EMAHook's second pass gives such names, too late for those who go by a metric.
    let why = match wanted.strip_suffix("_origin") {
        Some(own) => format!(
            " (`_origin` names what EMAHook logs of the weights that are not averaged: hooks go by `{own}`, that \
             of the averaged ones)"
        ),
        None => String::new(),
    };
    Err(Misplaced {
        hook: hook.to_owned(),
        message: format!(
            "hook `{hook}` reads the metric `{wanted}`, which the validation does not give{why}"
        ),
        given: Some(format!("it gives {}", metrics.join(", "))),
        near: meant(wanted, metrics.iter().map(String::as_str)).map(str::to_owned),
    }
    .into())
}

/// What the run itself takes up at the end of one point: written elsewhere it comes too late, or is overwritten.
fn check_write(hook: &str, point: Point, key: &str) -> Result<()> {
    let (taker, at) = match key {
        "gradients" => ("the optimizer", Point::AfterBackward),
        "batch" => ("the model", Point::BeforeTrainIter),
        "checkpoint" => ("the disk", Point::BeforeSaveCheckpoint),
        _ => return Ok(()),
    };
    if point == at {
        return Ok(());
    }
    let text = format!(
        "hook `{hook}` writes `{key}` in {}, but {taker} takes them at the end of {}: write them there",
        point.name(),
        at.name()
    );
    Err(Misplaced::error(hook, text))
}
