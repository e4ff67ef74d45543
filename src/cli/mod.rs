//! The command line, one file a command.
//!
//! Exit codes: 0 the command did what it was asked; 1 it failed; 2 the config or the command line is wrong; 143, 130
//! and 75 a training saved and left, on SIGTERM, on SIGINT and at a limit: resume it.

mod braille;
mod browse;
mod check_data;
mod ckpt;
mod console;
mod ended;
mod eval_offline;
mod evaluate;
mod exit_file;
mod export_logs;
mod group;
mod inspect;
mod lr_find;
mod new;
mod order;
mod output;
mod own_screen;
#[cfg(feature = "parquet")]
mod parquet;
mod plan;
mod plot;
mod predict;
mod predictions;
mod program;
mod progress;
mod replay;
mod report;
mod run_files;
mod runs;
mod scale;
mod signals;
mod summary;
mod train;
mod verify_resume;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use log::LevelFilter;

use crate::base::escape::brief;
use crate::base::{Error, Result};
use crate::config::{Diag, Diags, Node};
use crate::run::quoted;

/// A hook-driven training runner.
#[derive(Debug, Parser)]
#[command(name = "shanty", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How mistakes of a config, and plans, are printed.
    #[arg(long, value_enum, default_value_t, global = true)]
    format: Format,
    /// Tell warnings, errors and results only, and draw no bar. What a run's log file holds is another matter: the
    /// config's `log_level`.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Tell more: what is only in the log file otherwise; of `verify-resume` the logs of its runs.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train what a config describes.
    Train(train::Train),
    /// Compute the validation metrics of a checkpoint.
    Val(evaluate::Evaluate),
    /// Compute the test metrics of a checkpoint.
    Test(evaluate::Evaluate),
    /// Write what a checkpoint says of the test data, or of files: CSV, JSON lines or NumPy.
    Predict(predict::Predict),
    /// Compute metrics of predictions in a file, without a model and without data: `shanty predict --out FILE.jsonl` or
    /// DumpResults wrote it.
    EvalOffline(eval_offline::EvalOffline),
    /// Write the event log of a run in another form: CSV, TensorBoard, scalars.json.
    ExportLogs(export_logs::ExportLogs),
    /// Show what a config will do: learning rates, hooks, checkpoints, validations. Nothing is trained or written.
    Plan(plan::Plan),
    /// Look for a learning rate: a short training in which it grows, and the loss at each. Nothing is written.
    LrFind(lr_find::LrFind),
    /// Measure an iteration of several ranks: computing, waiting, communication; and predict more of them. Nothing is
    /// written.
    Scale(scale::Scale),
    /// Write a sheet of training samples before and after augmentation, with their labels: one HTML file, or a picture.
    Browse(browse::Browse),
    /// Show the modules of a config's model: shapes, parameters, multiply-adds, and the memory of a training step.
    Summary(summary::Summarize),
    /// Write one HTML file about a run, or that compares several: curves, tables, config, checkpoints, warnings.
    Report(report::Report),
    /// Follow a run on one screen: progress, curves, the last validation, the end of its log. Leaving does not touch it.
    Watch(watch::Watch),
    /// Show all runs below a folder: state, epoch, best metric, age.
    Runs(runs::Runs),
    /// Write a crate for a hook of your own.
    New(new::New),
    /// Look into checkpoints, compare, average and convert them.
    Ckpt(ckpt::Ckpt),
    /// Repeat a step in which numbers became invalid.
    Replay(replay::ReplayArgs),
    /// Cut a run at random steps, resume it, and compare every step with the run that was not cut.
    VerifyResume(verify_resume::VerifyResume),
    /// Check a config without running it.
    Check(check_data::Check),
    /// Print the resolved config.
    Config(Changed),
    /// Tell where a value or a default of a config comes from and what it means: `explain CONFIG
    /// optim_wrapper.optimizer.lr`. Of a mapping it lists all keys.
    Explain {
        #[command(flatten)]
        config: ConfigArgs,
        /// Dotted path of the value.
        key: String,
        #[command(flatten)]
        bare: Bare,
    },
    /// Print the JSON Schema of a config, for editors.
    Schema,
    /// Print parameters, defaults, ranges and an example of a type.
    Describe {
        /// `LinearLR`, `CheckpointHook`, …
        name: String,
    },
    /// List the registered types, of one kind or of all.
    List {
        /// hook, module, dataset, …
        kind: Option<String>,
    },
}

impl Command {
    /// What ranks call it that compare what they were started with.
    fn name(&self) -> String {
        match self {
            Self::Train(_) => "train".to_owned(),
            Self::Val(_) => "val".to_owned(),
            Self::Test(_) => "test".to_owned(),
            Self::Scale(_) => "scale".to_owned(),
            _ => {
                let mut given = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
                given.find(|arg| !arg.starts_with('-')).unwrap_or_default()
            }
        }
    }

    /// Whether it shows the log of a run, and from which level on anything is told beside its results.
    fn log(&self, quiet: bool, verbose: bool) -> (bool, LevelFilter) {
        match self {
            Self::VerifyResume(_) if verbose => (true, LevelFilter::Info),
            // Its runs are made to be cut: what they say of it is no news.
            Self::VerifyResume(_) => (false, LevelFilter::Error),
            own => {
                let runs = matches!(own, Self::Train(_) | Self::Val(_) | Self::Test(_) | Self::Replay(_));
                let usual = if runs && !quiet { LevelFilter::Info } else { LevelFilter::Warn };
                (runs, if verbose { LevelFilter::Debug } else { usual })
            }
        }
    }
}

/// Which config, with which changes.
#[derive(Debug, Clone, Args)]
struct ConfigArgs {
    /// The config file.
    config: PathBuf,
    /// Changes a value: `--set optim_wrapper.optimizer.lr=0.1`, `--set a.0.b=[1, 2]`, `--set list+=3`, `--set ~key`.
    /// Takes several: `--set a=1 b=2`.
    #[arg(long = "set", alias = "cfg-options", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A config laid over the one before; more than once if need be.
    #[arg(long, value_name = "FILE")]
    overlay: Vec<PathBuf>,
    /// Folder of checkpoints and logs; the config's, else `work_dirs/<name of the config>`.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

/// A config with changes that need no `--set` before them.
#[derive(Debug, Clone, Args)]
struct Changed {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    bare: Bare,
}

/// Changes at the end of a command line.
#[derive(Debug, Clone, Args)]
struct Bare {
    /// Changes a value, as `--set`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// How mistakes of a config are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// An array of `{file, line, column, level, message, suggestion}`, for editors and scripts.
    Json,
}

/// How a command tells what it tells.
#[derive(Debug, Clone, Copy)]
struct How {
    format: Format,
    quiet: bool,
}

impl ConfigArgs {
    /// The same with further changes, which win.
    fn with(&self, bare: &Bare) -> Self {
        let mut config = self.clone();
        config.set.extend(bare.overrides.iter().cloned());
        config
    }

    fn resolve(&self) -> Result<Node> {
        let text = self.config.to_string_lossy();
        if text.contains('=') && !self.config.exists() {
            let text =
                format!("`{text}` stands where the config belongs: the config comes first, then its changes");
            return Err(Error::config(text));
        }
        let files: Vec<_> =
            std::iter::once(&self.config).chain(&self.overlay).map(PathBuf::as_path).collect();
        // What a person sets wins.
        let work_dir =
            self.work_dir.as_deref().map(|dir| Ok::<_, Error>(format!("work_dir={}", quoted(dir)?)));
        let set: Vec<_> =
            work_dir.into_iter().chain(self.set.iter().cloned().map(Ok)).collect::<Result<_>>()?;
        let loaded = crate::config::load_all(&files, &set)?;
        loaded.warnings.0.iter().for_each(|warning| log::warn!("{}", warning.untitled()));
        loaded.node.get("log_level").and_then(Node::as_str).into_iter().for_each(console::follow);
        Ok(loaded.node)
    }

    fn name(&self) -> String {
        self.config.to_string_lossy().into_owned()
    }
}

/// Bytes of stack for the work: the system may give the first thread hardly any (`ulimit -s`).
const STACK: usize = 16 << 20;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match std::thread::Builder::new().name("main".to_owned()).stack_size(STACK).spawn(on_own_stack) {
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(101)),
        // What cannot be done without threads will say so.
        Err(_) => on_own_stack(),
    }
}

fn on_own_stack() -> ExitCode {
    let cli = match Cli::try_parse_from(order::sorted(std::env::args_os())) {
        Ok(cli) => cli,
        Err(told) => return ExitCode::from(usage(&told)),
    };
    let (runs, level) = cli.command.log(cli.quiet, cli.verbose);
    console::init(runs, level, cli.quiet || cli.verbose, Some(&crate::registry::crates()));
    let how = How { format: cli.format, quiet: cli.quiet };
    let (code, failed) = match run(cli.command, how) {
        Ok(code) => (code, false),
        Err(error) => {
            match cli.format {
                _ if !group::tells(&error) => {}
                Format::Json => tell_as_json(&error),
                Format::Text => explain(&error),
            }
            (error.exit_code(), true)
        }
    };
    let code = if console::all_said() { code } else { code.max(1) };
    ExitCode::from(group::leave(code, failed))
}

/// Help and versions are results; anything else is a mistake, whether it can be told or not.
fn usage(told: &clap::Error) -> u8 {
    let (text, failed) = (told.render().to_string(), told.use_stderr());
    let mut code = if failed { 2 } else { 0 };
    match group::one_speaks(failed.then_some(&text)) {
        Err(error) => {
            if group::tells(&error) {
                explain(&error);
            }
            return group::leave(error.exit_code(), true);
        }
        // It quotes what was given as it is.
        Ok(true) if failed && brief(&text) != text => console::complain(&text),
        Ok(true) => {
            let lost = told.print().is_err_and(|why| why.kind() != std::io::ErrorKind::BrokenPipe);
            code = code.max(lost.into());
        }
        Ok(false) => {}
    }
    group::leave(code, failed)
}

/// Does what was asked; the exit code of a command that did not fail.
fn run(command: Command, How { format, quiet }: How) -> Result<u8> {
    use Command::{
        Browse, Check, LrFind, Plan, Predict, Replay, Scale, Summary, Test, Train, Val, VerifyResume,
    };
    let name = command.name();
    match &command {
        Train(train) => group::join(train.launcher, &name)?,
        Val(evaluate) | Test(evaluate) => group::join(evaluate.launcher, &name)?,
        Scale(scale) => group::join(scale.launcher, &name)?,
        _ => group::refuse(&name)?,
    }
    if let Browse(_) | Train(_) | Replay(_) | VerifyResume(_) | Check(_) | Val(_) | Test(_) | Predict(_)
    | Plan(_) | Summary(_) | LrFind(_) | Scale(_) = command
    {
        start_threads()?;
    }
    match command {
        Command::Train(train) => return train.run(quiet),
        Command::Scale(scale) => return scale.run(format),
        Command::Ckpt(ckpt) => return ckpt.run(),
        Command::Replay(replay) => return replay.run(),
        Command::VerifyResume(verify) => return verify.run(),
        Command::Check(check) => return check.run(format),
        Command::Val(val) => val.run(false)?,
        Command::Test(test) => test.run(true)?,
        Command::Predict(predict) => predict.run()?,
        Command::EvalOffline(offline) => offline.run()?,
        Command::ExportLogs(export) => export.run()?,
        Command::Plan(plan) => plan.run(format)?,
        Command::LrFind(find) => find.run(format)?,
        Command::Summary(summary) => summary.run(format)?,
        Command::Browse(browse) => browse.run()?,
        Command::Report(report) => report.run()?,
        Command::Watch(watch) => watch.run()?,
        Command::Runs(runs) => runs.run(format)?,
        Command::New(new) => new.run()?,
        Command::Config(args) => inspect::config(&args.config.with(&args.bare))?,
        Command::Explain { config, key, bare } => inspect::explain(&config.with(&bare), &key)?,
        Command::Schema => inspect::schema()?,
        Command::Describe { name } => inspect::describe(&name)?,
        Command::List { kind } => inspect::list(kind.as_deref())?,
    }
    Ok(0)
}

/// Starts the threads that kernels and readers share. Left to itself, the pool would panic where none can be had.
fn start_threads() -> Result<()> {
    use std::error::Error as _;
    let pool = rayon::ThreadPoolBuilder::new();
    let pool = match group::threads()? {
        Some(threads) => pool.num_threads(threads),
        None => pool,
    };
    match pool.build_global() {
        // Without a cause it says that the program has started them itself.
        Err(error) if error.source().is_some() => {
            let text = format!(
                "no threads can be started: {error} (`ulimit -u` tells the limit, RAYON_NUM_THREADS asks for fewer)"
            );
            Err(Error::Other(text.into()))
        }
        _ => Ok(()),
    }
}

/// Tells an error as a person wants to read it: diagnostics with their source lines, in colour on a terminal.
fn explain(error: &Error) {
    match error.as_diags() {
        Some(diags) => console::complain_in_colour(&diags.render(console::in_colour())),
        None => console::complain(&format!("error: {error}")),
    }
}

/// The mistakes of a config as a JSON array; one without a place has no file. Other failures are told as text.
fn tell_as_json(error: &Error) {
    match (error.as_diags(), error) {
        (Some(diags), _) => console::say(&diags.to_json().to_string()),
        (None, Error::Config(source)) => {
            let diags = Diags::from(Diag::error(source.to_string()));
            console::say(&diags.to_json().to_string());
        }
        (None, other) => explain(other),
    }
}
