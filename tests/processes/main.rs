//! Several processes: real ones under `mpirun`, of Open MPI and of MPICH where they are installed, and ranks as threads.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // helpers of tests

#[cfg(feature = "cli")]
mod command;
mod launcher;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod signals;
mod speak;
mod threads;
