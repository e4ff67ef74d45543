//! The launchers of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An `mpirun`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    OpenMpi,
    Mpich,
}

/// Those that are installed, by Debian's names of each or by the one name that there is elsewhere. Says so where a test has
/// nothing to run under.
pub fn installed(test: &str) -> Vec<(Kind, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    let named = [("mpirun.openmpi", Kind::OpenMpi), ("mpirun.mpich", Kind::Mpich)];
    let mut all: Vec<_> = named.iter().filter_map(|(name, kind)| Some((*kind, found(name)?))).collect();
    if let (true, Some(mpirun)) = (all.is_empty(), found("mpirun")) {
        let said = Command::new(&mpirun).arg("--version").output().unwrap().stdout;
        let is_open = String::from_utf8_lossy(&said).contains("Open MPI");
        all.push((if is_open { Kind::OpenMpi } else { Kind::Mpich }, mpirun));
    }
    if let Ok(only) = std::env::var("SHANTY_LAUNCHER") {
        all.retain(|(_, file)| file.to_string_lossy().ends_with(&only));
    }
    if all.is_empty() {
        println!("{test}: skipped, there is no mpirun");
    }
    all
}

/// A program on so many ranks. What this process was started with says nothing to them; a launcher that hangs ends itself.
pub fn mpirun((kind, file): &(Kind, PathBuf), ranks: usize, program: &Path) -> Command {
    let mut command = Command::new(file);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["OMPI_", "PMIX_", "PMI_", "SLURM_", "MPI_"].iter().any(|begin| text.starts_with(begin)) {
            command.env_remove(&name);
        }
    }
    // Its sockets have long names.
    command.env("TMPDIR", "/tmp").env("RAYON_NUM_THREADS", "1");
    match kind {
        Kind::OpenMpi => {
            command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
            command.args(["--bind-to", "none", "--oversubscribe", "--timeout", "60"]);
            // Ranks make way for others themselves.
            command.args(["--mca", "mpi_yield_when_idle", "0"]);
        }
        Kind::Mpich => {
            command.env("MPIEXEC_TIMEOUT", "60");
        }
    }
    command.args(["-np", &ranks.to_string()]).arg(program);
    command
}
