//! Optimizers, their schedules, and the wrapper that groups, accumulates, clips and steps.

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod amp;
mod clip;
mod config;
mod groups;
mod lamb;
mod lars;
mod lion;
mod muon;
mod nadam;
mod nonfinite;
mod paramwise;
mod part;
mod radam;
mod ranks;
mod rmsprop;
mod sam;
pub mod schedule;
mod sgd;
mod state;
mod window;
mod wrapper;

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::{Adam, AdamConfig};
pub use adamax::Adamax;
pub use amp::{Amp, AmpDtype, DynamicScale, LossScale};
pub use clip::{ClipGrad, ClipKind, Clipped};
pub use config::{Constructor, OptimWrapperConfig, PartConfig};
pub use groups::Group;
pub use lamb::Lamb;
pub use lars::Lars;
pub use lion::Lion;
pub use muon::{AdjustLr, Muon};
pub use nadam::NAdam;
pub use paramwise::{ParamwiseConfig, Setting};
pub use part::Share;
pub use radam::RAdam;
pub use rmsprop::RMSprop;
pub use sam::SamConfig;
pub use schedule::{Schedule, ScheduleConfig, ScheduledParam, Score, Totals};
pub use sgd::Sgd;
pub(crate) use state::other_ranks;
pub use wrapper::{OptimWrapper, Update};

pub use crate::params::{Optimizer, ParamStep};
use crate::registry::BuildCx;

crate::registry!(dyn Optimizer, "optimizer", crate::registry::NoExtra, {
    fn finish(made: Box<Self>, _: &Self::Extra, _: &mut BuildCx) -> crate::base::Result<Box<Self>> {
        made.check().map(|()| made)
    }
});
