//! A hook for shanty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shanty::plugin::prelude::*;

/// Counts iterations whose loss was higher than the one before, and tells every `interval` of them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MyHook {
    /// Rises between two lines in the log.
    #[schemars(range(min = 1))]
    interval: u64,
    /// What a checkpoint keeps; not a key of the config.
    #[serde(skip)]
    state: State,
}

/// State that must survive a resume.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    rises: u64,
    last: Option<f64>,
}

impl Default for MyHook {
    fn default() -> Self {
        Self { interval: 100, state: State::default() }
    }
}

impl Hook for MyHook {
    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.state)
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        let Some(loss) = step.outputs.loss() else { return cx.no_op() };
        if self.state.last.replace(loss).is_some_and(|last| loss > last) {
            self.state.rises += 1;
            if self.state.rises.is_multiple_of(self.interval) {
                cx.log.info(format_args!("the loss rose {} times", self.state.rises));
            }
        }
        // A scalar reaches the log and `scalars.json`.
        cx.message_hub.update_scalar(Mode::Train, "rises", self.state.rises as f64);
        Ok(())
    }
}

register! {
    /// Counts how often the loss rises.
    dyn Hook, "MyHook" => MyHook
}
