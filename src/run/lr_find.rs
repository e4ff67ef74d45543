//! The range test of a learning rate (Smith 2017): a short training in which it grows from step to step.

use std::sync::{Arc, Mutex, PoisonError};

use super::RunnerBuilder;
use crate::base::{Error, Result};
use crate::config::{Node, overridden};
use crate::hook::{Ctx, Hook, HookConfig, HookResult, Priority, Step};

/// How the rate grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sweep {
    /// The rate of the first step.
    pub first: f64,
    /// The rate of the last step.
    pub last: f64,
    /// Steps, if the loss does not diverge before.
    pub steps: u64,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { first: 1e-7, last: 10.0, steps: 100 }
    }
}

/// The loss at each rate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LrCurve {
    /// The rate of each step.
    pub rates: Vec<f64>,
    /// The loss of each step, smoothed.
    pub losses: Vec<f64>,
    /// Whether it ended because the loss diverged.
    pub diverged: bool,
}

/// How much of the mean stays from step to step.
const SMOOTHING: f64 = 0.98;
/// The loss has diverged when it is so many times the smallest.
const DIVERGED: f64 = 4.0;
/// Parts of a run that have no place in so short a training.
pub(super) const LEFT_OUT: [&str; 9] = [
    "param_scheduler",
    "custom_hooks",
    "val_dataloader",
    "val_cfg",
    "val_evaluator",
    "test_dataloader",
    "test_cfg",
    "test_evaluator",
    "digest_interval",
];

/// Trains the model of a config for some steps, in each of which the learning rate is greater by one factor. Nothing is
/// written. Groups keep their proportions; schedules, validations and custom hooks are left out.
///
/// # Errors
/// As those of a training.
pub fn lr_find(node: &Node, name: Option<&str>, sweep: Sweep) -> Result<LrCurve> {
    let Sweep { first, last, steps } = sweep;
    if !(first > 0.0 && last > first && last.is_finite()) {
        return Err(Error::config(format!("the rate must grow from above 0: {first} to {last} does not")));
    }
    if steps < 2 {
        return Err(Error::config("a sweep has 2 steps or more"));
    }
    let gone = LEFT_OUT.into_iter().filter(|key| node.get(key).is_some()).map(|key| format!("~{key}"));
    let set = ["train_cfg={_delete_: true, by_epoch: false, max_iters: ".to_owned() + &format!("{steps}}}")];
    let quiet = ["default_hooks.checkpoint=null".to_owned(), "resume=false".to_owned()];
    let changes: Vec<_> = gone.chain(set).chain(quiet).collect();
    let node = overridden(node, &changes)?;
    let seen = Arc::new(Mutex::new(LrCurve::default()));
    let hook = RangeTest { sweep, mean: 0.0, seen: Arc::clone(&seen) };
    let options = HookConfig { priority: Some(Priority::LOWEST), ..HookConfig::default() };
    let builder = RunnerBuilder::from_config(&node, name)?.dry();
    builder.boxed_hook(Box::new(hook), "the range test", options).build()?.train()?;
    let curve = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(curve)
}

struct RangeTest {
    sweep: Sweep,
    /// The running mean of the losses, before it is freed from its beginning at 0.
    mean: f64,
    seen: Arc<Mutex<LrCurve>>,
}

impl RangeTest {
    fn rate(&self, step: u64) -> f64 {
        let Sweep { first, last, steps } = self.sweep;
        first * (last / first).powf(step as f64 / (steps - 1) as f64)
    }

    fn set(&self, cx: &mut Ctx<'_>, step: u64) -> HookResult {
        let rate = self.rate(step);
        let Some(optim) = &mut cx.optim else { return Ok(()) };
        let whole = optim.base().base("lr").filter(|lr| *lr > 0.0);
        for group in optim.groups_mut() {
            let part = whole.zip(group.base("lr")).map_or(1.0, |(whole, own)| own / whole);
            group.set("lr", rate * part)?;
        }
        Ok(())
    }
}

impl Hook for RangeTest {
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.set(cx, 0)
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        let done = cx.progress.iter;
        let loss = step.outputs.loss().ok_or("the model gives no `loss`")?;
        self.mean = SMOOTHING * self.mean + (1.0 - SMOOTHING) * loss;
        let smooth = self.mean / (1.0 - SMOOTHING.powf(done as f64));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let least = seen.losses.iter().copied().fold(f64::INFINITY, f64::min);
        if !smooth.is_finite() || smooth > DIVERGED * least {
            seen.diverged = true;
            drop(seen);
            cx.stop("the loss has diverged");
            return Ok(());
        }
        seen.rates.push(self.rate(done - 1));
        seen.losses.push(smooth);
        drop(seen);
        self.set(cx, done)
    }
}

impl LrCurve {
    /// The rate at which the loss falls most steeply (over the logarithm of the rate), as fastai suggests. The first
    /// tenth, in which the mean settles, and the last five steps do not count. None where the loss falls nowhere.
    pub fn suggestion(&self) -> Option<f64> {
        let from = self.losses.len() / 10;
        let to = self.losses.len().saturating_sub(if self.losses.len() > 20 { 5 } else { 0 });
        let (rates, losses) = (self.rates.get(from..to)?, self.losses.get(from..to)?);
        let slope = |(rates, losses): (&[f64], &[f64])| match (rates, losses) {
            ([a, b], [x, y]) => Some((*a, (y - x) / (b.ln() - a.ln()))),
            _ => None,
        };
        let slopes = rates.windows(2).zip(losses.windows(2)).filter_map(slope);
        let (rate, slope) = slopes.min_by(|a, b| a.1.total_cmp(&b.1))?;
        (slope < 0.0).then_some(rate)
    }

    /// A tenth of the rate at which the loss is smallest: the other rule.
    pub fn tenth_of_lowest(&self) -> Option<f64> {
        let (rate, _) = self.rates.iter().zip(&self.losses).min_by(|a, b| a.1.total_cmp(b.1))?;
        Some(rate / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss that is a smooth step down around 10⁻², and grows beyond 1.
    #[test]
    fn the_suggestion_is_where_the_loss_falls_most_steeply() {
        let rates: Vec<f64> = (0..100).map(|i| 1e-7 * 1e8f64.powf(f64::from(i) / 99.0)).collect();
        let loss = |lr: &f64| 1.0 / (1.0 + (4.0 * (lr.log10() + 2.0)).exp()) + lr;
        let losses = rates.iter().map(loss).collect();
        let curve = LrCurve { rates, losses, diverged: false };
        let found = curve.suggestion().unwrap();
        assert!((found.log10() + 2.0).abs() < 0.2, "{found}");
        let rising = LrCurve { losses: curve.rates.clone(), ..curve.clone() };
        assert_eq!(rising.suggestion(), None);
        assert_eq!(LrCurve::default().suggestion(), None);
        let lowest = curve.tenth_of_lowest().unwrap();
        assert!(lowest > 1e-3 && lowest < 1e-1, "{lowest}");
    }
}
