//! A bar for the iterations of a training; only on a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::escape::escaped;
use crate::base::number::fixed;
use crate::plugin::prelude::*;

/// Moves the bar. The last hook in line.
pub(super) struct ProgressHook(ProgressBar);

impl ProgressHook {
    /// `None` where nobody watches.
    pub fn on_terminal() -> Option<Self> {
        stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} iterations, {per_sec}, {eta} left {msg}");
            let bar =
                ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            super::console::show(&bar);
            Self(bar)
        })
    }
}

impl Hook for ProgressHook {
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.0.set_length(cx.progress.max_iters);
        self.0.set_position(cx.progress.iter);
        self.0.reset_eta();
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        self.0.set_position(cx.progress.iter);
        Ok(())
    }

    fn after_val_epoch(&mut self, _cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        if let Some((name, value)) = metrics.0.first() {
            self.0.set_message(format!("{} {}", escaped(name), fixed(*value, 4)));
        }
        Ok(())
    }

    fn after_train(&mut self, _cx: &mut Ctx<'_>) -> HookResult {
        self.0.finish_and_clear();
        Ok(())
    }
}
