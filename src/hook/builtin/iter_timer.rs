//! Times of iterations, and the time that is left.

use crate::plugin::prelude::*;

/// Records `data_time` (from the end of the last iteration to the batch) and `time` (to the end of this one) in
/// seconds, and the fact `eta`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IterTimerHook {
    #[serde(skip)]
    last: f64,
    /// Seconds and iterations of this process, for the ETA.
    #[serde(skip)]
    trained: (f64, u64),
    #[serde(skip)]
    evaluated: f64,
}

impl IterTimerHook {
    fn mode(cx: &Ctx<'_>) -> Mode {
        match cx.progress.phase {
            Phase::Val => Mode::Val,
            Phase::Test => Mode::Test,
            Phase::Train | Phase::Idle => Mode::Train,
        }
    }
}

impl Hook for IterTimerHook {
    fn reads_numbers(&self, _: Point, _: &Progress) -> bool {
        false
    }

    fn order(&self) -> HookOrder {
        HookOrder::default()
            .writes(Point::BeforeTrainIter, "train/data_time")
            .writes(Point::AfterTrainIter, "train/time")
            .writes(Point::AfterTrainIter, "eta")
    }

    fn before_train(&mut self, _cx: &mut Ctx<'_>) -> HookResult {
        self.trained = (0.0, 0);
        Ok(())
    }

    fn before_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.evaluated = 0.0;
        self.last = cx.progress.now;
        Ok(())
    }

    fn before_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        cx.message_hub.update_scalar(Self::mode(cx), "data_time", cx.progress.now - self.last);
        Ok(())
    }

    fn after_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        let time = cx.progress.now - self.last;
        self.last = cx.progress.now;
        let mode = Self::mode(cx);
        cx.message_hub.update_scalar(mode, "time", time);
        let (mean, left) = if mode == Mode::Train {
            self.trained = (self.trained.0 + time, self.trained.1 + 1);
            (self.trained.0 / self.trained.1 as f64, cx.progress.max_iters.saturating_sub(cx.progress.iter))
        } else {
            self.evaluated += time;
            (self.evaluated / cx.progress.eval_batch as f64, cx.progress.eval_len - cx.progress.eval_batch)
        };
        cx.message_hub.update_info("eta", mean * left as f64);
        Ok(())
    }

    /// A validation between two iterations is nobody's data time.
    fn after_val(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.last = cx.progress.now;
        Ok(())
    }
}

register! {
    /// Times data loading and iterations, and estimates the time that is left.
    dyn Hook, "IterTimerHook" => IterTimerHook
}
