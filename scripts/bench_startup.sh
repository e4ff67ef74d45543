#!/usr/bin/env bash
# How long shanty takes to begin: `list`, `check`, and the first iteration of the embedded digits. Wall time from before the process is
# made; medians (min-max).
#
#   scripts/bench_startup.sh [RUNS]            default: 30
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-30} PYTHON=${PYTHON:-python3}
shanty=${CARGO_TARGET_DIR:-target}/release/shanty
[ -x "$shanty" ] || { echo "no $shanty: run cargo build --release first" >&2; exit 2; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
timed="$PYTHON scripts/peers/timed.py"
{
  $timed --times "$runs" floor true
  $timed --times "$runs" list "$shanty" list
  $timed --times "$runs" check "$shanty" check configs/digits_lenet.yaml
  for _ in $(seq "$runs"); do
    RUST_LOG=info,shanty=debug $timed --first "iteration 1 begins" train "$shanty" train configs/digits_lenet.yaml --work-dir "$work/run" \
      --set train_cfg.max_epochs=1
    rm -rf "$work/run"
  done
} >"$work/samples"
$PYTHON scripts/peers/spread.py <"$work/samples"
