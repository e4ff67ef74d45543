#!/bin/sh
# The long form of tests/processes: a random rank killed at random instants, the launcher told to leave, a rank that hangs, under Open MPI
# and MPICH, where they are installed. It prints its counts. `KILLS=5 TERMS=2` for less; `LAUNCHER=mpich` or `openmpi` for one of them.
# As root also a training alone in a folder that has nothing but the command, what it is linked with, and the configs: no MPI.
set -eu
cd "$(dirname "$0")/.."
export SHANTY_RANK_KILLS="${KILLS:-50}" SHANTY_RANK_TERMS="${TERMS:-20}" SHANTY_LAUNCHER="${LAUNCHER:-}"
cargo test --release --test processes signals -- --nocapture --test-threads 1

if [ "$(id -u)" = 0 ]; then
    bare=$(mktemp -d) && trap 'rm -rf "$bare"' EXIT
    cp -r target/release/shanty configs "$bare"
    for library in $(ldd target/release/shanty | grep -o '/[^ ]*'); do
        mkdir -p "$bare$(dirname "$library")" && cp -L "$library" "$bare$library"
    done
    find "$bare" -name '*mpi*' | grep . && exit 1
    chroot "$bare" /shanty train configs/digits_lenet.yaml train_cfg.max_epochs=1 >/dev/null 2>&1
    echo "without any MPI library: trained alone"
fi
