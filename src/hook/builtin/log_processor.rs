//! What a config says of log lines: MMEngine's `log_processor`.

use crate::config::null_is_default;
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
