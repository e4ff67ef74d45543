#!/usr/bin/env bash
# Whether the memory of a training grows: a small network on the embedded digits, 200,000 iterations, a log line every 10, a checkpoint
# every 20,000. Prints resident memory at tenths of the run, and the peak.
#
#   scripts/bench_memory.sh [ITERATIONS]            default: 200000
set -euo pipefail
cd "$(dirname "$0")/.."
iters=${1:-200000} PYTHON=${PYTHON:-python3}
shanty=${CARGO_TARGET_DIR:-target}/release/shanty
[ -x "$shanty" ] || { echo "no $shanty: run cargo build --release first" >&2; exit 2; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
$PYTHON scripts/peers/rss.py "$shanty" train configs/digits_mlp_sequential.yaml --work-dir "$work/run" --set "train_cfg.max_iters=$iters" \
  train_cfg.val_interval=20000 default_hooks.checkpoint.interval=20000 default_hooks.logger.interval=10
