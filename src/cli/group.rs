//! The processes that a launcher started with this one: how a command joins them, and how all of them end.
//!
//! One of them speaks, the first; of a failure the one that it happened to. As the terminal, the group is one of the
//! process.

use std::sync::{Arc, OnceLock};

use clap::{Args, ValueEnum};

use super::console;
use crate::base::{Error, Result};
use crate::comm::{self, Comm, Launcher, Solo, Started};

static GROUP: OnceLock<Arc<dyn Comm>> = OnceLock::new();

/// What `--launcher` may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Asked {
    /// A run of one process, whatever started it.
    None,
    /// MPI's mpirun or mpiexec.
    Mpi,
    /// SLURM's srun.
    Slurm,
}

impl Asked {
    fn launcher(self) -> Launcher {
        match self {
            Self::None => Launcher::None,
            Self::Mpi => Launcher::Mpi,
            Self::Slurm => Launcher::Slurm,
        }
    }
}

/// `--launcher`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct LauncherArg {
    /// What started the processes of this run; told from their environment if not given.
    #[arg(long, value_enum, value_name = "LAUNCHER")]
    launcher: Option<Asked>,
}

impl LauncherArg {
    /// The same as a change of the config.
    pub fn change(self) -> Option<String> {
        let name = self.launcher?.to_possible_value()?.get_name().to_owned();
        Some(format!("launcher={name}"))
    }
}

/// Whether a launcher has started others with this process.
pub(super) fn is_likely() -> bool {
    Started::from_env().is_some_and(|started| started.world > 1)
}

/// Whether a launcher has started this process, alone or with others.
pub(super) fn is_launched() -> bool {
    Started::from_env().is_some()
}

/// Joins the others, of a command that processes can do together.
pub(super) fn join(LauncherArg { launcher: asked }: LauncherArg, command: &str) -> Result<()> {
    meet(asked)?;
    same_command(command)?;
    asked.map(Asked::launcher).map_or(Ok(()), |asked| asked.check(comm().place()))
}

fn meet(asked: Option<Asked>) -> Result<()> {
    let comm: Arc<dyn Comm> = match asked {
        Some(Asked::None) => Arc::new(Solo::default()),
        _ => comm::join().inspect_err(|_| let_the_first_speak())?,
    };
    if !comm.place().is_main() {
        console::hush();
    }
    let _ = GROUP.set(comm);
    Ok(())
}

/// Processes that could not join each other cannot agree who is to speak: the first of each machine does. The others end
/// as if nothing were wrong: a launcher ends all when one fails, also who is about to say why.
fn let_the_first_speak() {
    if Started::from_env().is_some_and(|s| s.world > 1 && s.local_rank.unwrap_or(s.rank) != 0) {
        std::process::exit(0);
    }
}

/// All are to do the same.
fn same_command(own: &str) -> Result<()> {
    let all = comm().gather(own.as_bytes())?;
    let name = |command: &Vec<u8>| String::from_utf8_lossy(command).into_owned();
    match all.iter().position(|command| Some(command) != all.first()) {
        None => Ok(()),
        Some(rank) => Err(Error::config(format!(
            "rank {rank} was started with `{}`, rank 0 with `{}`: all ranks are to do the same",
            all.get(rank).map(name).unwrap_or_default(),
            all.first().map(name).unwrap_or_default(),
        ))),
    }
}

/// Before what is told of a command line that cannot be read (`failed`), or of one that asks for help: whether this process
/// is to tell it.
///
/// # Errors
/// When the others, who wait for this one, were given another command.
pub(super) fn one_speaks(failed: Option<&str>) -> Result<bool> {
    let Some(started) = Started::from_env().filter(|started| started.world > 1) else { return Ok(true) };
    let joined = if failed.is_some() { meet(None) } else { join(LauncherArg { launcher: None }, "--help") };
    match (joined, failed) {
        (Ok(()), Some(why)) => Ok(tells(&Error::config(why))),
        (Ok(()), None) => Ok(speaks()),
        (Err(error), _) if GROUP.get().is_some() => Err(error),
        (Err(_), _) => Ok(started.rank == 0),
    }
}

/// Of a command that one process does: several that do it at once would write over each other's files.
pub(super) fn refuse(command: &str) -> Result<()> {
    let Some(Started { world, .. }) = Started::from_env().filter(|started| started.world > 1) else {
        return Ok(());
    };
    let together = join(LauncherArg { launcher: None }, command);
    match together {
        Err(error) if GROUP.get().is_some() => Err(error),
        _ => Err(Error::config(format!(
            "{world} processes were started together, but only `train`, `val` and `test` are done by several: leave mpirun \
             or srun out"
        ))),
    }
}

/// The processes of this one; itself alone, where it joined none.
pub(super) fn comm() -> Arc<dyn Comm> {
    GROUP.get().cloned().unwrap_or_else(|| Arc::new(Solo::default()))
}

/// Whether this process speaks for all.
pub(super) fn speaks() -> bool {
    comm().place().is_main()
}

/// How many threads to start: as many as there are processors for this process. Those that may run on the same ones share
/// them. None leaves it to the pool: a process alone, or RAYON_NUM_THREADS.
pub(super) fn threads() -> Result<Option<usize>> {
    let comm = comm();
    if comm.place().world == 1 {
        return Ok(None);
    }
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = file("/proc/self/status");
    let processors = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap_or_default();
    let own = format!("{} {processors}", file("/proc/sys/kernel/hostname"));
    let all = comm.gather(own.as_bytes())?;
    if std::env::var_os("RAYON_NUM_THREADS").is_some() {
        return Ok(None);
    }
    let sharing = match processors.is_empty() {
        true => comm.place().local_world,
        false => all.iter().filter(|other| **other == own.as_bytes()).count(),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Some((processors / sharing.max(1)).max(1)))
}

/// A number that the first rank drew.
pub(super) fn shared(own: u64) -> Result<u64> {
    let mut bytes = own.to_le_bytes().to_vec();
    comm().broadcast(0, &mut bytes)?;
    let bytes = bytes.try_into().map_err(|_| Error::Comm("the first rank did not give its seed".into()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Tells the others of a failure; whether this process is to tell a person. With the number of the rank where it is not
/// the first.
pub(super) fn tells(error: &Error) -> bool {
    let comm = comm();
    let place = comm.place();
    if place.world == 1 {
        return true;
    }
    let tells = comm.fail(&error.to_string());
    if tells && !place.is_main() {
        console::complain(&format!("rank {} of {} failed:", place.rank, place.world));
    }
    tells
}

/// The end of this process, with all others: those that have done what was asked wait for each other, a failure ends all.
pub(super) fn leave(code: u8, failed: bool) -> u8 {
    let comm = comm();
    if failed && comm.place().world > 1 {
        comm.abort(code.into());
    }
    match comm.close() {
        Ok(()) => code,
        Err(error) => {
            if tells(&error) {
                console::complain(&format!("error: {error}"));
            }
            comm.abort(code.max(1).into());
        }
    }
}
