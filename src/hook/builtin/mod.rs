//! Level 6: the built-in hooks, one a file. They use nothing that a plugin could not.

mod check_invalid_loss;
mod checkpoint;
mod digest;
mod finite;
mod indicator;
mod iter_timer;
mod log_line;
mod logger;
mod param_scheduler;
mod replay;
mod runtime_info;
mod sampler_seed;

pub use check_invalid_loss::CheckInvalidLossHook;
pub use checkpoint::CheckpointHook;
pub use digest::DigestHook;
pub use indicator::Rule;
pub use iter_timer::IterTimerHook;
pub use log_line::LogProcessor;
pub use logger::LoggerHook;
pub use param_scheduler::ParamSchedulerHook;
pub use replay::Replay;
pub use runtime_info::RuntimeInfoHook;
pub use sampler_seed::DistSamplerSeedHook;
