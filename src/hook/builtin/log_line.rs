//! The log lines of MMEngine's LogProcessor: which scalars, smoothed how, laid out how.

use regex_lite::Regex;

use crate::base::number::{duration, fixed, scientific};
use crate::config::null_is_default;
use crate::hook::{History, MessageHub, Mode, Progress};
use crate::plugin::prelude::*;

/// `log_processor:` of a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogProcessor {
    /// `LogProcessor`.
    pub r#type: Option<LogProcessorType>,
    /// Values in a smoothed mean.
    #[schemars(range(min = 1))]
    pub window_size: usize,
    /// Count epochs or iterations in the lines; as the training loop counts if absent.
    pub by_epoch: Option<bool>,
    /// Statistics beside the usual ones.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(with = "Option<Vec<CustomStatistic>>")]
    pub custom_cfg: Vec<CustomStatistic>,
    /// Decimals of numbers; those of which they would show less than two digits have an exponent.
    #[schemars(range(min = 0, max = 17))]
    pub num_digits: usize,
    /// Scalars whose name matches are smoothed; others are shown as they are.
    pub mean_pattern: String,
    /// Write `train/loss` instead of `loss` to the scalar file.
    pub log_with_hierarchy: bool,
}

/// The one there is.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum LogProcessorType {
    LogProcessor,
}

/// An entry of `custom_cfg`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CustomStatistic {
    /// The scalar, without its mode.
    pub data_src: String,
    /// What is computed of its values.
    pub method_name: Statistic,
    /// The name in the line; replaces `data_src` if absent.
    #[serde(default)]
    pub log_name: Option<String>,
    /// How many values: a number, `epoch` or `global`.
    #[serde(default)]
    pub window_size: Window,
}

/// What `custom_cfg` can compute.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Statistic {
    Mean,
    Max,
    Min,
    Current,
}

/// How many values a statistic looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last so many.
    Last(usize),
    /// Those of the current epoch.
    Epoch,
    /// All of the run (of those that are kept).
    Global,
}

impl Default for Window {
    fn default() -> Self {
        Self::Last(10)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Window;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of values, `epoch` or `global`")
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Window, E> {
                if n == 0 {
                    Err(E::custom("a window needs at least 1 value"))
                } else {
                    Ok(Window::Last(n as usize))
                }
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Window, E> {
                self.visit_u64(u64::try_from(n).unwrap_or(0))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Window, E> {
                match text {
                    "epoch" => Ok(Window::Epoch),
                    "global" => Ok(Window::Global),
                    other => Err(E::unknown_variant(other, &["epoch", "global"])),
                }
            }
        }
        de.deserialize_any(Visitor)
    }
}

impl JsonSchema for Window {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "enum": ["epoch", "global"] }]
        })
    }
}

impl Default for LogProcessor {
    fn default() -> Self {
        Self {
            r#type: None,
            window_size: 10,
            by_epoch: None,
            custom_cfg: Vec::new(),
            num_digits: 4,
            mean_pattern: ".*(loss|time|data_time|grad_norm).*".into(),
            log_with_hierarchy: false,
        }
    }
}

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
