//! The log lines of MMEngine's LogProcessor: which scalars, smoothed how, laid out how.

use std::collections::BTreeSet;

use regex_lite::Regex;

use super::log_processor::{CustomStatistic, LogProcessor, Statistic, Window};
use crate::base::number::{duration, fixed, scientific};
use crate::base::suggest::nearest;
use crate::hook::{History, MessageHub, Mode, Progress};
use crate::plugin::prelude::*;

/// The processor with its pattern compiled.
#[derive(Debug, Clone)]
pub(super) struct LogLine {
    config: LogProcessor,
    mean: Option<Regex>,
}

/// Names and values of a line, in order.
pub(super) type Tags = Vec<(String, f64)>;

impl Default for LogLine {
    /// That of the usual keys, whose pattern is one.
    fn default() -> Self {
        let config = LogProcessor::default();
        Self { mean: Regex::new(&config.mean_pattern).ok(), config }
    }
}

impl LogLine {
    pub fn new(config: LogProcessor) -> Result<Self> {
        let mean = Regex::new(&config.mean_pattern).map_err(|e| {
            Error::config(format!("log_processor: `mean_pattern` is no regular expression: {e}"))
        })?;
        let name = |c: &CustomStatistic| c.log_name.clone().unwrap_or_else(|| c.data_src.clone());
        let names: Vec<_> = config.custom_cfg.iter().map(name).collect();
        if let Some(twice) = (1..names.len()).find(|i| names[..*i].contains(&names[*i])) {
            return Err(Error::config(format!(
                "log_processor: two entries write `{}`: give a log_name",
                names[twice]
            )));
        }
        Ok(Self { config, mean: Some(mean) })
    }

    /// `window_size: epoch` needs epochs.
    ///
    /// # Errors
    /// Which entry has it in lines that count iterations.
    pub fn check(&self, progress: &Progress) -> Result<()> {
        let of_epoch = |custom: &&CustomStatistic| custom.window_size == Window::Epoch;
        match self.config.custom_cfg.iter().find(of_epoch) {
            Some(custom) if !self.by_epoch(progress) => Err(Error::config(format!(
                "log_processor: `window_size: epoch` of `{}` in lines that count iterations, which have no epochs: write \
                 a number, or `global`",
                custom.data_src
            ))),
            _ => Ok(()),
        }
    }

    /// What `custom_cfg` names and nobody has told.
    pub fn missing(&self, message_hub: &MessageHub) -> Option<String> {
        let modes = [Mode::Train, Mode::Val, Mode::Test];
        let is_there = |name: &str| modes.into_iter().any(|mode| message_hub.scalar(mode, name).is_some());
        let custom = self.config.custom_cfg.iter().find(|custom| !is_there(&custom.data_src))?;
        let told: BTreeSet<&str> =
            modes.into_iter().flat_map(|mode| message_hub.scalars(mode)).map(|(name, _)| name).collect();
        let near = nearest(&custom.data_src, told.iter().copied());
        let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
        let told = told.into_iter().collect::<Vec<_>>().join(", ");
        let source = &custom.data_src;
        Some(format!(
            "log_processor: `custom_cfg` names `{source}`, which no scalar is called{near}: there are {told}"
        ))
    }

    pub fn by_epoch(&self, progress: &Progress) -> bool {
        self.config.by_epoch.unwrap_or(progress.by_epoch)
    }

    /// The scalars of a mode as the line shows them.
    pub fn tags(&self, message_hub: &MessageHub, progress: &Progress, mode: Mode) -> Tags {
        let shown = |(name, history): (&str, &History)| {
            // A metric is what it is; only what a loop measures many times over is smoothed.
            let smooth = self.mean.as_ref().is_some_and(|mean| mean.is_match(name))
                && (mode == Mode::Train || is_time(name));
            let window = if mode == Mode::Train {
                self.config.window_size.min(progress.batch.max(1) as usize)
            } else {
                progress.eval_batch.max(1) as usize
            };
            let value = if smooth { history.mean(window) } else { history.current() };
            value.map(|v| (name.to_owned(), v))
        };
        let mut tags: Tags = message_hub.scalars(mode).filter_map(shown).collect();
        for custom in &self.config.custom_cfg {
            let Some(history) = message_hub.scalar(mode, &custom.data_src) else { continue };
            let window = match custom.window_size {
                Window::Last(n) => n,
                Window::Epoch => progress.batch as usize,
                Window::Global => usize::MAX,
            };
            let value = match (custom.method_name, custom.window_size) {
                (Statistic::Mean, Window::Global) => history.global_mean(),
                (Statistic::Mean, _) => history.mean(window),
                (Statistic::Max, _) => history.max(window),
                (Statistic::Min, _) => history.min(window),
                (Statistic::Current, _) => history.current(),
            };
            let name = custom.log_name.as_ref().unwrap_or(&custom.data_src);
            let Some(value) = value else { continue };
            match tags.iter_mut().find(|(n, _)| n == name) {
                Some(tag) => tag.1 = value,
                None => tags.push((name.clone(), value)),
            }
        }
        tags
    }

    /// Names as the scalar file has them. One tag has one unit: what training measures by iterations, or may measure,
    /// has the mode before its name where a validation measures it.
    pub fn named(&self, tags: Tags, message_hub: &MessageHub, mode: Mode) -> Tags {
        let shared = |name: &str| is_time(name) || message_hub.scalar(Mode::Train, name).is_some();
        let named = |(name, value): (String, f64)| {
            let prefixed = self.config.log_with_hierarchy || (mode != Mode::Train && shared(&name));
            (if prefixed { format!("{}/{name}", mode.name()) } else { name }, value)
        };
        tags.into_iter().map(named).collect()
    }

    /// `Epoch(train) [1][ 10/938]  lr: 1.0000e-02  eta: 0:10:00  time: 0.0123  data_time: 0.0011  loss: 2.3026`
    pub fn train(&self, tags: &Tags, message_hub: &MessageHub, progress: &Progress) -> String {
        let mut line = if self.by_epoch(progress) {
            let width = progress.epoch_len.to_string().len();
            let epoch = self.epoch(progress, progress.current_epoch());
            format!("Epoch(train){epoch}[{:>width$}/{}]  ", progress.batch, progress.epoch_len)
        } else {
            let width = progress.max_iters.to_string().len();
            format!("Iter(train) [{:>width$}/{}]  ", progress.iter, progress.max_iters)
        };
        let rates: Vec<_> = tags
            .iter()
            .filter(|(n, _)| n.ends_with("lr"))
            .map(|(n, v)| format!("{n}: {}", scientific(*v, self.config.num_digits)))
            .collect();
        line += &format!("{}  ", rates.join(" "));
        let rest: Vec<_> = tags.iter().filter(|(n, _)| !n.ends_with("lr")).cloned().collect();
        line + &self.times_and_rest(&rest, message_hub, true)
    }

    /// `Epoch(val) [1][ 10/157]    eta: 0:00:01  time: 0.0123  data_time: 0.0012`
    pub fn eval_iter(
        &self,
        tags: &Tags,
        message_hub: &MessageHub,
        progress: &Progress,
        mode: Mode,
    ) -> String {
        let times: Tags = tags.iter().filter(|(n, _)| is_time(n)).cloned().collect();
        let epoch = match progress.max_epochs {
            0 => format!("[{}]", progress.epoch),
            _ => self.epoch(progress, progress.epoch),
        };
        let head = self.eval_head(progress, mode, &epoch);
        format!("{head}    {}", self.times_and_rest(&times, message_hub, true))
    }

    /// `Epoch(val) [1][157/157]    accuracy/top1: 97.1000  data_time: 0.0012  time: 0.0123`
    pub fn eval_epoch(&self, tags: &Tags, progress: &Progress, mode: Mode) -> String {
        let metrics = tags.iter().filter(|(n, _)| !is_time(n));
        let times = ["data_time", "time"].iter().filter_map(|t| tags.iter().find(|(n, _)| n == t));
        let shown: Vec<_> = metrics.chain(times).map(|(n, v)| self.field(n, *v)).collect();
        // MMEngine lines up the epochs of iterations alone.
        let head = self.eval_head(progress, mode, &format!(" [{}]", progress.epoch));
        format!("{head}    {}", shown.join("  "))
    }

    fn eval_head(&self, progress: &Progress, mode: Mode, epoch: &str) -> String {
        let width = progress.eval_len.to_string().len();
        let at = format!("[{:>width$}/{}]", progress.eval_batch, progress.eval_len);
        let name = mode.name();
        if !self.by_epoch(progress) {
            format!("Iter({name}) {at}")
        } else if mode == Mode::Test {
            format!("Epoch({name}) {at}")
        } else {
            format!("Epoch({name}){epoch}{at}")
        }
    }

    /// `[3]`, right-justified so that lines of all epochs stand below each other.
    fn epoch(&self, progress: &Progress, epoch: u64) -> String {
        let width = progress.max_epochs.to_string().len() + 3;
        format!("{:>width$}", format!("[{epoch}]"))
    }

    fn times_and_rest(&self, tags: &Tags, message_hub: &MessageHub, with_eta: bool) -> String {
        let find = |wanted: &str| tags.iter().find(|(n, _)| n == wanted).map(|(_, v)| *v);
        let mut fields = Vec::new();
        if let (Some(time), Some(data_time)) = (find("time"), find("data_time")) {
            if let Some(eta) = message_hub.get_info("eta").filter(|_| with_eta) {
                fields.push(format!("eta: {}", duration(eta)));
            }
            fields.extend([self.field("time", time), self.field("data_time", data_time)]);
        }
        fields.extend(find("memory").map(|peak| format!("memory: {peak}")));
        let rest = tags.iter().filter(|(n, _)| !is_time(n) && n != "memory");
        fields.extend(rest.map(|(n, v)| self.field(n, *v)));
        fields.join("  ")
    }

    /// `loss: 2.3026`, `time: 0.0000234`: of seconds too there are two digits to be seen, and three of short ones.
    fn field(&self, name: &str, value: f64) -> String {
        let digits = self.config.num_digits;
        let short = value > 0.0 && value < 10f64.powi(1 - digits.min(17) as i32);
        if is_time(name) && (short || value < 1.0) {
            let digits = if short { (2.0 - value.max(1e-9).log10().floor()) as usize } else { digits };
            format!("{name}: {value:.digits$}")
        } else {
            format!("{name}: {}", fixed(value, digits))
        }
    }
}

fn is_time(name: &str) -> bool {
    matches!(name, "time" | "data_time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> LogLine {
        LogLine::new(LogProcessor::default()).unwrap()
    }

    fn message_hub() -> MessageHub {
        let mut message_hub = MessageHub::default();
        for (name, value) in [("lr", 0.01), ("data_time", 0.0011), ("loss", 2.3101), ("time", 0.0123)] {
            message_hub.update_scalar(Mode::Train, name, value);
        }
        message_hub.update_info("eta", 600.4);
        message_hub
    }

    fn with_custom(custom_cfg: Vec<CustomStatistic>, by_epoch: Option<bool>) -> LogLine {
        LogLine::new(LogProcessor { custom_cfg, by_epoch, ..LogProcessor::default() }).unwrap()
    }

    fn custom(data_src: &str, window_size: Window) -> CustomStatistic {
        CustomStatistic {
            data_src: data_src.into(),
            method_name: Statistic::Max,
            log_name: None,
            window_size,
        }
    }

    /// MMEngine: "window_size cannot be epoch if LoggerHook.by_epoch is False".
    #[test]
    fn a_window_of_an_epoch_needs_epochs() {
        let of = |window, by_epoch| with_custom(vec![custom("loss", window)], by_epoch);
        let (epochs, iters) = (Progress { by_epoch: true, ..Progress::default() }, Progress::default());
        assert!(of(Window::Epoch, None).check(&epochs).is_ok());
        assert!(of(Window::Global, None).check(&iters).is_ok());
        for (line, progress) in [(of(Window::Epoch, None), &iters), (of(Window::Epoch, Some(false)), &epochs)]
        {
            let why = line.check(progress).unwrap_err().to_string();
            assert!(why.contains("`window_size: epoch` of `loss`"), "{why}");
        }
    }

    #[test]
    fn a_scalar_that_never_comes_is_named() {
        let line = with_custom(vec![custom("loss", Window::Global), custom("los", Window::Global)], None);
        let why = line.missing(&message_hub()).unwrap();
        assert!(
            why.contains("`los`")
                && why.contains("did you mean `loss`?")
                && why.contains("data_time, loss, lr"),
            "{why}"
        );
        assert_eq!(with_custom(vec![custom("lr", Window::Epoch)], None).missing(&message_hub()), None);
    }

    /// A state of a run, and the line that MMEngine makes of it (`tests/fixtures/gen_log_lines.py`).
    #[derive(Deserialize)]
    struct Case {
        by_epoch: bool,
        mode: String,
        epoch: u64,
        max_epochs: u64,
        done: u64,
        length: u64,
        max_iters: u64,
        scalars: Vec<(String, Vec<f64>)>,
        eta: Option<f64>,
        whole: bool,
        line: String,
    }

    impl Case {
        fn ours(&self) -> String {
            let mode =
                [Mode::Train, Mode::Val, Mode::Test].into_iter().find(|m| m.name() == self.mode).unwrap();
            let mut hub = MessageHub::default();
            for (name, values) in &self.scalars {
                values.iter().for_each(|value| hub.update_scalar(mode, name, *value));
            }
            self.eta.into_iter().for_each(|eta| hub.update_info("eta", eta));
            let (trains, done, length) = (mode == Mode::Train, self.done, self.length);
            let progress = Progress {
                epoch: self.epoch,
                iter: done,
                max_epochs: self.max_epochs,
                max_iters: self.max_iters,
                by_epoch: self.by_epoch,
                batch: if trains { done } else { 0 },
                epoch_len: if trains { length } else { 0 },
                eval_batch: if trains { 0 } else { done },
                eval_len: if trains { 0 } else { length },
                ..Progress::default()
            };
            let tags = line().tags(&hub, &progress, mode);
            match mode {
                Mode::Train => line().train(&tags, &hub, &progress),
                _ if self.whole => line().eval_epoch(&tags, &progress, mode),
                _ => line().eval_iter(&tags, &hub, &progress, mode),
            }
        }
    }

    #[test]
    fn lines_are_those_of_mmengine_letter_by_letter() {
        let text = include_str!("../../../tests/fixtures/log_lines.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert_eq!(cases.len(), 21);
        for case in cases {
            assert_eq!(case.ours(), case.line);
        }
    }

    #[test]
    fn the_peak_of_memory_stands_behind_the_times() {
        let progress =
            Progress { batch: 10, epoch_len: 938, max_epochs: 5, by_epoch: true, ..Progress::default() };
        let mut tags = line().tags(&message_hub(), &progress, Mode::Train);
        tags.push(("memory".to_owned(), 95.0));
        let text = line().train(&tags, &message_hub(), &progress);
        assert!(text.ends_with("data_time: 0.0011  memory: 95  loss: 2.3101"), "{text}");
    }

    #[test]
    fn a_metric_called_loss_is_not_smoothed() {
        let mut message_hub = MessageHub::default();
        message_hub.update_scalar(Mode::Val, "loss", 4.0);
        message_hub.update_scalar(Mode::Val, "loss", 2.0);
        let tags = line().tags(&message_hub, &Progress::default(), Mode::Val);
        assert_eq!(tags, [("loss".to_owned(), 2.0)]);
    }

    /// Ten thousand iterations a second were shown as `time: 0.0000`.
    #[test]
    fn quick_iterations_have_a_time() {
        let seconds = [12.5, 0.25, 0.0123, 0.0011, 0.000999, 0.00002346, 1.2e-7, 0.0, 3e-12];
        let shown = seconds.map(|seconds| line().field("time", seconds));
        let expected = [
            "12.5000",
            "0.2500",
            "0.0123",
            "0.0011",
            "0.000999",
            "0.0000235",
            "0.000000120",
            "0.0000",
            "0.00000000000",
        ];
        assert_eq!(shown, expected.map(|text| format!("time: {text}")));
    }
}
