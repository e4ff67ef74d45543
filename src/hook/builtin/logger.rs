//! Log lines and scalars at intervals.

use super::LogProcessor;
use super::log_line::{LogLine, Tags};
use crate::base::{durable, memory};
use crate::hook::Progress;
use crate::plugin::prelude::*;
use crate::vis::{TableLine, VisEvent, to_json};

/// Rows and columns of a table that the text log shows.
const SHOWN: usize = 20;

/// Writes a line every `interval` iterations and after each validation or test; the same numbers, and tables of metrics,
/// go to the event log.
pub struct LoggerHook {
    config: LoggerConfig,
    line: LogLine,
    /// The peak of memory in MiB, and when it was asked for.
    memory: Option<(f64, f64)>,
}

/// Parameters of [`LoggerHook`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoggerConfig {
    /// Iterations between two lines.
    #[schemars(range(min = 1))]
    pub interval: u64,
    /// Leave out the rest of an epoch after its last full interval, unless the epoch is shorter than one.
    pub ignore_last: bool,
    /// Iterations between two reminders of the experiment's name.
    #[schemars(range(min = 1))]
    pub interval_exp_name: u64,
    /// The step of a validation's scalars: its epoch, or its iteration; as the training loop counts if absent.
    pub log_metric_by_epoch: Option<bool>,
}

impl Default for LoggerConfig {
    fn default() -> Self {
        Self { interval: 10, ignore_last: true, interval_exp_name: 1000, log_metric_by_epoch: None }
    }
}

impl LoggerHook {
    /// A line every `interval` iterations, and after each validation or test.
    pub fn every(interval: u64) -> Self {
        let config = LoggerConfig { interval, ..LoggerConfig::default() };
        Self { config, line: LogLine::default(), memory: None }
    }

    /// Whether an iteration has a line.
    fn is_due(&self, progress: &Progress) -> bool {
        let LoggerConfig { interval, ignore_last, .. } = self.config;
        let rest = progress.end_of_epoch() && (!ignore_last || progress.epoch_len <= interval);
        progress.every_n_batches(interval) || rest
    }

    /// Whether to leave out the rest of an epoch after its last full interval; so if not called.
    #[must_use]
    pub fn ignore_last(mut self, ignore_last: bool) -> Self {
        self.config.ignore_last = ignore_last;
        self
    }

    /// Iterations between two reminders of the experiment's name; 1000 if not called.
    #[must_use]
    pub fn interval_exp_name(mut self, interval: u64) -> Self {
        self.config.interval_exp_name = interval;
        self
    }

    /// Whether the step of a validation's scalars is its epoch, or its iteration; as the training loop counts if not
    /// called.
    #[must_use]
    pub fn log_metric_by_epoch(mut self, by_epoch: bool) -> Self {
        self.config.log_metric_by_epoch = Some(by_epoch);
        self
    }

    fn add_scalars(&self, cx: &mut Ctx<'_>, tags: Tags, mode: Mode, step: u64) {
        let progress = cx.progress;
        let mut event = VisEvent::new(mode.name());
        if mode != Mode::Train {
            event = event.with("epoch", progress.epoch);
        } else if self.line.by_epoch(progress) {
            event = event.with("epoch", progress.current_epoch());
        }
        let tags = self.line.named(tags, cx.message_hub, mode);
        let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        cx.vis.add(event.with("iter", progress.iter).with("step", step).with_scalars(&tags));
    }

    /// Tables go to the text log, as far as they fit, and to the event log.
    fn add_tables(cx: &mut Ctx<'_>, metrics: &Metrics, mode: Mode, step: u64) {
        for (name, table) in metrics.tables() {
            cx.log.info(format_args!("{name}:\n{}", table.text(SHOWN)));
            let (axes, rows, columns, values) = (table.axes(), table.rows(), table.columns(), table.values());
            let line = TableLine { name, mode: mode.name(), axes, rows, columns, values, step };
            cx.vis.add(VisEvent::table(&line));
        }
    }

    /// The step of a validation's scalars.
    fn eval_step(&self, progress: &Progress) -> u64 {
        let by_epoch = self.config.log_metric_by_epoch.unwrap_or(progress.by_epoch);
        if by_epoch { progress.epoch } else { progress.iter }
    }

    /// The most memory that the process has had, in MiB. Asked for once a second: lines may be more frequent.
    fn peak(&mut self, now: f64) -> Option<f64> {
        match self.memory {
            Some((peak, at)) if now - at < 1.0 => Some(peak),
            _ => {
                let peak = memory::peak()? as f64 / f64::from(1 << 20);
                self.memory = Some((peak.round(), now));
                Some(peak.round())
            }
        }
    }

    fn eval_iter(&self, cx: &Ctx<'_>, mode: Mode) {
        if cx.progress.eval_batch.is_multiple_of(self.config.interval) {
            let tags = self.line.tags(cx.message_hub, cx.progress, mode);
            cx.log.info(self.line.eval_iter(&tags, cx.message_hub, cx.progress, mode));
        }
    }
}

impl Hook for LoggerHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(&self.config)
    }

    fn priority(&self) -> Priority {
        Priority::BELOW_NORMAL
    }

    fn order(&self) -> HookOrder {
        HookOrder::default()
            .reads(Point::AfterTrainIter, "train/loss")
            .reads(Point::AfterTrainIter, "train/time")
            .reads(Point::AfterValEpoch, "val")
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.line.check(cx.progress)?;
        cx.no_op()
    }

    fn after_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let Some(why) = self.line.missing(cx.message_hub) else { return cx.no_op() };
        cx.log.warn(why);
        Ok(())
    }

    fn reads_numbers(&self, point: Point, progress: &Progress) -> bool {
        point == Point::AfterTrainIter && self.is_due(progress)
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if cx.progress.every_n_iters(self.config.interval_exp_name, 0) {
            cx.log.info(format_args!("Exp name: {}", cx.info.experiment_name));
        }
        if !self.is_due(cx.progress) {
            return cx.no_op();
        }
        let mut tags = self.line.tags(cx.message_hub, cx.progress, Mode::Train);
        if let Some(peak) = self.peak(cx.progress.now)
            && !tags.iter().any(|(name, _)| name == "memory")
        {
            tags.push(("memory".into(), peak));
        }
        cx.log.info(self.line.train(&tags, cx.message_hub, cx.progress));
        let step = cx.progress.iter;
        self.add_scalars(cx, tags, Mode::Train, step);
        Ok(())
    }

    fn after_val_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        self.eval_iter(cx, Mode::Val);
        Ok(())
    }

    fn after_test_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        self.eval_iter(cx, Mode::Test);
        Ok(())
    }

    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        let tags = self.line.tags(cx.message_hub, cx.progress, Mode::Val);
        cx.log.info(self.line.eval_epoch(&tags, cx.progress, Mode::Val));
        let step = self.eval_step(cx.progress);
        Self::add_tables(cx, metrics, Mode::Val, step);
        self.add_scalars(cx, tags, Mode::Val, step);
        Ok(())
    }

    fn after_test_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        let tags = self.line.tags(cx.message_hub, cx.progress, Mode::Test);
        cx.log.info(self.line.eval_epoch(&tags, cx.progress, Mode::Test));
        let step = self.eval_step(cx.progress);
        Self::add_tables(cx, metrics, Mode::Test, step);
        self.add_scalars(cx, tags, Mode::Test, step);
        if !cx.is_main() {
            return Ok(());
        }
        let result: serde_json::Map<_, _> = metrics.0.iter().map(|(n, v)| (n.clone(), to_json(*v))).collect();
        let path = cx.dirs.log.join(format!("{}.json", cx.info.timestamp));
        Ok(durable::replace(cx.fs, &path, serde_json::to_string_pretty(&result)?.as_bytes())?)
    }
}

register! {
    /// Logs smoothed losses, times and learning rates at intervals, and metrics after each validation.
    dyn Hook, "LoggerHook" => fn LoggerHook::from_config
}

impl LoggerHook {
    fn from_config(config: LoggerConfig, cx: &mut BuildCx) -> Result<Self> {
        let line = LogLine::new(cx.get::<LogProcessor>().cloned().unwrap_or_default())?;
        Ok(Self { config, line, memory: None })
    }
}
