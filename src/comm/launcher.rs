//! Who started this process, how many others with it, and how they meet.

use std::env::var;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Comm, Place, Solo};
use crate::base::{Error, Result};

/// What starts the processes of a run; told from their environment if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Launcher {
    /// Nothing: a run of one process.
    None,
    /// MPI's `mpirun` or `mpiexec`.
    Mpi,
    /// SLURM's `srun`.
    Slurm,
}

impl Launcher {
    /// Whether a run that asks for this launcher has been started so.
    ///
    /// # Errors
    /// What to do instead.
    pub fn check(self, place: Place) -> Result<()> {
        self.check_among(place, Started::from_env().and_then(|started| started.by))
    }

    /// The same, where this launcher started the process.
    fn check_among(self, place: Place, by: Option<Self>) -> Result<()> {
        let name = match (self, place.world) {
            (Self::Mpi | Self::Slurm, 2..) if by.is_some_and(|by| by != self) => {
                let [asked, started] = if self == Self::Mpi { ["mpi", "srun"] } else { ["slurm", "mpirun"] };
                return Err(Error::config(format!(
                    "`launcher: {asked}`, but {started} started these processes: leave the key out, either will do"
                )));
            }
            (Self::None, 1) | (Self::Mpi | Self::Slurm, 2..) => return Ok(()),
            (Self::None, world) => {
                return Err(Error::config(format!(
                    "{world} processes were started together, and `launcher: none` makes each a run of its own: leave \
                     the key out and they train together"
                )));
            }
            (Self::Mpi, _) => ["mpi", "mpirun -np 2"],
            (Self::Slurm, _) => ["slurm", "srun -n 2"],
        };
        let [name, command] = name;
        Err(Error::config(format!(
            "`launcher: {name}`, but this process was started alone: `{command} shanty train …`, or leave the key out"
        )))
    }
}

/// Processes that were started together, as their launcher tells each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Who started them; nobody whose processes could meet here, if absent.
    pub by: Option<Launcher>,
    /// The number of this one.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// The number of this one among those of its machine, where that is told.
    pub local_rank: Option<usize>,
    /// The variable that says so.
    variable: &'static str,
    /// Whether the launcher is Open MPI's, or speaks as it does.
    open_mpi: bool,
}

impl Started {
    /// What the environment says; nothing if no launcher started this process.
    pub fn from_env() -> Option<Self> {
        Self::of(|name| var(name).ok())
    }

    fn of(var: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| var(name)?.parse::<usize>().ok();
        let pmix =
            var("PMIX_NAMESPACE").is_some() || var("SLURM_MPI_TYPE").is_some_and(|t| t.starts_with("pmix"));
        let local = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID", "LOCAL_RANK"];
        let local_rank = local.into_iter().find_map(number);
        let told = |by, rank: &str, variable, open_mpi| {
            Some(Self { by, rank: number(rank)?, world: number(variable)?, local_rank, variable, open_mpi })
        };
        // Each launcher that is inside another one stands before it.
        told(Some(Launcher::Mpi), "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", true)
            // Also set by srun, whose own variables say more of it.
            .or_else(|| {
                told(Some(Launcher::Slurm), "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", pmix)
                    .filter(|s| s.world > 1)
            })
            .or_else(|| told(Some(Launcher::Mpi), "PMI_RANK", "PMI_SIZE", false))
            .or_else(|| told(None, "RANK", "WORLD_SIZE", false))
    }

    /// Copies that would each train alone.
    fn strangers(&self) -> Error {
        Error::config(format!(
            "{} copies were started together ({}={}), but not by MPI, through which processes meet here: start them by \
             `mpirun -np {} shanty train …` or `srun`; `--launcher none` makes each a run of its own",
            self.world, self.variable, self.world, self.world
        ))
    }

    /// The libraries that may be the launcher's, likely ones first.
    #[cfg(unix)]
    fn libraries(&self) -> Vec<String> {
        if let Some(file) = var("SHANTY_MPI").ok().filter(|file| !file.is_empty()) {
            return vec![file];
        }
        let open = ["libmpi.so.40"];
        let mpich = ["libmpich.so.12", "libmpi.so.12", "libmpi_abi.so.0", "libmpi_abi.so.1"];
        let any = ["libmpi.so", "libmpi.dylib"];
        let [first, second] = if self.open_mpi { [&open[..], &mpich] } else { [&mpich[..], &open] };
        [first, &any, second].concat().into_iter().map(str::to_owned).collect()
    }
}

/// Joins the processes that were started together with this one, as the environment tells; a run of one where it tells
/// of none. Once a process. Whoever has joined others ends by [`Comm::close`], or by [`Comm::fail`] and [`Comm::abort`].
///
/// # Errors
/// When copies were started that cannot meet.
pub fn join() -> Result<Arc<dyn Comm>> {
    match Started::from_env().filter(|started| started.world > 1) {
        None => Ok(Arc::new(Solo::default())),
        Some(started) if started.by.is_none() => Err(started.strangers()),
        Some(started) => meet(&started),
    }
}

#[cfg(unix)]
fn meet(started: &Started) -> Result<Arc<dyn Comm>> {
    super::mpi::join(started, &started.libraries())
}

#[cfg(not(unix))]
fn meet(started: &Started) -> Result<Arc<dyn Comm>> {
    Err(Error::config(format!(
        "{} processes were started together: on this system each trains alone",
        started.world
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Option<(Option<Launcher>, usize, usize, bool)> {
        let started =
            Started::of(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))?;
        Some((started.by, started.rank, started.world, started.open_mpi))
    }

    /// The variables that each launcher sets, alone and inside another one.
    #[test]
    fn each_launcher_is_told_by_its_variables() {
        let slurm = [("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_NTASKS", "4")];
        let with = |more: &[(&'static str, &'static str)]| of(&[&slurm[..], more].concat());
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&[("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "3"), ("PMIX_RANK", "2")]),
            Some((Some(Launcher::Mpi), 2, 3, true))
        );
        assert_eq!(
            of(&[("PMI_RANK", "0"), ("PMI_SIZE", "2"), ("PMI_FD", "5")]),
            Some((Some(Launcher::Mpi), 0, 2, false))
        );
        assert_eq!(with(&[("PMIX_NAMESPACE", "slurm.pmix.1.0")]), Some((Some(Launcher::Slurm), 1, 4, true)));
        assert_eq!(with(&[("SLURM_MPI_TYPE", "pmix_v4")]), Some((Some(Launcher::Slurm), 1, 4, true)));
        assert_eq!(with(&[("PMI_RANK", "1"), ("PMI_SIZE", "4")]), Some((Some(Launcher::Slurm), 1, 4, false)));
        // mpirun within a batch script, and a script that started nothing.
        let batch = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
        let mpirun = [("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4")];
        assert_eq!(of(&[&batch[..], &mpirun].concat()), Some((Some(Launcher::Mpi), 3, 4, true)));
        assert_eq!(of(&batch), None);
        assert_eq!(of(&[("RANK", "1"), ("WORLD_SIZE", "2")]), Some((None, 1, 2, false)));
    }

    /// Copies that cannot meet, and launchers that started nothing: each with its remedy.
    #[test]
    fn a_wrong_start_is_refused() {
        let two = Place { world: 2, ..Place::SOLO };
        let refused = |launcher: Launcher, place| launcher.check(place).err().map(|e| e.to_string());
        for (launcher, fits, other, remedy) in [
            (Launcher::None, Place::SOLO, two, "2 processes were started together, and `launcher: none`"),
            (Launcher::Mpi, two, Place::SOLO, "`mpirun -np 2 shanty train …`"),
            (Launcher::Slurm, two, Place::SOLO, "`srun -n 2 shanty train …`"),
        ] {
            assert_eq!(refused(launcher, fits), None);
            assert!(refused(launcher, other).is_some_and(|why| why.contains(remedy)), "{launcher:?}");
        }
        let other = |asked: Launcher, by| asked.check_among(two, Some(by)).err().map(|e| e.to_string());
        assert!(
            other(Launcher::Slurm, Launcher::Mpi).is_some_and(|why| why.contains("mpirun started these"))
        );
        assert!(other(Launcher::Mpi, Launcher::Slurm).is_some_and(|why| why.contains("srun started these")));
        assert_eq!(other(Launcher::Mpi, Launcher::Mpi), None);
        let torchrun = |name: &str| ["RANK", "WORLD_SIZE"].contains(&name).then(|| "2".to_owned());
        let why = Started::of(torchrun).map(|started| started.strangers().to_string()).unwrap_or_default();
        assert!(
            why.contains("2 copies were started together (WORLD_SIZE=2)") && why.contains("mpirun -np 2"),
            "{why}"
        );
    }
}
