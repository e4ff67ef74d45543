//! `shanty scale`: how an iteration divides into computing, waiting and communicating, and how many ranks pay.

use std::process::Command;

use clap::Args;
use serde_json::json;

use super::group::{self, LauncherArg};
use super::{Bare, ConfigArgs, Format, console};
use crate::base::{Error, Result};
use crate::run::{Scale as Measured, scale};

/// Arguments of `scale`.
#[derive(Debug, Clone, Args)]
pub(super) struct Scale {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ranks to start by `mpirun`, where no launcher has started this process.
    #[arg(long, default_value_t = 2)]
    ranks: usize,
    /// Iterations that are measured.
    #[arg(long, default_value_t = 20)]
    iters: u64,
    #[command(flatten)]
    pub launcher: LauncherArg,
    #[command(flatten)]
    bare: Bare,
}

/// Ranks for which the time of a step is predicted.
const PREDICTED: [usize; 3] = [8, 64, 512];

impl Scale {
    pub fn run(self, format: Format) -> Result<u8> {
        if group::comm().place().world == 1 {
            return self.start();
        }
        let node = self.config.with(&self.bare).resolve()?;
        let measured = scale(&node, Some(&self.config.name()), group::comm(), self.iters)?;
        if group::speaks() {
            console::say(&match format {
                Format::Text => text(&measured),
                Format::Json => as_json(&measured).to_string(),
            });
        }
        Ok(0)
    }

    /// The same command under `mpirun`.
    fn start(&self) -> Result<u8> {
        if self.ranks < 2 {
            return Err(Error::config("`--ranks`: one rank has nothing to wait for; give 2 or more"));
        }
        let own = std::env::current_exe().map_err(|why| Error::Other(Box::new(why)))?;
        let mut mpirun = Command::new("mpirun");
        mpirun
            .args(["--bind-to", "none", "-np", &self.ranks.to_string()])
            .arg(own)
            .args(std::env::args_os().skip(1));
        let ended = mpirun.status().map_err(|why| {
            Error::config(format!(
                "`mpirun` cannot be started ({why}): install Open MPI or MPICH, or start the ranks by your launcher, as \
                 `srun -n {} shanty scale …`",
                self.ranks
            ))
        })?;
        Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

fn text(measured: &Measured) -> String {
    let Measured {
        world,
        iteration,
        waiting,
        communication,
        calls,
        bytes,
        of_call,
        of_byte,
        of_sum,
        of_library,
    } = *measured;
    let line = |name: &str, seconds: f64| {
        format!("{name:<16}{:>10.3} ms {:>5.1} %\n", seconds * 1e3, 100.0 * seconds / iteration)
    };
    let mut text = format!("{world} ranks\n\n");
    text += &line("iteration", iteration);
    text += &line("  compute", measured.compute());
    text += &line("  waiting", waiting);
    text += &line("  communication", communication);
    text += &format!(
        "\n{calls:.1} calls and {:.3} MB of each rank in an iteration; a call takes {:.1} µs, a MB {:.3} ms\n",
        bytes / 1e6,
        of_call * 1e6,
        of_byte * 1e9
    );
    text += &format!("one sum of {:.3} MB in the order of the ranks {:.3} ms", bytes / 1e6, of_sum * 1e3);
    text += &of_library.map_or_else(String::new, |own| {
        format!(", in the order of the library's own all-reduce {:.3} ms", own * 1e3)
    });
    text.push('\n');
    text += "\nwith as large a batch on each rank, and as fast a network between all:\n\n ranks     iteration  efficiency\n";
    for world in PREDICTED {
        let (step, efficiency) = (measured.predicted(world), measured.efficiency(world));
        text += &format!("{world:>6}{:>11.3} ms{:>10.1} %\n", step * 1e3, 100.0 * efficiency);
    }
    text.trim_end().to_owned()
}

fn as_json(measured: &Measured) -> serde_json::Value {
    let predicted = PREDICTED.map(|world| {
        json!({ "ranks": world, "iteration": measured.predicted(world), "efficiency": measured.efficiency(world) })
    });
    json!({
        "ranks": measured.world,
        "iteration": measured.iteration,
        "compute": measured.compute(),
        "waiting": measured.waiting,
        "communication": measured.communication,
        "calls": measured.calls,
        "bytes": measured.bytes,
        "seconds_of_a_call": measured.of_call,
        "seconds_of_a_byte": measured.of_byte,
        "seconds_of_a_sum": measured.of_sum,
        "seconds_of_an_all_reduce": measured.of_library,
        "predicted": predicted,
    })
}
