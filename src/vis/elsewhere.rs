//! Backends of MMEngine whose servers shanty does not talk to: accepted for its configs, with a warning.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{VisBackend, VisCx, VisEvent};
use crate::base::Result;
use crate::config::Node;
use crate::register;

/// Their names.
pub(crate) const ELSEWHERE: [&str; 5] =
    ["WandbVisBackend", "ClearMLVisBackend", "NeptuneVisBackend", "DVCLiveVisBackend", "AimVisBackend"];

/// Takes events and shows none.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Elsewhere {
    /// Accepted without effect.
    #[serde(rename = "save_dir")]
    _save_dir: Option<String>,
    /// Accepted without effect: what the backend hands to its own library.
    #[serde(rename = "init_kwargs")]
    _init_kwargs: Option<Node>,
}

impl VisBackend for Elsewhere {
    fn add(&mut self, _: &VisEvent, _: &VisCx<'_>) -> Result<()> {
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A backend that this build leaves out.
#[cfg(not(feature = "tensorboard"))]
fn left_out(_: super::VisConfig, _: &mut crate::registry::BuildCx) -> Result<Elsewhere> {
    let why = "this build has no TensorBoard: build it with the feature `tensorboard`";
    Err(crate::base::Error::config(why))
}

#[cfg(not(feature = "tensorboard"))]
register! {
    /// Files of TensorBoard: not in this build, which lacks the feature `tensorboard`.
    dyn VisBackend, "TensorboardVisBackend" => fn left_out
}

register! {
    /// Accepted for MMEngine's configs: writes nothing.
    dyn VisBackend, "WandbVisBackend" => Elsewhere
}
register! {
    /// Accepted for MMEngine's configs: writes nothing.
    dyn VisBackend, "ClearMLVisBackend" => Elsewhere
}
register! {
    /// Accepted for MMEngine's configs: writes nothing.
    dyn VisBackend, "NeptuneVisBackend" => Elsewhere
}
register! {
    /// Accepted for MMEngine's configs: writes nothing.
    dyn VisBackend, "DVCLiveVisBackend" => Elsewhere
}
register! {
    /// Accepted for MMEngine's configs: writes nothing.
    dyn VisBackend, "AimVisBackend" => Elsewhere
}
