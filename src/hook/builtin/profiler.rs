//! A trace of where the time goes, for Perfetto and chrome://tracing.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::ser::SerializeSeq;

use crate::base::durable;
use crate::checkpoint;
use crate::hook::{Profile, Ranks, Span, Who};
use crate::plugin::prelude::*;

/// Measures the parts of each iteration, every layer, hook and save of the first `profile_times` epochs or iterations,
/// then writes the trace as JSON and the tables into the log. A trace has the first 100,000 calls, the tables all.
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
    /// The tables are in the log file alone.
    #[serde(skip)]
    quiet: bool,
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
            quiet: false,
        }
    }
}

impl ProfilerHook {
    /// Measures the whole run.
    pub fn whole_run() -> Self {
        Self { profile_times: u64::MAX, ..Self::default() }
    }

    /// The tables go to the log file alone, for a program that prints them itself.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    fn close(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if !cx.profile.is_full() {
            return Ok(());
        }
        cx.profile.stop();
        if cx.info.dry_run {
            return Ok(());
        }
        cx.profile.measure_peak();
        let text = format!("where the time went:\n{}", cx.profile.tables(cx.keys()));
        if self.quiet {
            cx.log.detail(text)
        } else {
            cx.log.info(text)
        }
        // Something may have taken the name since the run began.
        self.json_trace_path.as_deref().map_or(Ok(()), writable)?;
        let path = self.json_trace_path.clone().unwrap_or_else(|| cx.dirs.log.join("trace.json"));
        if let Some(folder) = path.parent() {
            durable::make_dir(cx.fs, folder)?;
        }
        let trace = Trace {
            display_time_unit: "ms",
            trace_events: Events { profile: &*cx.profile, keys: cx.keys() },
        };
        durable::replace(cx.fs, &path, &serde_json::to_vec(&trace)?)?;
        let cut = if cx.profile.is_cut() { ", of the first iterations: the tables have all" } else { "" };
        cx.log.info(format_args!("trace for https://ui.perfetto.dev in {}{cut}", path.display()));
        Ok(())
    }
}

/// The process of a trace, and the row of the run: Perfetto keeps 0 for a machine that does nothing.
const PROCESS: u32 = 1;
const RUN: usize = 1;

/// The trace event format.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace<'a> {
    display_time_unit: &'static str,
    trace_events: Events<'a>,
}

/// The events, which are made one by one while they are written.
struct Events<'a> {
    profile: &'a Profile,
    keys: &'a [Arc<str>],
}

/// A name of a row ("M"), or what happened from `ts` on, for `dur` microseconds ("X").
#[derive(Serialize)]
struct TraceEvent<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'a str>,
    ph: &'a str,
    pid: u32,
    tid: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Args<'a>>,
}

/// What is written beside an event.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Args<'a> {
    Name(&'a str),
    Type(&'a str),
}

impl Serialize for Events<'_> {
    /// One row for the run, with the layers below its parts, and one for each hook.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut events = serializer.serialize_seq(None)?;
        let rows = std::iter::once("run").chain(self.keys.iter().map(|key| &**key));
        for (tid, row) in rows.enumerate() {
            let args = Some(Args::Name(row));
            let named = TraceEvent {
                name: "thread_name",
                cat: None,
                ph: "M",
                pid: PROCESS,
                tid: RUN + tid,
                ts: None,
                dur: None,
                args,
            };
            events.serialize_element(&named)?;
        }
        // What contains another one stands before it, also where both begin at once.
        let mut spans: Vec<&Span> = self.profile.spans().iter().collect();
        spans.sort_by_key(|span| (span.ends[0], Reverse(span.ends[1])));
        for span in spans {
            events.serialize_element(&self.event(span))?;
        }
        events.end()
    }
}

impl Events<'_> {
    fn event(&self, span: &Span) -> TraceEvent<'_> {
        let [begin, end] = span.ends;
        let (ts, dur) = (begin as f64 / 1e3, end.saturating_sub(begin) as f64 / 1e3);
        let plain = TraceEvent {
            name: span.what,
            cat: Some("run"),
            ph: "X",
            pid: PROCESS,
            tid: RUN,
            ts: Some(ts),
            dur: Some(dur),
            args: None,
        };
        match span.who {
            Who::Run => plain,
            Who::Hook(at) => TraceEvent { cat: Some("hook"), tid: RUN + 1 + at, ..plain },
            Who::Layer(at) => match self.profile.layers().all().get(at) {
                Some(layer) => TraceEvent {
                    name: layer.name(),
                    cat: Some(span.what),
                    args: Some(Args::Type(layer.kind)),
                    ..plain
                },
                None => plain,
            },
        }
    }
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
    fn ranks(&self) -> Ranks {
        Ranks::Main
    }

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
    /// Measures the parts of iterations, layers and hooks, and writes tables and a trace for Perfetto.
    dyn Hook, "ProfilerHook" => ProfilerHook
}
