//! Holds parts of the model still for some epochs.

use crate::config::OneOrMany;
use crate::plugin::prelude::*;

/// Freezes modules from the epoch `begin` on, and trains them again from the epoch `end` on. In a loop that counts
/// iterations both are iterations.
///
/// As with `frozen` of a model: no gradient, no weight decay, and batch norms are those of evaluation. What is frozen is a
/// function of progress: there is nothing to keep.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct FreezeHook {
    /// Paths of the modules: `backbone`, `[backbone.layer1, backbone.layer2]`.
    modules: OneOrMany<String>,
    /// The first epoch, from 1, in which they are frozen.
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    begin: u64,
    /// The first epoch in which they are trained again; never, if absent.
    #[serde(default)]
    end: Option<u64>,
    #[serde(skip)]
    frozen: bool,
}

fn first() -> u64 {
    1
}

impl FreezeHook {
    /// Freezes these modules before the epoch `end`.
    pub fn until<M: Into<String>>(modules: impl IntoIterator<Item = M>, end: u64) -> Self {
        let modules = OneOrMany(modules.into_iter().map(Into::into).collect());
        Self { modules, begin: first(), end: Some(end), frozen: false }
    }

    /// Freezes these modules from the epoch `begin` on.
    pub fn from<M: Into<String>>(modules: impl IntoIterator<Item = M>, begin: u64) -> Self {
        let modules = OneOrMany(modules.into_iter().map(Into::into).collect());
        Self { modules, begin, end: None, frozen: false }
    }

    fn freeze(&mut self, cx: &mut Ctx<'_>, frozen: bool) -> HookResult {
        if self.frozen == frozen || cx.info.placeholders {
            return cx.no_op();
        }
        self.set(cx, frozen)?;
        if frozen {
            self.warn(cx);
        }
        let what = if frozen { "frozen" } else { "trained again" };
        cx.log.info(format_args!("from now on {}: {}", what, self.modules.0.join(", ")));
        Ok(())
    }

    /// The model that a run leaves behind is as it was given; nothing of it is trained any more.
    fn leave(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if self.frozen { self.set(cx, false) } else { Ok(()) }
    }

    fn set(&mut self, cx: &mut Ctx<'_>, frozen: bool) -> HookResult {
        for module in &self.modules.0 {
            cx.model.set_trainable(module, !frozen)?;
        }
        self.frozen = frozen;
        Ok(())
    }

    /// Says what is frozen in vain, and when nothing is left to train.
    fn warn(&self, cx: &Ctx<'_>) {
        // A parameter that is one with another goes by the name of that.
        let tied = cx.model.tied().into_iter().map(|(name, _)| name);
        let (mut names, mut trains) = (tied.collect::<Vec<String>>(), false);
        cx.model.infos(&mut |p| {
            if p.role.is_trained() {
                names.push(p.name.to_owned());
                trains |= !p.frozen;
            }
        });
        for module in &self.modules.0 {
            let below = |name: &String| {
                let rest = name.strip_prefix(module.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if !names.iter().any(below) {
                cx.log.warn(format_args!("FreezeHook: `{module}` has no weights: nothing is frozen by it"));
            }
        }
        if !trains && !names.is_empty() {
            cx.log.warn(
                "FreezeHook: every parameter is frozen, and nothing is trained: leave a module out of `modules`",
            );
        }
    }
}

impl Hook for FreezeHook {
    fn check_options(&self, cx: &BuildCx) -> Result<()> {
        if self.modules.0.iter().any(String::is_empty) || self.modules.0.is_empty() {
            return Err(Error::config("`modules` needs names of modules, such as `backbone`"));
        }
        if self.begin == 0 {
            return Err(Error::config("`begin: 0`: the first epoch is 1"));
        }
        if let Some(end) = self.end.filter(|end| *end <= self.begin) {
            let begin = self.begin;
            return Err(Error::config(format!(
                "`end: {end}` must be above `begin`, which is {begin}: nothing is frozen"
            )));
        }
        cx.get::<Progress>().map_or(Ok(()), |run| run.check_begin("begin", self.begin))
    }

    /// A check hears now what a training would after hours; nothing of its model remains.
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let later = cx.progress.completed() + 1 < self.begin;
        if !cx.info.dry_run || cx.info.placeholders || !later {
            return Ok(());
        }
        self.set(cx, true)?;
        self.set(cx, false)
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        let now = cx.progress.completed() + 1;
        self.freeze(cx, now >= self.begin && self.end.is_none_or(|end| now < end))
    }

    fn after_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.leave(cx)
    }

    fn on_error(&mut self, cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        self.leave(cx)
    }
}

register! {
    /// Freezes modules for some epochs: until one, from one on, or between two.
    dyn Hook, "FreezeHook" => FreezeHook
}
