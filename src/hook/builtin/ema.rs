//! Averaged weights beside the trained ones.

use super::average::{AveragedModel, Averaging};
use crate::plugin::prelude::*;

/// Keeps an average of the weights, validates and tests with it, and lets checkpoints hold it as *the* weights.
///
/// In a checkpoint `model.safetensors` is the average; the weights that training goes on with are this hook's state. So
/// `load_from` starts with the average, `resume` with the weights of the run. Before the average begins both are equal.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EMAHook {
    /// Which average: an exponential one, a plain one, or one that is slower and slower.
    ema_type: Averaging,
    /// The weight of the newest model, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    momentum: f64,
    /// For MomentumAnnealingEMA: how fast its momentum falls.
    #[schemars(range(min = 0.0))]
    gamma: f64,
    /// Iterations of which one enters the average.
    #[schemars(range(min = 1))]
    interval: u64,
    /// Average buffers too, instead of taking those of the model.
    update_buffers: bool,
    /// The first iteration that enters the average; not together with `begin_epoch`.
    begin_iter: u64,
    /// The first epoch, from 1, that enters the average.
    begin_epoch: u64,
    /// Validate and test with the average; if not, with the weights of the run.
    evaluate_on_ema: bool,
    /// Validate and test with the weights of the run: beside the average in a second pass, `accuracy/top1_origin`.
    evaluate_on_origin: bool,
    /// Accepted for MMEngine's configs: an average that does not fit is refused anyway.
    strict_load: bool,
    #[serde(skip)]
    state: State,
    #[serde(skip)]
    swapped: bool,
}

/// What a checkpoint keeps of this hook.
#[derive(Debug, Default)]
struct State {
    average: Option<AveragedModel>,
    /// What a checkpoint held whose weights have not been exchanged yet.
    loaded: Option<Record>,
}

impl HookState for State {
    /// The tensors come in `before_save_checkpoint`, where the weights are at hand.
    fn save(&self) -> HookResult<Record> {
        Record::of(&self.average.as_ref().map_or(0, AveragedModel::steps))
    }

    fn load(&mut self, record: Record) -> HookResult {
        self.loaded = Some(record);
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Default for EMAHook {
    fn default() -> Self {
        Self {
            ema_type: Averaging::ExponentialMovingAverage,
            momentum: 0.0002,
            gamma: 100.0,
            interval: 1,
            update_buffers: false,
            begin_iter: 0,
            begin_epoch: 0,
            evaluate_on_ema: true,
            evaluate_on_origin: false,
            strict_load: false,
            state: State::default(),
            swapped: false,
        }
    }
}

impl EMAHook {
    /// An exponential average with this weight of the newest model, begun in iteration `begin_iter`.
    pub fn new(momentum: f64, begin_iter: u64) -> Self {
        Self { momentum, begin_iter, ..Self::default() }
    }

    /// The average so far.
    pub fn average(&self) -> Option<&AveragedModel> {
        self.state.average.as_ref()
    }

    fn own(&mut self) -> &mut AveragedModel {
        let Self { ema_type, momentum, gamma, interval, update_buffers, .. } = *self;
        self.state.average.get_or_insert_with(|| {
            let mut average = AveragedModel::new(ema_type, momentum);
            (average.gamma, average.interval, average.update_buffers) = (gamma, interval, update_buffers);
            average
        })
    }

    fn begun(&self, progress: &Progress) -> bool {
        if self.begin_epoch > 0 {
            progress.epoch + 1 >= self.begin_epoch
        } else {
            progress.iter >= self.begin_iter
        }
    }

    /// Puts what is evaluated in the place of the weights of the run, or takes it away.
    fn evaluates(&mut self, cx: &mut Ctx<'_>, begins: bool) -> HookResult {
        if self.evaluate_on_ema { self.swap(cx, begins) } else { cx.unsubscribe() }
    }

    fn swap(&mut self, cx: &mut Ctx<'_>, averaged: bool) -> HookResult {
        if self.swapped != averaged {
            self.own().swap(&mut **cx.model)?;
            self.swapped = averaged;
        }
        Ok(())
    }
}

setters!(EMAHook {
    /// Which average; an exponential one if not called.
    ema_type: = Averaging,
    /// The weight of the newest model, in (0, 1).
    momentum: = f64,
    /// For [`Averaging::MomentumAnnealingEMA`]: how fast its momentum falls.
    gamma: = f64,
    /// Iterations of which one enters the average.
    interval: = u64,
    /// Whether to average buffers too, instead of taking those of the model.
    update_buffers: = bool,
    /// The first iteration that enters the average; not together with `begin_epoch`.
    begin_iter: = u64,
    /// The first epoch, from 1, that enters the average.
    begin_epoch: = u64,
    /// Whether to validate and test with the average; so if not called.
    evaluate_on_ema: = bool,
    /// Whether to validate and test with the weights of the run too.
    evaluate_on_origin: = bool,
});

impl Hook for EMAHook {
    fn reads_numbers(&self, _: Point, _: &Progress) -> bool {
        false
    }

    fn check_options(&self, cx: &BuildCx) -> Result<()> {
        check_ranges(self)?;
        let Self { begin_iter, begin_epoch, .. } = *self;
        if begin_iter > 0 && begin_epoch > 0 {
            return Err(Error::config("give `begin_iter` or `begin_epoch`, not both"));
        }
        let Some(run) = cx.get::<Progress>().filter(|run| run.max_iters > 0) else { return Ok(()) };
        let (key, begin, has) = if begin_iter >= run.max_iters {
            ("begin_iter", begin_iter, format!("{} iterations", run.max_iters))
        } else if begin_epoch > run.max_epochs {
            ("begin_epoch", begin_epoch, format!("{} epochs", run.max_epochs))
        } else {
            return Ok(());
        };
        Err(Error::config(format!("`{key}: {begin}`, but the run has {has}")))
    }

    fn order(&self) -> HookOrder {
        // Whoever looks at the weights at the end of an iteration or an epoch looks at the trained ones.
        HookOrder::default().before("CheckpointHook").writes(Point::BeforeValEpoch, "weights")
    }

    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.state)
    }

    fn before_run(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if self.momentum > 0.5 {
            cx.log.warn(format_args!("EMAHook: momentum {} is the weight of the *new* model", self.momentum));
        }
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if !self.begun(cx.progress) {
            return cx.no_op();
        }
        Ok(self.own().update(&mut **cx.model)?)
    }

    fn before_val_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.evaluates(cx, true)
    }

    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, _metrics: &Metrics) -> HookResult {
        self.evaluates(cx, false)
    }

    fn before_test_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.evaluates(cx, true)
    }

    fn after_test_epoch(&mut self, cx: &mut Ctx<'_>, _metrics: &Metrics) -> HookResult {
        self.evaluates(cx, false)
    }

    fn evaluate_also(&mut self, cx: &mut Ctx<'_>, begins: bool) -> HookResult<Option<&'static str>> {
        if !self.evaluate_on_origin || !self.evaluate_on_ema {
            return Ok(None);
        }
        self.swap(cx, !begins)?;
        Ok(Some("_origin"))
    }

    fn before_save_checkpoint(&mut self, cx: &mut Ctx<'_>, checkpoint: &mut Checkpoint) -> HookResult {
        if let Some(mut record) = checkpoint.hooks.remove(cx.key()) {
            self.own().exchange_into(checkpoint, &mut record, &**cx.model)?;
            checkpoint.hooks.insert(cx.key().to_owned(), record);
        }
        Ok(())
    }

    fn after_load_checkpoint(&mut self, _cx: &mut Ctx<'_>, checkpoint: &mut Checkpoint) -> HookResult {
        if let Some(record) = self.state.loaded.take() {
            self.own().exchange_back(checkpoint, &record, record.read()?)?;
        }
        Ok(())
    }

    /// The failed run keeps its own weights.
    fn on_error(&mut self, cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        self.swap(cx, false)
    }
}

register! {
    /// Keeps an average of the weights (exponential, plain or annealed), and validates and saves with it.
    dyn Hook, "EMAHook" => EMAHook
}
