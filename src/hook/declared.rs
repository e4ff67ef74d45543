//! What a hook says of its place: whom it must precede or follow, what it reads and writes where.

use std::borrow::Cow;

use super::Point;

type Name = Cow<'static, str>;

/// The declarations of a hook, checked when a run is built.
///
/// Keys name what hooks hand each other: `train/<scalar>`, `val/<metric>`, `gradients`, `batch`, `checkpoint`; a key
/// may end in `*`. A hook that reads a key at a point must not stand before all that write it there. The run itself
/// writes the metrics of its validation, and reads `batch` after `before_train_iter` and `gradients` after
/// `after_backward`. `weights` in `before_val_epoch` are other weights for the length of a validation: one hook alone
/// may put them there.
///
/// ```
/// use shanty::hook::{Point, HookOrder};
/// let order = HookOrder::default().before("CheckpointHook").reads(Point::AfterTrainIter, "train/loss");
/// assert_eq!(order.before, ["CheckpointHook"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookOrder {
    /// Keys or type names of hooks that must come after this one.
    pub before: Vec<Name>,
    /// Keys or type names of hooks that must come before this one.
    pub after: Vec<Name>,
    /// What it reads, and where.
    pub reads: Vec<(Point, Name)>,
    /// What it writes, and where.
    pub writes: Vec<(Point, Name)>,
    /// The only points at which it does something, if it says so; the contract kit holds it to that.
    pub points: Option<Vec<Point>>,
}

impl HookOrder {
    /// This hook must come before that one.
    #[must_use]
    pub fn before(mut self, hook: impl Into<Name>) -> Self {
        self.before.push(hook.into());
        self
    }

    /// This hook must come after that one.
    #[must_use]
    pub fn after(mut self, hook: impl Into<Name>) -> Self {
        self.after.push(hook.into());
        self
    }

    /// This hook does something at these points only.
    #[must_use]
    pub fn at(mut self, points: &[Point]) -> Self {
        self.points = Some(points.to_vec());
        self
    }

    /// This hook reads a key at a point.
    #[must_use]
    pub fn reads(mut self, point: Point, key: impl Into<Name>) -> Self {
        self.reads.push((point, key.into()));
        self
    }

    /// This hook writes a key at a point.
    #[must_use]
    pub fn writes(mut self, point: Point, key: impl Into<Name>) -> Self {
        self.writes.push((point, key.into()));
        self
    }
}

/// Whether what is written under `written` may be what `read` wants: equal, or equal up to a `*`.
pub(super) fn matches_key(written: &str, read: &str) -> bool {
    let covers =
        |wide: &str, narrow: &str| wide.strip_suffix('*').is_some_and(|head| narrow.starts_with(head));
    written == read || covers(written, read) || covers(read, written)
}
