//! Keys that every metric of a config may carry.

use schemars::JsonSchema;
use serde::Deserialize;

/// The keys of any metric: MMEngine's, and what is compared with what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetricConfig {
    /// What stands before the names of the values, instead of the metric's own prefix.
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
