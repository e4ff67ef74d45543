//! Hooks as they are given to a run, and what they may ask of it.

use super::Evaluation;
use super::apart::Named;
use crate::base::{BoxError, Error, Result};
use crate::hook::{Ctx, Event, Hook, HookConfig, HookResult, Point, Progress};
use crate::registry::{BuildCx, Spec};

/// A hook as it was given.
pub(super) enum GivenHook {
    /// Made already, with its name and the keys of every hook.
    Made(Box<dyn Hook>, String, HookConfig),
    /// To be made when the run is known.
    Written(Spec<dyn Hook>),
}

impl GivenHook {
    /// The hook, with its name and the keys of every hook. What is made of a config has been asked for its options.
    pub(super) fn build(self, cx: &mut BuildCx) -> Result<Named> {
        match self {
            Self::Made(hook, name, config) => {
                check_made(&*hook, &name, cx)?;
                Ok((hook, name, config))
            }
            Self::Written(spec) => Ok((spec.build(cx)?, spec.name().to_owned(), spec.extra.clone())),
        }
    }
}

/// Asks a hook that a program made what a config is asked.
pub(super) fn check_made(hook: &dyn Hook, name: &str, cx: &BuildCx) -> Result<()> {
    hook.check_options(cx).map_err(|why| Error::config(format!("cannot build `{name}`: {why}")))
}

/// What hooks may ask when they are made: the length of the run that trains, and which way its metrics are better.
pub(super) fn known_to_hooks(seed: u64, run: Option<Progress>, val: Option<&Evaluation>) -> BuildCx {
    let mut cx = BuildCx::new(seed);
    if let Some(run) = run {
        cx.provide(run);
    }
    if let Some(val) = val {
        cx.provide(val.directions());
    }
    cx
}

/// `EmaHook` of `my_crate::hooks::EmaHook<T>`.
pub(super) fn type_name<T>() -> &'static str {
    let path = std::any::type_name::<T>();
    path.split('<').next().and_then(|p| p.rsplit("::").next()).unwrap_or(path)
}

/// A closure as a hook.
pub(super) struct Closure<F> {
    point: Point,
    call: F,
}

impl<F> Closure<F> {
    pub(super) fn at(point: Point, call: F) -> Self {
        Self { point, call }
    }
}

impl<F> Hook for Closure<F>
where
    F: FnMut(&mut Ctx<'_>, &mut Event<'_>) -> Result<(), BoxError> + Send + 'static,
{
    fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
        if event.point() == self.point { (self.call)(cx, event) } else { cx.unsubscribe() }
    }
}
