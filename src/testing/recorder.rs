//! Writes down every point of a run.

use std::sync::{Arc, Mutex};

use crate::hook::{Ctx, Event, Hook, HookResult, Priority};

/// The lines that a [`Recorder`] wrote; clones see the same lines.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    /// Adds a line.
    pub fn push(&self, line: impl Into<String>) {
        if let Ok(mut lines) = self.0.lock() {
            lines.push(line.into());
        }
    }
}

/// A hook that notes each point with the counters it sees there.
pub struct Recorder {
    trace: Trace,
    priority: Priority,
}

impl Recorder {
    /// A recorder that runs last, and its trace.
    pub fn new() -> (Self, Trace) {
        Self::at(Priority::LOWEST)
    }

    /// A recorder of this priority, and its trace.
    pub fn at(priority: Priority) -> (Self, Trace) {
        let trace = Trace::default();
        (Self { trace: trace.clone(), priority }, trace)
    }
}

impl Hook for Recorder {
    fn priority(&self) -> Priority {
        self.priority
    }

    fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
        let (epoch, iter) = (cx.progress.epoch, cx.progress.iter);
        let mut line = format!("{:<24}epoch {epoch}  iter {iter}", cx.point.name());
        match event {
            Event::AfterSaveCheckpoint(saved) => {
                line += &format!("  {}", saved.path.file_name().unwrap_or_default().to_string_lossy());
            }
            Event::BeforeValIter(_) | Event::BeforeTestIter(_) => {
                line += &format!("  eval {}", cx.progress.eval_batch)
            }
            Event::OnCustom(name, _) => line += &format!("  {name}"),
            _ => {}
        }
        self.trace.push(line);
        Ok(())
    }
}
