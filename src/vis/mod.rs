//! Where a run goes to be looked at: the event log, and the backends that show it in other forms.
//!
//! `vis_data/events.jsonl` is what happened, one line an event. All other files are views of it: a backend is told every
//! event in its order, and what it has written can be made again of the log at any time. So a resumed run, whose log
//! begins with the lines that its checkpoint counts, has no step twice in any of them.

mod backend;
mod csv;
mod drawing;
mod elsewhere;
mod event;
mod file;
mod local;
mod mlflow;
mod png;
mod prometheus;
#[cfg(feature = "tensorboard")]
mod tensorboard;
mod visualizer;

pub use backend::{OnVisError, VisBackend, VisConfig, VisCx};
pub use csv::CsvVisBackend;
pub use drawing::{Drawing, Rgb};
pub(crate) use elsewhere::ELSEWHERE;
#[cfg(feature = "cli")]
pub(crate) use event::read_whole;
pub use event::{TableLine, VisEvent, read_events, to_json};
pub use file::GrowingFile;
pub use local::{LocalVisBackend, LocalVisConfig, SCALARS, TABLES, read_scalars};
pub use mlflow::{MLflowVisBackend, MLflowVisConfig};
pub use prometheus::{METRICS_ADDR, PrometheusVisBackend, PrometheusVisConfig};
#[cfg(feature = "tensorboard")]
pub use tensorboard::{TensorboardVisBackend, TensorboardVisConfig};
pub(crate) use visualizer::check_apart;
pub use visualizer::{EVENTS, Given, Scalars, Visualizer, WORST_SAMPLES};
