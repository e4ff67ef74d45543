//! A trace of where the time goes, for chrome://tracing and Perfetto.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::base::durable;
use crate::checkpoint;
use crate::hook::Profile;
use crate::plugin::prelude::*;

/// Measures every hook, step and save of the first `profile_times` epochs or iterations, then writes the trace as JSON
/// and the table of hooks into the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProfilerHook {
    /// Count epochs or iterations.
    by_epoch: bool,
    /// Epochs or iterations that are measured.
    #[schemars(range(min = 1))]
    profile_times: u64,
    /// Accepted for MMEngine's configs: this is what is measured.
    activity_with_cpu: bool,
    /// Must be false: there is no GPU.
    activity_with_cuda: bool,
    /// The trace file; `<log folder>/trace.json` if absent.
    json_trace_path: Option<PathBuf>,
    #[serde(skip)]
    until: u64,
}

impl Default for ProfilerHook {
    fn default() -> Self {
        Self {
            by_epoch: true,
            profile_times: 1,
            activity_with_cpu: true,
            activity_with_cuda: false,
            json_trace_path: None,
            until: 0,
        }
    }
}

impl ProfilerHook {
    /// Measures the whole run.
    pub fn whole_run() -> Self {
        Self { profile_times: u64::MAX, ..Self::default() }
    }

    fn close(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if !cx.profile.is_full() {
            return Ok(());
        }
        cx.profile.stop();
        cx.log.info(format_args!("time of hooks:\n{}", cx.profile.table(cx.keys())));
        if cx.info.dry_run {
            return Ok(());
        }
        // Something may have taken the name since the run began.
        self.json_trace_path.as_deref().map_or(Ok(()), writable)?;
        let path = self.json_trace_path.clone().unwrap_or_else(|| cx.dirs.log.join("trace.json"));
        if let Some(folder) = path.parent() {
            durable::make_dir(cx.fs, folder)?;
        }
        durable::replace(cx.fs, &path, serde_json::to_string(&chrome(cx.profile, cx.keys()))?.as_bytes())?;
        cx.log.info(format_args!("trace for chrome://tracing in {}", path.display()));
        Ok(())
    }
}

/// The trace event format: complete events ("X") in microseconds, one row for the run and one for each hook.
fn chrome(profile: &Profile, keys: &[std::sync::Arc<str>]) -> Value {
    let row = |tid: usize, name: &str| json!({"name": "thread_name", "ph": "M", "pid": 0, "tid": tid, "args": {"name": name}});
    let rows = std::iter::once(row(0, "run")).chain(keys.iter().enumerate().map(|(i, key)| row(i + 1, key)));
    let spans = profile.spans().iter().map(|span| {
        let tid = span.hook.map_or(0, |i| i + 1);
        json!({"name": span.what, "cat": if tid == 0 { "run" } else { "hook" }, "ph": "X", "pid": 0, "tid": tid,
               "ts": span.begin * 1e6, "dur": span.length * 1e6})
    });
    json!({"displayTimeUnit": "ms", "traceEvents": rows.chain(spans).collect::<Vec<_>>()})
}

/// What the traces that are written here begin with: nothing else is replaced by one.
const BEGIN: &[u8] = br#"{"displayTimeUnit":"ms","traceEvents":"#;

/// The file comes at the end of what is measured: that it cannot be written there is to be known before.
fn writable(path: &Path) -> Result<()> {
    match checkpoint::not_ours(path, BEGIN, "trace") {
        Some(why) => Err(Error::config(format!("`json_trace_path: {}` {why}", path.display()))),
        None => Ok(()),
    }
}

setters!(ProfilerHook {
    /// Whether to count epochs or iterations.
    by_epoch: = bool,
    /// Epochs or iterations that are measured.
    profile_times: = u64,
    /// The trace file; `<log folder>/trace.json` if not called.
    json_trace_path: some PathBuf,
});

impl Hook for ProfilerHook {
    fn check_options(&self, cx: &BuildCx) -> Result<()> {
        check_ranges(self)?;
        if self.activity_with_cuda {
            return Err(Error::config("there is no GPU to profile: set `activity_with_cuda: false`"));
        }
        self.json_trace_path.as_deref().map_or(Ok(()), writable)?;
        let Some(run) = cx.get::<Progress>().filter(|run| run.max_iters > 0) else { return Ok(()) };
        let (total, unit) =
            if self.by_epoch { (run.max_epochs, "epochs") } else { (run.max_iters, "iterations") };
        if self.profile_times > total && self.profile_times != u64::MAX {
            let times = self.profile_times;
            return Err(Error::config(format!("`profile_times: {times}`, but the run has {total} {unit}")));
        }
        Ok(())
    }

    fn out_file(&self) -> Option<&Path> {
        self.json_trace_path.as_deref()
    }

    fn priority(&self) -> Priority {
        Priority::VERY_LOW
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let done = if self.by_epoch { cx.progress.epoch } else { cx.progress.iter };
        self.until = done.saturating_add(self.profile_times);
        cx.profile.start();
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if !self.by_epoch && cx.progress.iter == self.until { self.close(cx) } else { cx.no_op() }
    }

    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if self.by_epoch && cx.progress.epoch >= self.until { self.close(cx) } else { cx.no_op() }
    }

    fn after_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.close(cx)
    }

    fn on_error(&mut self, cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        cx.profile.stop();
        Ok(())
    }
}

register! {
    /// Measures hooks, steps and saves, and writes a chrome trace and a table.
    dyn Hook, "ProfilerHook" => ProfilerHook
}
