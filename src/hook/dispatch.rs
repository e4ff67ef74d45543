//! The line of hooks: who is in it, in which order, and the walk along it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Ctx, Event, Hook, HookOptions, HookResult, Point, Priority};
use crate::base::{BoxError, Error, Result};

/// A set of points, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Points(u32);

impl Points {
    const NONE: Self = Self(0);
    const ALL: Self = Self(u32::MAX);

    fn has(self, point: Point) -> bool {
        self.0 & (1 << point as u8) != 0
    }
    fn remove(&mut self, point: Point) {
        self.0 &= !(1 << point as u8);
    }
}

pub(crate) struct Slot {
    pub hook: Box<dyn Hook>,
    pub key: String,
    pub priority: Priority,
    points: Points,
}

/// The hooks of a run in the order in which they are called.
pub struct Hooks {
    slots: Vec<Slot>,
    /// Union of all slots' points: a point that nobody wants costs one test.
    union: Points,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { slots: Vec::new(), union: Points::NONE }
    }
}

impl Hooks {
    /// Puts a hook in line: after the last one of the same priority or before it. `name` is its type's name; the key
    /// of a second hook of the same name is `name#2`.
    pub fn insert(&mut self, hook: Box<dyn Hook>, name: &str, options: &HookOptions) {
        let priority = options.priority.unwrap_or_else(|| hook.priority());
        let wanted = options.key.as_deref().unwrap_or(name);
        let same =
            |s: &&Slot| s.key == wanted || s.key.strip_prefix(wanted).is_some_and(|r| r.starts_with('#'));
        let key = match self.slots.iter().filter(same).count() {
            0 => wanted.to_owned(),
            n => format!("{wanted}#{}", n + 1),
        };
        let at = self.slots.iter().rposition(|s| s.priority <= priority).map_or(0, |i| i + 1);
        self.slots.insert(at, Slot { hook, key, priority, points: Points::ALL });
        self.union = Points::ALL;
    }

    /// The first hook of this type.
    pub fn get<T: Hook>(&self) -> Option<&T> {
        self.slots.iter().find_map(|s| (&*s.hook as &dyn Any).downcast_ref())
    }

    /// The first hook of this type, to change.
    pub fn get_mut<T: Hook>(&mut self) -> Option<&mut T> {
        self.slots.iter_mut().find_map(|s| (&mut *s.hook as &mut dyn Any).downcast_mut())
    }

    /// Keys and priorities in the order of the line.
    pub fn order(&self) -> impl Iterator<Item = (&str, Priority)> {
        self.slots.iter().map(|s| (s.key.as_str(), s.priority))
    }

    pub(crate) fn slots(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    pub(crate) fn key(&self, index: usize) -> &str {
        self.slots.get(index).map_or("the run", |s| &s.key)
    }

    /// Subscribes every hook to every point again: what a new run begins with.
    pub(crate) fn reset(&mut self) {
        for slot in &mut self.slots {
            slot.points = Points::ALL;
        }
        self.union = Points::ALL;
    }

    /// Calls the hooks of the event's point in order, up to the first that fails.
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
        let mut union = Points::NONE;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.points.has(point) {
                cx.control.current = index;
                cx.control.unsubscribed = false;
                if let Err(source) = caught(|| slot.hook.on_event(cx, event)) {
                    let error = Error::Run {
                        who: format!("hook `{}`", slot.key),
                        point: point.name(),
                        epoch: cx.clock.epoch,
                        iter: cx.clock.iter,
                        source,
                    };
                    if point != Point::OnError {
                        return Err(error);
                    }
                    cx.log.error(error);
                }
                if cx.control.unsubscribed {
                    slot.points.remove(point);
                }
            }
            union.0 |= slot.points.0;
        }
        self.union = union;
        Ok(())
    }
}

/// Runs `call`, turning a panic into an error with its message.
pub(crate) fn caught<T>(call: impl FnOnce() -> HookResult<T>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        Err(format!("panicked: {text}").into())
    })
}
