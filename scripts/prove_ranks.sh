#!/bin/sh
# The long form of tests/processes: a random rank killed at random instants, the launcher told to leave, a rank that hangs, under Open MPI
# and MPICH, where they are installed. It prints its counts. `KILLS=5 TERMS=2` for less; `LAUNCHER=mpich` or `openmpi` for one of them.
set -eu
cd "$(dirname "$0")/.."
export SHANTY_RANK_KILLS="${KILLS:-50}" SHANTY_RANK_TERMS="${TERMS:-20}" SHANTY_LAUNCHER="${LAUNCHER:-}"
cargo test --release --test processes signals -- --nocapture --test-threads 1
