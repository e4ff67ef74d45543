#!/usr/bin/env bash
# What a framework adds to an iteration of a model that does nothing, alternately: shanty and the kinds of peers/overhead.py.
#
#   scripts/bench_overhead.sh [KIND...]            default: loop mmengine mmengine_bare lightning lightning_bare ignite ignite_hooks
#
# Environment: PYTHON (python3), ROUNDS (3), ITERS (10000, of the peers; shanty runs a million). Prints medians (min-max) of the rounds,
# ours in nanoseconds, theirs in microseconds an iteration.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} ROUNDS=${ROUNDS:-3} ITERS=${ITERS:-10000}
[ $# -gt 0 ] || set -- loop mmengine mmengine_bare lightning lightning_bare ignite ignite_hooks
samples=$(mktemp) && trap 'rm -f "$samples"' EXIT
cargo build --release --benches --quiet
for _ in $(seq "$ROUNDS"); do
  cargo bench --quiet --bench dispatch | sed -nE \
    's/^(without hooks|the six default hooks|and a line every 10 iterations) +([0-9]+) \([^)]*\) +([0-9]+) \([^)]*\) +([0-9]+) \(.*/shanty, \1, to 10k, ns \2\nshanty, \1, 10k-100k, ns \3\nshanty, \1, 100k-1M, ns \4/p'
  for kind; do
    $PYTHON scripts/peers/overhead.py "$kind" --iters "$ITERS" 2>/dev/null | sed -n "s|.*: \([0-9.]*\) us an iteration.*|$kind, us \1|p"
  done
done >"$samples"
$PYTHON scripts/peers/spread.py <"$samples"
