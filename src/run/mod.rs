//! Level 6: the runner. The training loops are in [`train_loop`], what an iteration does is in [`session`].

mod assemble;
mod builder;
mod checks;
mod config;
mod eval;
mod notes;
mod resume;
mod runner;
pub mod session;
pub mod train_loop;

pub use builder::RunnerBuilder;
pub use config::{HookSlots, RunConfig, TrainCfg};
pub use eval::Evaluation;
pub use runner::{Outcome, Runner};
pub use session::{Session, State};
pub use train_loop::{EpochBasedTrainLoop, Intervals, IterBasedTrainLoop, TrainLoop};
