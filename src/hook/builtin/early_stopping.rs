//! Ends a run whose metric has stopped getting better.

use crate::base::number::fixed;
use crate::metric::{Direction, Directions};
use crate::plugin::prelude::*;

/// Stops when `monitor` was not better for `patience` validations in a row, after MMEngine's EarlyStoppingHook.
///
/// Better is: beyond the best by `min_delta` or more, and not equal to it. NaN is never better.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EarlyStoppingHook {
    /// The metric to watch: `accuracy/top1`.
    #[schemars(example = "accuracy/top1")]
    monitor: String,
    /// Whether more or less of it is better; if absent the metric says it, or its name.
    #[serde(default)]
    rule: Option<Direction>,
    /// What a better value must add. MMEngine's 0.1 is made for percentages.
    #[serde(default = "min_delta")]
    #[schemars(range(min = 0.0))]
    min_delta: f64,
    /// A validation without the metric is an error, not a warning.
    #[serde(default)]
    strict: bool,
    /// Stop at once when the metric is NaN or infinite.
    #[serde(default = "crate::config::yes")]
    check_finite: bool,
    /// Validations without a better value before the run is stopped.
    #[serde(default = "patience")]
    #[schemars(range(min = 1))]
    patience: u64,
    /// Stop as soon as the metric is better than this.
    #[serde(default)]
    #[schemars(extend("x-unbounded" = true))]
    stopping_threshold: Option<f64>,
    /// Do not stop before so many epochs are complete; whether to stop then is decided by what has been seen since.
    #[serde(default)]
    min_epochs: u64,
    /// The first epoch (iteration, in a loop that counts them) whose validation is looked at; those before it are neither
    /// the best nor waited for.
    #[serde(default)]
    begin: u64,
    #[serde(skip)]
    state: State,
}

fn min_delta() -> f64 {
    0.1
}
fn patience() -> u64 {
    5
}
/// What a checkpoint keeps of this hook.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    best: Option<f64>,
    wait: u64,
    /// Why the run was stopped, and with which patience.
    #[serde(default)]
    stopped: Option<(String, u64)>,
}

impl EarlyStoppingHook {
    /// Watches a metric with the defaults: min_delta 0.1, patience 5.
    pub fn new(monitor: &str) -> Self {
        Self {
            monitor: monitor.into(),
            rule: None,
            min_delta: min_delta(),
            strict: false,
            check_finite: true,
            patience: patience(),
            stopping_threshold: None,
            min_epochs: 0,
            begin: 0,
            state: State::default(),
        }
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.state.best
    }

    fn direction(&self, told: Option<Direction>) -> Result<Direction, String> {
        self.rule.or(told).map_or_else(|| Direction::infer(&self.monitor, None, None), Ok)
    }

    /// Why to stop after this value, if at all.
    fn judge(&mut self, score: f64, rule: Direction) -> Option<String> {
        let (name, State { best, wait, .. }) = (&self.monitor, &mut self.state);
        if self.check_finite && !score.is_finite() {
            return Some(format!("{name} became {score}"));
        }
        if let Some(threshold) = self.stopping_threshold.filter(|t| rule.beats(score, Some(*t))) {
            *best = Some(score);
            return Some(format!("{name} {} is better than the threshold {threshold}", fixed(score, 4)));
        }
        let goal = best.map(|best| match rule {
            Direction::Greater => best + self.min_delta,
            Direction::Less => best - self.min_delta,
        });
        let enough = goal.is_none_or(|goal| score == goal || rule.beats(score, Some(goal)));
        if rule.beats(score, *best) && enough {
            (*best, *wait) = (Some(score), 0);
            return None;
        }
        *wait += 1;
        (*wait >= self.patience).then(|| {
            let best = best.map_or("none".into(), |best| fixed(best, 4));
            format!(
                "{name} was not better for {wait} validations (best {best}, min_delta {})",
                self.min_delta
            )
        })
    }
}

impl EarlyStoppingHook {
    fn missed(&self, metrics: &Metrics) -> String {
        let given: Vec<_> = metrics.0.iter().map(|(name, _)| name.as_str()).collect();
        let given = if given.is_empty() { "no number".to_owned() } else { given.join(", ") };
        format!("no metric `{}` to watch; the validation gave {given}", self.monitor)
    }
}

setters!(EarlyStoppingHook {
    /// Whether more or less of it is better; the metric says it if not called.
    rule: some Direction,
    /// What a better value must add; 0.1 if not called.
    min_delta: = f64,
    /// Whether a validation without the metric is an error, not a warning.
    strict: = bool,
    /// Whether to stop at once when the metric is NaN or infinite; so if not called.
    check_finite: = bool,
    /// Validations without a better value before the run is stopped; 5 if not called.
    patience: = u64,
    /// Stops as soon as the metric is better than this.
    stopping_threshold: some f64,
    /// Epochs before which the run is not stopped.
    min_epochs: = u64,
    /// The first epoch whose validation is looked at.
    begin: = u64,
});

impl Hook for EarlyStoppingHook {
    fn check_options(&self, cx: &BuildCx) -> Result<()> {
        check_ranges(self)?;
        let known = cx.get::<Directions>().cloned().unwrap_or_default();
        let told = self.direction(known.get(&self.monitor)).map(drop);
        told.map_err(|why| Error::config(known.meant(&self.monitor, why)))?;
        cx.get::<Progress>().map_or(Ok(()), |run| run.check_begin("begin", self.begin))
    }

    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn order(&self) -> HookOrder {
        HookOrder::default().reads(Point::AfterValEpoch, format!("val/{}", self.monitor))
    }

    fn check_metrics(&self, metrics: &Metrics) -> HookResult {
        match metrics.get(&self.monitor) {
            None if self.strict => Err(self.missed(metrics).into()),
            _ => Ok(()),
        }
    }

    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.state)
    }

    /// A run that was stopped and is resumed stays stopped; with more patience it goes on.
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        match &self.state.stopped {
            Some((reason, patience)) if *patience == self.patience => cx.stop(reason.clone()),
            _ => self.state.stopped = None,
        }
        Ok(())
    }

    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        if cx.info.placeholders || cx.progress.completed() < self.begin {
            return cx.no_op();
        }
        let Some(score) = metrics.get(&self.monitor) else {
            let text = self.missed(metrics);
            if self.strict {
                return Err(text.into());
            }
            cx.log.warn(text);
            return Ok(());
        };
        let rule = self.direction(metrics.direction(&self.monitor))?;
        if let Some(reason) = self.judge(score, rule)
            && cx.progress.epoch >= self.min_epochs
        {
            self.state.stopped = Some((reason.clone(), self.patience));
            cx.stop(reason);
        }
        Ok(())
    }
}

register! {
    /// Stops the run when a metric has not become better for some validations.
    dyn Hook, "EarlyStoppingHook" => EarlyStoppingHook
}
