//! `shanty train`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::ended::Ended;
use super::exit_file::ExitFile;
use super::group::{self, LauncherArg};
use super::progress::ProgressHook;
use super::{Bare, ConfigArgs, console, signals};
use crate::base::Result;
use crate::base::rng::fresh_seed;
use crate::config::{Kind, Node};
use crate::hook::builtin::ProfilerHook;
use crate::run::{Limits, Outcome, Runner, RunnerBuilder, check_as, default_work_dir, quoted};
use crate::vis::METRICS_ADDR;

/// Arguments of `train`.
#[derive(Debug, Clone, Args)]
pub(super) struct Train {
    #[command(flatten)]
    config: ConfigArgs,
    /// Go on with the newest checkpoint of the work_dir, or with this one: a directory, or a name in the work_dir.
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    resume: Option<String>,
    /// Delete the checkpoints that an earlier run left in the work_dir, and begin.
    #[arg(long)]
    overwrite: bool,
    /// Train without validation.
    #[arg(long)]
    no_validate: bool,
    /// Train without the check of the config, and without validating two batches first.
    #[arg(long)]
    no_sanity: bool,
    /// Scale the learning rate with the batch size, as the config's `auto_scale_lr` says.
    #[arg(long)]
    auto_scale_lr: bool,
    /// Measure every part of each iteration, every layer and every hook: tables at the end, and a trace for
    /// https://ui.perfetto.dev in the log folder.
    #[arg(long)]
    profile: bool,
    /// Save and leave after this time: `90` (seconds), `45m`, `1h30m`, `11:55:00`. Exit code 75.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_time: Option<f64>,
    /// Save and leave when this file appears. Exit code 75.
    #[arg(long, value_name = "FILE")]
    stop_file: Option<PathBuf>,
    /// Answer Prometheus at this address, or at this port of this machine; 127.0.0.1:9464 without one. A port that is
    /// taken is a warning.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true, default_missing_value = METRICS_ADDR,
        value_parser = metrics_addr)]
    metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    pub launcher: LauncherArg,
    #[command(flatten)]
    bare: Bare,
}

impl Train {
    /// Trains, and says how the process should exit.
    pub fn run(self, quiet: bool) -> Result<u8> {
        let (name, node) = (self.config.name(), self.resolve()?);
        let work_dir = node.get("work_dir").and_then(Node::as_str).map(str::to_owned);
        let work_dir = work_dir.unwrap_or_else(|| default_work_dir(Some(&name)));
        let prepared = self.prepare(&name, &node, quiet);
        let runner =
            prepared.inspect_err(|why| ExitFile::note_refused(work_dir.as_ref(), why.exit_code()))?;
        self.train(runner, quiet)
            .inspect_err(|why| ExitFile::note_refused(work_dir.as_ref(), why.exit_code()))
    }

    /// The run of a config, ready to train.
    fn prepare(&self, name: &str, node: &Node, quiet: bool) -> Result<Runner> {
        let comm = group::comm();
        let limits = Limits {
            interrupt: signals::install(comm.place().world > 1)?,
            max_seconds: self.max_time,
            stop_file: self.stop_file.clone(),
            after_iter: None,
        };
        let resumes = node.get("resume").is_some_and(|given| matches!(*given.kind, Kind::Bool(true)));
        // Where the config has none. The check is to look at the first batch of this run, and of no other.
        let seed = group::shared(fresh_seed())?;
        if !resumes && !self.no_sanity {
            // What `check` refuses is refused here in the same words, before anything is made, or deleted for it.
            quietly(|| check_as(node, Some(name), seed))?;
        }
        let builder =
            RunnerBuilder::to_train(node, Some(name), Some(seed), comm)?.begin_from(self.begin_from(node));
        let builder = self.metrics_addr.into_iter().fold(builder, RunnerBuilder::answer_prometheus);
        let mut runner = builder.limits(limits).build()?;
        if self.no_sanity {
            runner.skip_sanity_check();
        }
        if let Some(progress) = ProgressHook::on_terminal().filter(|_| !quiet) {
            runner.add_hook(progress)?;
        }
        if let Some(hook) = ExitFile::of(&runner) {
            runner.add_hook(hook)?;
        }
        if self.profile {
            runner.add_hook(ProfilerHook::whole_run().quiet())?;
        }
        Ok(runner)
    }

    fn train(&self, mut runner: Runner, quiet: bool) -> Result<u8> {
        let began = Instant::now();
        let outcome = runner.train();
        let ended = Ended { runner: &runner, seconds: began.elapsed().as_secs_f64() };
        let code = match &outcome {
            Ok(Outcome::Interrupted(reason)) => reason.exit_code(),
            Ok(_) => 0,
            Err(error) => error.exit_code(),
        };
        ExitFile::note(&runner, code);
        let outcome = outcome.inspect_err(|error| ended.write_down(&format!("failed: {error}")))?;
        if self.profile && group::speaks() {
            let session = runner.session();
            console::tell(&session.state.profile.tables(session.hooks.keys()));
        }
        let first = ended.first_line(&outcome);
        ended.write_down(&first);
        if group::speaks() {
            console::tell(&first);
        }
        if group::speaks() && !quiet {
            ended.more().iter().for_each(|line| console::tell(line));
        }
        Ok(code)
    }

    /// The weights that the config begins with, which `--resume` leaves alone while there is a checkpoint.
    fn begin_from(&self, node: &Node) -> Option<String> {
        let before = |key: &str| node.get(key)?.before.as_deref();
        let resumes = before("resume").is_some_and(|given| matches!(*given.kind, Kind::Bool(true)));
        let replaced = before("load_from").filter(|_| self.resume.is_some() && !resumes)?;
        replaced.as_str().map(str::to_owned)
    }

    /// Switches become overrides, before those of the person, which win.
    fn resolve(&self) -> Result<Node> {
        let mut set: Vec<_> = self.launcher.change().into_iter().collect();
        if let Some(path) = &self.resume {
            set.push("resume=true".into());
            set.push(if path.is_empty() {
                "load_from=null".into()
            } else {
                format!("load_from={}", quoted(path.as_ref())?)
            });
        }
        if self.overwrite {
            set.push("overwrite=true".into());
        }
        if self.no_validate {
            set.extend(["val_dataloader=null", "val_cfg=null", "val_evaluator=null"].map(String::from));
        }
        if self.auto_scale_lr {
            set.push("auto_scale_lr.enable=true".into());
        }
        let mut config = self.config.clone();
        config.set.splice(0..0, set);
        config.with(&self.bare).resolve()
    }
}

/// What is loaded and drawn to look at it is loaded and drawn again for the run, which tells of it.
pub(super) fn quietly<T>(look: impl FnOnce() -> T) -> T {
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Off);
    let seen = look();
    log::set_max_level(level);
    seen
}

/// `127.0.0.1:9464`, or a port of this machine: `9464`.
fn metrics_addr(text: &str) -> Result<SocketAddr, String> {
    let port = || Some(SocketAddr::from(([127, 0, 0, 1], text.parse().ok()?)));
    text.parse().ok().or_else(port).ok_or_else(|| {
        format!("`{text}` is no address with a port: write {METRICS_ADDR}, or a port of this machine")
    })
}

/// `90`, `45m`, `1h30m`, `2d`, `11:55:00` in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no time: write 90, 45m, 1h30m or 11:55:00");
    if text.is_empty() || text.matches(':').count() > 2 {
        return Err(wrong());
    }
    if text.contains(':') {
        let part = |p: &str| p.parse::<u64>().map_err(|_| wrong());
        return text.split(':').try_fold(0.0, |sum, p| Ok(sum * 60.0 + part(p)? as f64));
    }
    let (mut total, mut number) = (0.0, String::new());
    for c in text.chars() {
        let unit = match c {
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86400.0,
            _ => return Err(wrong()),
        };
        total += std::mem::take(&mut number).parse::<f64>().map_err(|_| wrong())? * unit;
    }
    if number.is_empty() { Ok(total) } else { Ok(total + number.parse::<f64>().map_err(|_| wrong())?) }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_in_the_forms_that_people_write() {
        for (text, value) in
            [("90", 90.0), ("45m", 2700.0), ("1h30m", 5400.0), ("11:55:00", 42900.0), ("1.5s", 1.5)]
        {
            assert_eq!(seconds(text), Ok(value), "{text}");
        }
        for text in ["", "soon", "1:x", "1:2:3:4"] {
            assert!(
                seconds(text).is_err_and(|why| why.contains("write 90, 45m, 1h30m or 11:55:00")),
                "{text}"
            );
        }
    }
}
