//! The runner. The training loops are in [`train_loop`], what an iteration does is in [`session`].

mod apart;
mod assemble;
mod browse;
mod build;
mod builder;
pub mod check;
mod checks;
mod class_names;
mod config;
mod data_checks;
mod data_drift;
mod described;
mod differences;
mod dry_model;
mod environment;
mod eval;
mod extent;
mod folders;
mod fused;
mod given;
mod interrupt;
mod leaving;
mod leftover;
mod loop_config;
mod lr_find;
mod made;
mod meet;
mod names;
mod never;
mod notes;
mod numbers;
mod one_iteration;
mod places;
mod plan;
mod pool;
mod position;
mod precision;
mod predict;
mod ranks;
mod rehearsal;
mod resume;
mod rollback;
mod runner;
#[cfg(feature = "cli")]
mod samples;
mod saver;
mod saving;
mod scale;
pub mod session;
mod slots;
mod spelt_out;
mod stand_in;
mod summary;
pub mod train_loop;
mod unreadable;
pub mod verify;
mod written;

#[cfg(feature = "cli")]
pub(crate) use assemble::default_work_dir;
pub use browse::{Browsed, BrowsedSample, browse};
pub use builder::RunnerBuilder;
pub use check::check;
#[cfg(feature = "cli")]
pub(crate) use check::check_as;
pub use config::{HookSlots, LoadConfig, RunConfig};
pub use eval::Evaluation;
pub use fused::fused_weights;
pub use interrupt::{ExitReason, Interrupt, Limits};
pub use loop_config::{LoopConfig, LoopType, TrainLoopConfig};
pub use lr_find::{LrCurve, Sweep, lr_find};
pub use plan::{HookCalls, PlannedCheckpoint, RunPlan, plan};
#[cfg(feature = "cli")]
pub(crate) use predict::quoted;
pub use predict::{Names, Predictor};
pub use runner::{Outcome, Runner};
#[cfg(feature = "cli")]
pub(crate) use samples::try_samples;
pub use saver::{Background, Task};
pub use scale::{Scale, scale};
pub use session::{Session, State};
pub use summary::{StepMemory, Summary, summary};
pub use train_loop::{EpochBasedTrainLoop, Intervals, IterBasedTrainLoop, LoopTotals, TrainLoop};
