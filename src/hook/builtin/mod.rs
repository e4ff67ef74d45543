//! The built-in hooks, one a file. They use nothing that a plugin could not.

/// Chained setters of a hook's keys, for programs: `name: type` sets the key, `name: some type` a key that may be
/// absent.
macro_rules! setters {
    ($hook:ident { $($(#[$doc:meta])* $name:ident: $(some $optional:ty)? $(= $plain:ty)?,)+ }) => {
        impl $hook {$(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $($optional)? $($plain)?) -> Self {
                $(self.$name = Some::<$optional>($name);)?
                $(let $name: $plain = $name;
                self.$name = $name;)?
                self
            }
        )+}
    };
}

mod average;
mod check_invalid_loss;
mod checkpoint;
mod digest;
mod early_stopping;
mod ema;
mod finite;
mod freeze;
mod histogram;
mod iter_timer;
mod log_line;
mod log_processor;
mod logger;
mod lsuv;
mod mean_teacher;
mod num_class_check;
mod one_process;
mod param_scheduler;
mod precise_bn;
mod prepare_tta;
mod profiler;
mod replay;
mod runtime_info;
mod sampler_seed;
mod shown;
mod switch_recipe;
mod sync_buffers;
mod visualization;
mod warmup_param;
mod worst_samples;

pub use average::{AveragedModel, Averaging};
pub use check_invalid_loss::CheckInvalidLossHook;
pub use checkpoint::CheckpointHook;
pub use digest::DigestHook;
pub use early_stopping::EarlyStoppingHook;
pub use ema::EMAHook;
pub use freeze::FreezeHook;
pub use histogram::HistogramHook;
pub use iter_timer::IterTimerHook;
pub use log_processor::LogProcessor;
pub use logger::LoggerHook;
pub use lsuv::LSUVHook;
pub use mean_teacher::MeanTeacherHook;
pub use num_class_check::NumClassCheckHook;
pub use one_process::EmptyCacheHook;
pub use param_scheduler::ParamSchedulerHook;
pub use precise_bn::PreciseBNHook;
pub use prepare_tta::{PrepareTTAHook, TtaConfig, TtaType};
pub use profiler::ProfilerHook;
pub use replay::Replay;
pub use runtime_info::RuntimeInfoHook;
pub use sampler_seed::DistSamplerSeedHook;
pub use switch_recipe::SwitchRecipeHook;
pub use sync_buffers::SyncBuffersHook;
pub use visualization::VisualizationHook;
pub use warmup_param::WarmupParamHook;
pub use worst_samples::WorstSamplesHook;
