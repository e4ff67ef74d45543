//! Level 6: the runner. The training loops are in [`train_loop`], what an iteration does is in [`session`].

mod assemble;
mod build;
mod builder;
pub mod check;
mod checks;
mod class_names;
mod config;
mod data_drift;
mod differences;
mod eval;
mod leave;
mod leftover;
mod loop_cfg;
mod memory;
mod notes;
mod places;
mod plan;
mod resume;
mod runner;
mod saver;
mod saving;
pub mod session;
pub mod train_loop;
mod unreadable;
pub mod verify;

pub use builder::RunnerBuilder;
pub use check::check;
pub use config::{HookSlots, LoadOptions, RunConfig};
pub use eval::Evaluation;
pub use leave::{Interrupt, Leave, Limits};
pub use loop_cfg::{LoopCfg, LoopType, TrainCfg};
pub use plan::{HookCalls, PlannedCheckpoint, RunPlan, plan};
pub use runner::{Outcome, Runner};
pub use saver::{Background, Task};
pub use session::{Session, State};
pub use train_loop::{EpochBasedTrainLoop, Intervals, IterBasedTrainLoop, TrainLoop};
