//! `shanty train`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::progress::ProgressHook;
use super::{ConfigArgs, console};
use crate::base::{Error, Result};
use crate::config::Node;
use crate::hook::builtin::{CheckpointHook, ProfilerHook};
use crate::hook::{Board, Mode};
use crate::run::{Outcome, Runner};

/// Arguments of `train`.
#[derive(Debug, Clone, Args)]
pub(super) struct Train {
    #[command(flatten)]
    config: ConfigArgs,
    /// Go on with the newest checkpoint of the work_dir, or with this one.
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, default_missing_value = "")]
    resume: Option<String>,
    /// Folder of checkpoints and logs; the config's, else `work_dirs/<name of the config>`.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Train without validation.
    #[arg(long)]
    no_validate: bool,
    /// Scale the learning rate with the batch size, as the config's `auto_scale_lr` says.
    #[arg(long)]
    auto_scale_lr: bool,
    /// Measure every hook and step: a table at the end, and a trace for chrome://tracing in the log folder.
    #[arg(long)]
    profile: bool,
    /// Changes a value, as `--set`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl Train {
    pub fn run(self) -> Result<()> {
        let name = self.config.name();
        let node = self.resolve()?;
        let mut runner = Runner::from_config(&node, Some(&name))?;
        if let Some(progress) = ProgressHook::on_terminal() {
            runner.add_hook(progress);
        }
        if self.profile {
            runner.add_hook(ProfilerHook::whole_run());
        }
        let began = Instant::now();
        let outcome = runner.train()?;
        if self.profile {
            let session = runner.session();
            console::say(&session.state.profile.table(session.hooks.keys()));
        }
        console::say(&last_line(&runner, &outcome, began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Switches become overrides, before those of the person, which win.
    fn resolve(&self) -> Result<Node> {
        let mut set = Vec::new();
        let quoted = |text: &str| {
            serde_json::to_string(text)
                .map_err(|e| Error::config(format!("this path cannot be written: {e}")))
        };
        if let Some(dir) = &self.work_dir {
            set.push(format!("work_dir={}", quoted(&dir.to_string_lossy())?));
        }
        if let Some(path) = &self.resume {
            set.push("resume=true".into());
            set.push(if path.is_empty() {
                "load_from=null".into()
            } else {
                format!("load_from={}", quoted(path)?)
            });
        }
        if self.no_validate {
            set.extend(["val_dataloader=null", "val_cfg=null", "val_evaluator=null"].map(String::from));
        }
        if self.auto_scale_lr {
            set.push("auto_scale_lr.enable=true".into());
        }
        let mut config = self.config.clone();
        config.set.splice(0..0, set);
        config.set.extend(self.overrides.iter().cloned());
        config.resolve()
    }
}

/// What a person wants to know when they come back: how it ended, how good it is, where it lies.
fn last_line(runner: &Runner, outcome: &Outcome, seconds: f64) -> String {
    let state = &runner.session().state;
    let how = match outcome {
        Outcome::Finished => "finished".to_owned(),
        Outcome::Stopped(stop) => format!("stopped by {} ({})", stop.by, stop.reason),
    };
    let mut line =
        format!("{how} after {} epochs, {} iterations, {seconds:.1} s", state.clock.epoch, state.clock.iter);
    let metrics = |board: &Board| -> Vec<(String, f64)> {
        let own = |n: &str| n != "time" && n != "data_time";
        let all = board.scalars(Mode::Val).filter(|(n, _)| own(n));
        all.filter_map(|(n, h)| Some((n.to_owned(), h.current()?))).collect()
    };
    for (name, value) in metrics(&state.board) {
        line += &format!("; {name} {value:.4}");
        if let Some((best, dir)) = runner.hook::<CheckpointHook>().and_then(|h| h.best(&name)) {
            line += &format!(" (best {best:.4}: {dir})");
        }
    }
    format!("{line}; in {}", state.dirs.work.display())
}
