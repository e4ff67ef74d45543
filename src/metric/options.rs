//! Keys that every metric of a config may carry.

use schemars::JsonSchema;
use serde::Deserialize;

/// The reference's keys of any metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetricOptions {
    /// What stands before the names of the values, instead of the metric's own prefix.
    pub prefix: Option<String>,
    /// Accepted for the reference's configs; means nothing here.
    pub collect_device: Option<String>,
    /// Accepted for the reference's configs; means nothing here.
    pub collect_dir: Option<String>,
}

impl MetricOptions {
    /// The keys that were given and mean nothing here, each with the reason: to be noted once.
    pub fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        let why = "metrics keep counts, which need no place to be collected in";
        let keys = [("collect_device", &self.collect_device), ("collect_dir", &self.collect_dir)];
        keys.into_iter().filter(|(_, given)| given.is_some()).map(|(key, _)| (key, why)).collect()
    }
}
