//! How the processes of an MPI launcher meet.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use super::library::Library;
use super::words::Words;
use super::{Mpi, State};
use crate::base::{Error, Result};
use crate::comm::launcher::Started;
use crate::comm::{Comm, Launcher, Place};

/// As PyTorch's and MMEngine's.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Loads the library and meets the others.
pub fn join(started: &Started, files: &[String]) -> Result<Arc<dyn Comm>> {
    static JOINED: OnceLock<()> = OnceLock::new();
    if JOINED.set(()).is_err() {
        return Err(Error::Comm(
            "this process has joined the others before: MPI begins once a process".into(),
        ));
    }
    let patience = (started.rank == 0).then(tell_of_the_wait);
    let library = Library::begin(files)?;
    drop(patience);
    let (rank, world) = (library.rank, library.world);
    if (rank, world) != (started.rank, started.world) {
        return Err(Error::config(format!(
            "the launcher started {} processes, of which this is rank {}, but {} ({}) says that it is rank {rank} of \
             {world}: this is not the launcher's library; name that one in SHANTY_MPI, or put its folder into \
             LD_LIBRARY_PATH{}",
            started.world,
            started.rank,
            library.version,
            library.file,
            if started.by == Some(Launcher::Slurm) {
                "; `srun --mpi=pmix` is for Open MPI, `--mpi=pmi2` for MPICH"
            } else {
                ""
            }
        )));
    }
    let place = Place { rank, world, local_rank: 0, local_world: 1 };
    let state = State {
        calls: 0,
        sums: BTreeMap::new(),
        spare: Vec::new(),
        words: Words::begin(library, place)?,
        silent: false,
        patience: PATIENCE,
    };
    let mut mpi = Mpi { library, place, state: Mutex::new(state) };
    // A rank that has failed already is heard of again in the next call, by a process that has joined and can end in order.
    if let Ok(machines) = mpi.gather(library.machine().as_bytes()) {
        let here = |rank: &usize| machines.get(*rank) == machines.get(mpi.place.rank);
        mpi.place.local_rank = (0..rank).filter(here).count();
        mpi.place.local_world = (0..world).filter(here).count();
    }
    Ok(Arc::new(mpi))
}

/// A process that waits this long for the others to begin says so.
const STARTS: Duration = Duration::from_secs(20);

/// MPI begins when all processes have begun: one that cannot, or is another program, is waited for without a word. Tells of
/// the wait, and ends it, until what is given back is dropped.
fn tell_of_the_wait() -> Sender<()> {
    let (waits, joined) = channel::<()>();
    let watch = move || {
        if joined.recv_timeout(STARTS) == Err(RecvTimeoutError::Timeout) {
            log::warn!(
                "the processes of the launcher have not all begun after {STARTS:?}: one of them may be another program, or \
                 have no MPI library that it can load"
            );
            if joined.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                log::error!("the processes of the launcher have not all begun: giving up");
                std::process::exit(2);
            }
        }
    };
    // Without a thread it is waited for as by any program of MPI.
    let _ = thread::Builder::new().name("mpi start".to_owned()).spawn(watch);
    waits
}
