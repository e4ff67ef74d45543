//! The keys that every hook of a config may carry beside its own.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Priority;

/// Reserved keys of a hook in YAML.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HookOptions {
    /// The place in line, 0..=100 or a name; the hook's own if absent.
    pub priority: Option<Priority>,
    /// The name under which checkpoints keep the hook's state; its type name if absent.
    pub key: Option<String>,
}
