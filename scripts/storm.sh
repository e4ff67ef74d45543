#!/bin/sh
# Bad weather for real processes, in the long form of tests/kill.rs and tests/storm.rs: kills and signals at random
# instants, full disks, broken pipes, closed terminals, limits of the system. It prints its counts. As root it can mount
# small disks; otherwise that part is skipped. `KILLS=20 TERMS=5 STORM=10` for less.
set -eu
cd "$(dirname "$0")/.."
export SHANTY_KILLS="${KILLS:-200}" SHANTY_TERMS="${TERMS:-50}" SHANTY_STORM="${STORM:-60}"
cargo test --release --test kill --test storm -- --nocapture --test-threads 1
