#!/usr/bin/env bash
# A whole job, shanty and PyTorch alternately: LeNet-5 on MNIST, one epoch at batch 64 with its validation and its checkpoint.
#
#   SHANTY_MNIST=DIR scripts/bench_job.sh [RIVAL...]            default: mmengine plain
#
# SHANTY_MNIST is the folder of the MNIST IDX files (plain or .gz). Environment: PYTHON (python3), THREADS (2), ROUNDS (3).
# Prints medians (min-max) of wall time, time from the start of the process to the first iteration, and peak memory.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} THREADS=${THREADS:-2} ROUNDS=${ROUNDS:-3}
: "${SHANTY_MNIST:?is not set: the folder of the MNIST IDX files}"
shanty=${CARGO_TARGET_DIR:-target}/release/shanty
[ -x "$shanty" ] || { echo "no $shanty: run cargo build --release first" >&2; exit 2; }
[ $# -gt 0 ] || set -- mmengine plain
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
export RAYON_NUM_THREADS=$THREADS RUST_LOG=info,shanty=debug

ours() {
  $PYTHON scripts/peers/timed.py --first "iteration 1 begins" shanty "$shanty" train configs/mnist_lenet5.yaml --work-dir "$work/run" \
    --set train_cfg.max_epochs=1 train_dataloader.batch_size=64 \
    {train,val,test}_dataloader.dataset.data_prefix="$SHANTY_MNIST"
  sed -n 's|.*accuracy/top1: *\([0-9.]*\).*|shanty accuracy \1|p' "$work"/run/*/*.log | tail -n 1
  rm -rf "$work/run"
}

theirs() {
  $PYTHON scripts/peers/job_mnist.py "$1" --data "$SHANTY_MNIST" --batch 64 --threads "$THREADS" 2>/dev/null | sed -n \
    "s|.*first iteration at \([0-9.]*\) s, whole job \([0-9.]*\) s, peak memory \([0-9.]*\) MiB, accuracy \([0-9.]*\) %|$1 first_iteration_s \1\n$1 wall_s \2\n$1 peak_MiB \3\n$1 accuracy \4|p"
}

echo "batch 64, threads $THREADS, $ROUNDS rounds, torch $($PYTHON -c 'import torch; print(torch.__version__)')"
for _ in $(seq "$ROUNDS"); do
  ours
  for rival; do theirs "$rival"; done
done >"$work/samples"
$PYTHON scripts/peers/spread.py <"$work/samples"
