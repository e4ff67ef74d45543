//! Level 7: the command line, one file a command.
//!
//! Exit codes: 0 the command did what it was asked; 1 it failed; 2 the config or the command line is wrong.

mod console;
mod evaluate;
mod inspect;
mod new;
mod plan;
mod plot;
mod progress;
mod train;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::base::{Error, Result};
use crate::config::{Diags, Node};

/// A hook-driven training runner.
#[derive(Debug, Parser)]
#[command(name = "shanty", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train what a config describes.
    Train(train::Train),
    /// Count the validation metrics of a checkpoint.
    Val(evaluate::Evaluate),
    /// Count the test metrics of a checkpoint.
    Test(evaluate::Evaluate),
    /// Show what a config will do: learning rates, hooks, checkpoints, validations. Nothing is trained or written.
    Plan(plan::Plan),
    /// Write a crate for a hook of your own.
    New(new::New),
    /// Check a config without running it.
    Check(ConfigArgs),
    /// Print the resolved config.
    Config(ConfigArgs),
    /// List the registered types, of one kind or of all.
    List {
        /// hook, module, dataset, …
        kind: Option<String>,
    },
}

/// Which config, with which changes.
#[derive(Debug, Clone, Args)]
struct ConfigArgs {
    /// The config file.
    config: PathBuf,
    /// Changes a value: `--set optim_wrapper.optimizer.lr=0.1`, `--set a.0.b=[1, 2]`, `--set list+=3`, `--set ~key`.
    #[arg(long = "set", alias = "cfg-options", value_name = "KEY=VALUE", num_args = 1..)]
    set: Vec<String>,
}

impl ConfigArgs {
    fn resolve(&self) -> Result<Node> {
        Ok(crate::config::load(&self.config, &self.set)?)
    }

    fn name(&self) -> String {
        self.config.to_string_lossy().into_owned()
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    console::init();
    let done = match cli.command {
        Command::Train(train) => train.run(),
        Command::Val(val) => val.run(false),
        Command::Test(test) => test.run(true),
        Command::Plan(plan) => plan.run(),
        Command::New(new) => new.run(),
        Command::Check(args) => inspect::check(&args),
        Command::Config(args) => inspect::config(&args),
        Command::List { kind } => inspect::list(kind.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(&rendered(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// An error as a person wants to read it: diagnostics with their source lines, in colour on a terminal.
fn rendered(error: &Error) -> String {
    match error {
        Error::Config(source) => match source.downcast_ref::<Diags>() {
            Some(diags) => diags.render(std::io::stderr().is_terminal()),
            None => format!("error: {error}"),
        },
        _ => format!("error: {error}"),
    }
}
