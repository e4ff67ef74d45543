//! Level 6: the runner. The training loops are in [`train_loop`], what an iteration does is in [`session`].

mod assemble;
mod builder;
mod config;
mod eval;
mod loop_cfg;
mod notes;
mod plan;
mod resume;
mod runner;
pub mod session;
pub mod train_loop;

pub use builder::RunnerBuilder;
pub use config::{HookSlots, RunConfig};
pub use eval::Evaluation;
pub use loop_cfg::{LoopCfg, LoopType, TrainCfg};
pub use plan::{HookCalls, PlannedCheckpoint, RunPlan, plan};
pub use runner::{Outcome, Runner};
pub use session::{Session, State};
pub use train_loop::{EpochBasedTrainLoop, Intervals, IterBasedTrainLoop, TrainLoop};
