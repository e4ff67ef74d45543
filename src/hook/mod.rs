//! The contract between the runner that calls and the hooks that pull.
//!
//! [`Hook`] has one method per lifecycle [`Point`]; a hook sees the run through [`Ctx`], a set of borrowed fields, and
//! asks for what needs the whole runner (stop, save, validate) by a request that the session settles after the last
//! hook of that point. The order of all points is in `docs/events.md`, which is a test.

pub mod builtin;
mod control;
mod ctx;
mod declared;
mod dispatch;
mod event;
mod message_hub;
mod options;
mod order;
mod priority;
mod profile;
mod progress;
mod runlog;
mod state;

pub(crate) use control::{Asked, Control};
pub use control::{SaveRequest, StopReason};
pub use ctx::{Ctx, Dirs, RunInfo};
pub use declared::HookOrder;
pub use dispatch::Hooks;
pub use event::{CheckpointSaved, Event, Metrics, Point, Step};
pub use message_hub::{History, MessageHub, Mode};
pub use options::{HookConfig, OnError, Ranks};
pub(crate) use order::Misplaced;
pub use priority::Priority;
pub use profile::{Call, LayerTotals, Profile, Span, Spent, Who};
pub use progress::{Phase, Progress};
#[cfg(feature = "cli")]
pub(crate) use runlog::OWN;
pub use runlog::RunLog;
pub use state::HookState;

use std::any::Any;

use crate::base::{BoxError, Error};
use crate::checkpoint::Checkpoint;
use crate::data::Batch;
use crate::registry::BuildCx;

/// What a hook returns: any error, so that every `?` works. The dispatcher adds hook, point, epoch and iteration.
pub type HookResult<T = ()> = Result<T, BoxError>;

crate::registry!(dyn Hook, "hook", HookConfig, {
    fn finish(hook: Box<Self>, _: &HookConfig, cx: &mut BuildCx) -> Result<Box<Self>, Error> {
        hook.check_options(cx).map(|()| hook)
    }
});

/// A hook: methods that the run calls at its points. Implement those that you need.
///
/// A hook is called at most once at a point that it does not override: each default body calls
/// [`Ctx::unsubscribe`], so idle hooks cost nothing.
///
/// **An override must not call another default method as if it were `super`** (`self.after_iter(cx, step)` where
/// `after_iter` is not overridden): that would unsubscribe the hook from the point it is in.
///
/// State that must survive a resume is a field that [`state`](Hook::state) lends: the run saves it with each
/// checkpoint, resets it before it begins, and loads it between `before_run` and `before_train` of a run that is
/// resumed.
///
/// ```
/// use shanty::plugin::prelude::*;
/// /// Stops the run after a number of iterations.
/// struct StopAt(u64);
/// impl Hook for StopAt {
///     fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
///         if cx.progress.iter == self.0 { cx.stop("far enough"); }
///         Ok(())
///     }
/// }
/// assert_eq!(StopAt(3).priority(), Priority::NORMAL);
/// ```
#[allow(unused_variables)]
pub trait Hook: Any + Send {
    /// The place in the order: 0 runs first, 100 last, ties in order of registration. `priority:` in YAML wins.
    fn priority(&self) -> Priority {
        Priority::NORMAL
    }

    /// Whom it must precede or follow, what it reads and writes where; nothing in particular unless overridden.
    fn order(&self) -> HookOrder {
        HookOrder::default()
    }

    /// On which of the processes that train together it is called: a hook that only writes files says
    /// [`Ranks::Main`]. The points of saving are called there alone, whatever it says.
    fn ranks(&self) -> Ranks {
        Ranks::All
    }

    /// Whether its options can be, fit together, and fit what is known of the run. It is asked when the hook is made of
    /// a config, and when a run is built with one that a program made.
    ///
    /// # Errors
    /// What is wrong, in the words of a config.
    fn check_options(&self, cx: &BuildCx) -> Result<(), Error> {
        Ok(())
    }

    /// The folder that its checkpoints go to, if that is not the work_dir: the run locks it, and looks there when it is
    /// resumed.
    fn save_dir(&self, dirs: &Dirs) -> Option<std::path::PathBuf> {
        None
    }

    /// The names of the checkpoints that it asks for, with `{}` for a number, in a loop that counts epochs (`by_epoch`)
    /// or iterations: what is in their way is found before the run begins.
    fn save_names(&self, by_epoch: bool) -> Vec<String> {
        Vec::new()
    }

    /// A file that it writes at a place that somebody names: one that has the name of a checkpoint to come, or of a
    /// file of the run, is refused before the run begins.
    fn out_file(&self) -> Option<&std::path::Path> {
        None
    }

    /// What a failure means for the run. `on_error:` in YAML wins.
    fn policy(&self) -> OnError {
        OnError::Abort
    }

    /// Whether its `interval` counts epochs, in a loop that does (`by_epoch`) or counts iterations: a check compares it
    /// with the length of the run.
    fn counts_epochs(&self, by_epoch: bool) -> bool {
        false
    }

    /// Whether it looks at the numbers of the training step, in `outputs` or the message hub, when it is called at this
    /// point of an iteration. It may say no where it does not: numbers on a device come down when somebody reads them.
    fn reads_numbers(&self, point: Point, progress: &Progress) -> bool {
        true
    }

    /// Whether it can go by these values of a validation: it is asked before a training, with those of two batches, so
    /// that a run does not fail after its first epoch.
    ///
    /// # Errors
    /// Why it cannot.
    fn check_metrics(&self, metrics: &Metrics) -> HookResult {
        Ok(())
    }

    /// Weights that are to be evaluated beside those that the model has during a validation or a test: puts them there
    /// (`begins`) when the pass is over, or takes them away again after a second one. Gives what the names of those
    /// values end with; nothing, where there are no others. What it puts there it takes away in `on_error` too.
    ///
    /// # Errors
    /// Why it cannot.
    fn evaluate_also(&mut self, cx: &mut Ctx<'_>, begins: bool) -> HookResult<Option<&'static str>> {
        Ok(None)
    }

    /// The state that checkpoints keep; `None` keeps nothing.
    fn state(&mut self) -> Option<&mut dyn HookState> {
        None
    }

    /// Before anything: weights are not initialised or loaded yet.
    fn before_run(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// After everything, once, in a run that did not fail.
    fn after_run(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// A checkpoint was read and verified; its weights have not reached the model yet and may be changed.
    fn after_load_checkpoint(&mut self, cx: &mut Ctx<'_>, checkpoint: &mut Checkpoint) -> HookResult {
        cx.unsubscribe()
    }
    /// A checkpoint is about to be written and may be changed.
    fn before_save_checkpoint(&mut self, cx: &mut Ctx<'_>, checkpoint: &mut Checkpoint) -> HookResult {
        cx.unsubscribe()
    }
    /// A checkpoint is committed. Requests made here are dropped.
    fn after_save_checkpoint(&mut self, cx: &mut Ctx<'_>, saved: &CheckpointSaved) -> HookResult {
        cx.unsubscribe()
    }
    /// Before the first epoch; weights and counters are in place.
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// After the last epoch.
    fn after_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// Before the first batch of an epoch (again when a run is resumed inside one).
    fn before_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.before_epoch(cx)
    }
    /// `progress.epoch` has ticked, unless the epoch was cut short by a stop.
    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.after_epoch(cx)
    }
    /// The batch is loaded and may be changed.
    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        self.before_iter(cx, batch)
    }
    /// Gradients are complete, the optimizer has not stepped: clip, add noise, or [`Ctx::skip_update`].
    fn after_backward(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// The iteration is done and `progress.iter` has ticked.
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.after_iter(cx, step)
    }
    /// Before a validation.
    fn before_val(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// After a validation.
    fn after_val(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// Before the first batch of a validation.
    fn before_val_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.before_epoch(cx)
    }
    /// The metrics of the validation are known.
    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        self.after_epoch(cx)
    }
    /// Before a validation batch.
    fn before_val_iter(&mut self, cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        self.before_iter(cx, batch)
    }
    /// After a validation batch.
    fn after_val_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.after_iter(cx, step)
    }
    /// Before a test.
    fn before_test(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// After a test.
    fn after_test(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// Before the first batch of a test.
    fn before_test_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.before_epoch(cx)
    }
    /// The metrics of the test are known.
    fn after_test_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        self.after_epoch(cx)
    }
    /// Before a test batch.
    fn before_test_iter(&mut self, cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        self.before_iter(cx, batch)
    }
    /// After a test batch.
    fn after_test_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.after_iter(cx, step)
    }

    /// Before an epoch of any mode whose own method is not overridden.
    fn before_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// After an epoch of any mode whose own method is not overridden.
    fn after_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.unsubscribe()
    }
    /// Before an iteration of any mode whose own method is not overridden.
    fn before_iter(&mut self, cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        cx.unsubscribe()
    }
    /// After an iteration of any mode whose own method is not overridden.
    fn after_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        cx.unsubscribe()
    }

    /// The run failed: put back what you hold. Every hook is called, also after one of them failed here.
    fn on_error(&mut self, cx: &mut Ctx<'_>, error: &Error) -> HookResult {
        cx.unsubscribe()
    }
    /// A point of a user's own loop.
    fn on_custom(&mut self, cx: &mut Ctx<'_>, name: &str, data: &mut dyn Any) -> HookResult {
        cx.unsubscribe()
    }

    /// Every point through one door, for closures and recorders. Overriding it replaces all of the methods above.
    fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
        event.call(self, cx)
    }
}
