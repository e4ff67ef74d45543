//! What a crate with parts of its own needs: `use shanty::plugin::prelude::*;`. Programs take [`shanty::prelude`].

pub use crate::base::{BoxError, Elem, Error, Record, Result, Rng};
pub use crate::checkpoint::Checkpoint;
pub use crate::comm::{Comm, Place};
pub use crate::config::check_ranges;
pub use crate::data::Batch;
pub use crate::hook::{
    CheckpointSaved, Ctx, Event, Hook, HookOrder, HookResult, HookState, MessageHub, Metrics, Mode, OnError,
    Phase, Point, Priority, Progress, Ranks, SaveRequest, Step,
};
pub use crate::model::{Model, Outputs, StepCx};
pub use crate::params::{HostParams, Info, ParamMut, ParamRef, Params, Role, Set};
pub use crate::register;
pub use crate::registry::BuildCx;
pub use crate::vis::{VisBackend, VisCx, VisEvent};
pub use schemars::JsonSchema;
pub use serde::{Deserialize, Serialize};
