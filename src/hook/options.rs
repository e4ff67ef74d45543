//! The keys that every hook of a config may carry beside its own.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::Priority;
use crate::config::OneOrMany;

/// Reserved keys of a hook in YAML.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HookConfig {
    /// The place in the order, 0..=100 or a name; the hook's own if absent.
    pub priority: Option<Priority>,
    /// The name under which checkpoints keep the hook's state; its type name if absent.
    pub key: Option<String>,
    /// Hooks (keys or type names) that must come after this one.
    pub before: Option<OneOrMany<String>>,
    /// Hooks (keys or type names) that must come before this one.
    pub after: Option<OneOrMany<String>>,
    /// What a failure of this hook means for the run: `abort`, `warn` or `retry(n)`; the hook's own policy if absent.
    pub on_error: Option<OnError>,
}

/// On which of the processes that train together a hook is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ranks {
    /// On each.
    #[default]
    All,
    /// On the first, which writes the files of a run. There it must not call the others.
    Main,
}

/// What a failure of a hook means for the run.
///
/// ```
/// use shanty::hook::OnError;
/// assert_eq!("retry(2)".parse(), Ok(OnError::Retry(2)));
/// assert!("ignore".parse::<OnError>().is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// The run ends with the error.
    #[default]
    Abort,
    /// The log says so and the run goes on; after [`Self::WARNINGS`] failures in a row at one point the hook is
    /// disabled.
    Warn,
    /// The call is repeated up to so many times; then as [`Abort`](Self::Abort).
    Retry(u32),
}

impl OnError {
    /// Failures in a row, at one point, after which a hook under [`Warn`](Self::Warn) is called no more.
    pub const WARNINGS: u32 = 10;
}

impl FromStr for OnError {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let retries =
            || text.strip_prefix("retry(")?.strip_suffix(')')?.trim().parse().ok().filter(|n| *n > 0);
        match text {
            "abort" => Ok(Self::Abort),
            "warn" => Ok(Self::Warn),
            _ => retries().map(Self::Retry).ok_or_else(|| {
                format!(
                    "`{text}` is no failure policy: give `abort`, `warn` or `retry(n)` with n of at least 1"
                )
            }),
        }
    }
}

impl<'de> Deserialize<'de> for OnError {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = OnError;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`abort`, `warn` or `retry(n)`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OnError, E> {
                text.parse().map_err(E::custom)
            }
        }
        de.deserialize_str(Visitor)
    }
}

impl JsonSchema for OnError {
    fn schema_name() -> Cow<'static, str> {
        "OnError".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What a failure of the hook means for the run.",
            "type": "string",
            "pattern": r"^(abort|warn|retry\([1-9][0-9]*\))$"
        })
    }
}
