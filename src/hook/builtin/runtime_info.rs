//! Puts what the run knows in the message hub: learning rates, losses, metrics.

use crate::hook::History;
use crate::plugin::prelude::*;

/// Runs first, so that every other hook finds the numbers of its iteration.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuntimeInfoHook {
    /// How many losses were no numbers when the training began; none, once one of this training was told of.
    #[serde(skip)]
    known: Option<u64>,
}

impl RuntimeInfoHook {
    /// Tells of the first loss of a training that is no number, when it has come down.
    fn tell(&mut self, cx: &Ctx<'_>) {
        let Some(history) = cx.message_hub.scalar(Mode::Train, "loss") else { return };
        if self.known.is_none_or(|known| history.nonfinite() <= known) {
            return;
        }
        let Some((loss, ago)) = history.last_nonfinite() else { return };
        self.known = None;
        cx.log.warn(format_args!(
            "the loss is {loss} in iteration {}: CheckInvalidLossHook would end the run, skip the step or go back",
            cx.progress.iter.saturating_sub((ago + cx.message_hub.owed()) as u64)
        ));
    }
}

impl Hook for RuntimeInfoHook {
    fn priority(&self) -> Priority {
        Priority::VERY_HIGH
    }

    fn order(&self) -> HookOrder {
        HookOrder::default()
            .writes(Point::BeforeTrainIter, "train/lr")
            .writes(Point::BeforeTrainIter, "train/base_lr")
            .writes(Point::AfterTrainIter, "train/*")
            .writes(Point::AfterValEpoch, "val")
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        let Some(optim) = &cx.optim else { return Ok(()) };
        if let Some(group) = optim.groups().first() {
            cx.message_hub.update_scalar(Mode::Train, "lr", group.lr());
        }
        if optim.names().next().is_some() {
            // MMEngine's names; the first group of each optimizer.
            for name in optim.names() {
                let own = optim.groups().iter().find(|group| optim.name_of(group) == name);
                cx.message_hub.update_scalar(
                    Mode::Train,
                    &format!("{name}.lr"),
                    own.map_or(0.0, |group| group.lr()),
                );
            }
        } else if optim.groups().len() > 1 {
            cx.message_hub.update_scalar(Mode::Train, "base_lr", optim.base().lr());
        }
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        for (name, value) in &step.outputs.vars {
            cx.message_hub.update_scalar(Mode::Train, name, *value);
        }
        if let Some(late) = &step.outputs.late {
            cx.message_hub.update_later(Mode::Train, late.clone());
        }
        self.tell(cx);
        Ok(())
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let known = cx.message_hub.scalar(Mode::Train, "loss").map_or(0, History::nonfinite);
        self.known = Some(known);
        Ok(())
    }

    fn after_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.tell(cx);
        Ok(())
    }

    fn reads_numbers(&self, _: Point, _: &Progress) -> bool {
        false
    }

    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        metrics.0.iter().for_each(|(name, value)| cx.message_hub.update_scalar(Mode::Val, name, *value));
        Ok(())
    }

    fn after_test_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        metrics.0.iter().for_each(|(name, value)| cx.message_hub.update_scalar(Mode::Test, name, *value));
        Ok(())
    }
}

register! {
    /// Records learning rates, losses and metrics in the message hub.
    dyn Hook, "RuntimeInfoHook" => RuntimeInfoHook
}
