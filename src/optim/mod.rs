//! Optimizers, their schedules, and the wrapper that groups, accumulates, clips and steps.

mod adam;
mod clip;
mod config;
mod groups;
mod paramwise;
pub mod schedule;
mod sgd;
mod state;
mod wrapper;

pub use adam::{Adam, AdamConfig};
pub use clip::{ClipGrad, ClipKind, Clipped};
pub use config::{Constructor, OptimWrapperConfig};
pub use groups::Group;
pub use paramwise::ParamwiseConfig;
pub use schedule::{Schedule, ScheduleConfig, ScheduledParam, Totals};
pub use sgd::Sgd;
pub use wrapper::{OptimWrapper, Update};

pub use crate::params::{Optimizer, ParamStep};
use crate::registry::BuildCx;

crate::registry!(dyn Optimizer, "optimizer", crate::registry::NoExtra, {
    fn finish(made: Box<Self>, _: &Self::Extra, _: &mut BuildCx) -> crate::base::Result<Box<Self>> {
        made.check().map(|()| made)
    }
});
