//! Optimizers, their schedules, and the wrapper that accumulates, clips and steps.

mod adam;
mod clip;
mod config;
mod group;
mod optimizer;
pub mod schedule;
mod sgd;
mod wrapper;

pub use adam::{Adam, AdamConfig, AdamWConfig};
pub use clip::{ClipGrad, ClipKind, Clipped};
pub use config::OptimWrapperConfig;
pub use group::Group;
pub use optimizer::{Optimizer, Slots};
pub use schedule::{Curve, Schedule, ScheduleOptions};
pub use sgd::Sgd;
pub use wrapper::{OptimWrapper, Update};
