//! Keys that every metric of a config may carry.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::base::escape::is_unseen;

/// The keys of any metric: MMEngine's, and what is compared with what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetricConfig {
    /// What stands before the names of the values, instead of the metric's own prefix. A line of a log holds it.
    #[serde(deserialize_with = "of_one_line")]
    pub prefix: Option<String>,
    /// Which of the model's predictions is counted: the name of a head. Needed where there are several.
    pub output: Option<String>,
    /// The field of the data that it is compared with; `target` if not given.
    pub target: Option<String>,
    /// Accepted for MMEngine's configs; means nothing here.
    pub collect_device: Option<String>,
    /// Accepted for MMEngine's configs; means nothing here.
    pub collect_dir: Option<String>,
}

impl MetricConfig {
    /// The keys that were given and mean nothing here, each with the reason: to be noted once.
    pub fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        let why = "metrics keep counts, which need no place to be collected in";
        let keys = [("collect_device", &self.collect_device), ("collect_dir", &self.collect_dir)];
        keys.into_iter().filter(|(_, given)| given.is_some()).map(|(key, _)| (key, why)).collect()
    }
}

fn of_one_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let prefix = Option::<String>::deserialize(deserializer)?;
    match &prefix {
        Some(text) if text.is_empty() => {
            Err(D::Error::custom("an empty prefix: leave the key out for the metric's own"))
        }
        Some(text) if text.contains(is_unseen) => Err(D::Error::custom(
            "a prefix is a part of a name in one line: it has no line ends, no control characters and none that are not seen",
        )),
        _ => Ok(prefix),
    }
}
