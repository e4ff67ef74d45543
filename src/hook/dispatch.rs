//! Calls the hooks of a point in their order, and what a failure means.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Ctx, Event, Hook, HookResult, OnError, Point, Priority, Ranks};
use crate::base::{BoxError, Error, Result, caught};

/// A set of points, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Points(u32);

impl Points {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u32::MAX);

    fn has(self, point: Point) -> bool {
        self.0 & (1 << point as u8) != 0
    }
    fn remove(&mut self, point: Point) {
        self.0 &= !(1 << point as u8);
    }
}

pub(crate) struct Slot {
    pub hook: Box<dyn Hook>,
    pub key: Arc<str>,
    /// Its type's name, or what it was registered under.
    pub name: String,
    pub priority: Priority,
    pub(super) place: super::order::Place,
    pub(super) points: Points,
    pub(super) on_error: OnError,
    pub(super) failures: Failures,
}

/// The failures of a hook that the run survived.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    total: u64,
    in_a_row: [u8; Point::ALL.len()],
    last: String,
    disabled_at: Option<u64>,
}

/// The hooks of a run in the order in which they are called.
pub struct Hooks {
    pub(super) slots: Vec<Slot>,
    /// Union of all slots' points: a point that nobody wants costs one test.
    pub(super) union: Points,
    pub(super) keys: Arc<[Arc<str>]>,
    /// Where the hook of each key stands.
    pub(super) places: HashMap<Arc<str>, usize>,
    /// How many hooks go by a name, or by it and a number.
    pub(super) same: HashMap<String, usize>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            union: Points::NONE,
            keys: Arc::default(),
            places: HashMap::new(),
            same: HashMap::new(),
        }
    }
}

impl Hooks {
    /// The first hook of this type.
    pub fn get<T: Hook>(&self) -> Option<&T> {
        self.slots.iter().find_map(|s| (&*s.hook as &dyn Any).downcast_ref())
    }

    /// The first hook of this type, to change.
    pub fn get_mut<T: Hook>(&mut self) -> Option<&mut T> {
        self.slots.iter_mut().find_map(|s| (&mut *s.hook as &mut dyn Any).downcast_mut())
    }

    /// Keys and priorities in the order of the calls.
    pub fn order(&self) -> impl Iterator<Item = (&str, Priority)> {
        self.slots.iter().map(|s| (&*s.key, s.priority))
    }

    /// The keys in the order of the calls.
    pub fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// Whether a hook is still subscribed to a point: it overrides it, as far as it has been called there.
    pub fn wants(&self, key: &str, point: Point) -> bool {
        self.slots.iter().any(|s| &*s.key == key && s.points.has(point))
    }

    /// The hook of a key.
    pub(crate) fn by_key(&self, key: &str) -> Option<&dyn Hook> {
        self.places.get(key).and_then(|at| self.slots.get(*at)).map(|s| &*s.hook)
    }

    pub(crate) fn slots(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    pub(crate) fn key(&self, index: usize) -> &str {
        self.slots.get(index).map_or("the run", |s| &s.key)
    }

    /// Subscribes every hook to every point again: what a run begins with. One that begins `anew`, at iteration 0,
    /// resets what hooks keep. Hooks that are of the `main` rank only are not called on others.
    pub(crate) fn reset(&mut self, anew: bool, main: bool) {
        for slot in &mut self.slots {
            slot.points = if main || slot.hook.ranks() == Ranks::All { Points::ALL } else { Points::NONE };
            slot.failures = Failures::default();
            if let Some(state) = slot.hook.state().filter(|_| anew) {
                state.reset();
            }
        }
        self.union = Points::ALL;
    }

    /// A line for each hook whose failures the run survived.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.slots.iter().filter(|s| s.failures.total > 0);
        failed
            .map(|s| {
                let Failures { total, last, disabled_at, .. } = &s.failures;
                let disabled = disabled_at.map(|at| format!(" and was disabled at iteration {at}"));
                format!("hook `{}` failed {total} times{}: {last}", s.key, disabled.unwrap_or_default())
            })
            .collect()
    }

    /// Calls the hooks of the event's point in order, up to the first whose failure ends the run.
    ///
    /// At [`Point::OnError`] a failure is logged and the next hook is called.
    ///
    /// # Errors
    /// [`Error::Run`] with the hook's key, the point and the counters; a panic is caught and counts as an error.
    pub fn dispatch(&mut self, event: &mut Event<'_>, cx: &mut Ctx<'_>) -> Result<()> {
        let point = cx.point;
        if !self.union.has(point) {
            return Ok(());
        }
        if !Arc::ptr_eq(&cx.control.keys, &self.keys) {
            cx.control.keys = Arc::clone(&self.keys);
        }
        let measured = cx.profile.fire(point, cx.progress.iter, self.slots.len());
        let mut union = Points::NONE;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.points.has(point) {
                cx.control.current = index;
                settle(event, cx, &*slot.hook)?;
                (cx.control.unsubscribed, cx.control.idle) = (false, false);
                let began = measured.then(Instant::now);
                let result = slot.call(event, cx);
                if let Some(began) = began {
                    cx.profile.called(index, point, began);
                }
                match result {
                    Ok(()) => slot.failures.in_a_row[point as usize] = 0,
                    Err(source) => slot.failed(source, cx)?,
                }
                if cx.control.unsubscribed {
                    slot.points.remove(point);
                } else if !cx.control.idle {
                    cx.profile.did(index, point, cx.progress.iter);
                }
            }
            union.0 |= slot.points.0;
        }
        self.union = union;
        Ok(())
    }
}

/// Has the numbers that a device still has brought down, if this hook reads them here.
fn settle(event: &mut Event<'_>, cx: &mut Ctx<'_>, hook: &dyn Hook) -> Result<()> {
    let step = match event {
        Event::AfterBackward(step) | Event::AfterTrainIter(step) => Some(step),
        _ => None,
    };
    let is_owed = cx.message_hub.owed() > 0 || step.as_ref().is_some_and(|step| step.outputs.late.is_some());
    if !is_owed || !hook.reads_numbers(cx.point, cx.progress) {
        return Ok(());
    }
    cx.message_hub.settle()?;
    step.map_or(Ok(()), |step| step.outputs.settle())
}

impl Slot {
    /// The hook's answer, after as many attempts as its policy allows.
    fn call(&mut self, event: &mut Event<'_>, cx: &mut Ctx<'_>) -> HookResult {
        let mut left = if let OnError::Retry(n) = self.on_error { n } else { 0 };
        loop {
            match caught(|| self.hook.on_event(cx, event)) {
                Err(why) if left > 0 => {
                    cx.log.warn(format_args!(
                        "hook `{}` in {}: {why}; trying again",
                        self.key,
                        cx.point.name()
                    ));
                    self.failures.total += 1;
                    self.failures.last = why.to_string();
                    left -= 1;
                }
                done => return done,
            }
        }
    }

    /// Passes the failure on, or lives with it.
    fn failed(&mut self, source: BoxError, cx: &mut Ctx<'_>) -> Result<()> {
        let point = cx.point;
        let text = source.to_string();
        let error = Error::Run {
            who: format!("hook `{}`", self.key),
            point: point.name(),
            epoch: cx.progress.epoch,
            iter: cx.progress.iter,
            source,
        };
        if point == Point::OnError {
            self.failures.total += 1;
            self.failures.last = error.to_string();
            cx.log.error(error);
            return Ok(());
        }
        if self.on_error != OnError::Warn {
            return Err(error);
        }
        cx.log.warn(&error);
        self.failures.total += 1;
        self.failures.last = text;
        let in_a_row = &mut self.failures.in_a_row[point as usize];
        *in_a_row += 1;
        if u32::from(*in_a_row) >= OnError::WARNINGS {
            cx.log.error(format_args!(
                "hook `{}` failed {in_a_row} times in a row in {}: it is disabled from here on",
                self.key,
                point.name()
            ));
            self.failures.disabled_at = Some(cx.progress.iter);
            self.points = Points::NONE;
            // It may hold something of the run, as the weights of an average: it gets the chance to put it back.
            cx.point = Point::OnError;
            if let Err(why) = caught(|| self.hook.on_event(cx, &mut Event::OnError(&error))) {
                cx.log.error(format_args!("hook `{}` in on_error: {why}", self.key));
            }
            cx.point = point;
            cx.control.unsubscribed = false;
        }
        Ok(())
    }
}
