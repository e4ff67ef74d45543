#!/usr/bin/env bash
# Accuracy on the embedded digits after 20 epochs of LeNet-5, over ten seeds in each precision: median (min-max).
#
#   cargo build --release && scripts/amp_seeds.sh
#
# Environment: SHANTY (target/release/shanty), SEEDS (10), DTYPES ("float32 bfloat16 float16"), CONFIG (configs/digits_lenet.yaml), PYTHON.
# The runs of one seed have the same weights, batches and augmentation. float32 is an AmpOptimWrapper that only scales its loss by a power of
# two: bit for bit a training without mixed precision.
set -euo pipefail
cd "$(dirname "$0")/.."
SHANTY=${SHANTY:-target/release/shanty} SEEDS=${SEEDS:-10} DTYPES=${DTYPES:-float32 bfloat16 float16}
CONFIG=${CONFIG:-configs/digits_lenet.yaml} PYTHON=${PYTHON:-python3}
[ -x "$SHANTY" ] || { echo "no $SHANTY: run cargo build --release first" >&2; exit 2; }
runs=$(mktemp -d) && trap 'rm -rf "$runs"' EXIT
for seed in $(seq 0 $((SEEDS - 1))); do
  for dtype in $DTYPES; do
    dir=$runs/${dtype}_$seed
    "$SHANTY" train "$CONFIG" --work-dir "$dir" --set "randomness.seed=$seed" \
      --set optim_wrapper.type=AmpOptimWrapper --set "optim_wrapper.dtype=$dtype" >"$dir.txt" 2>&1 || { cat "$dir.txt" >&2; exit 1; }
    accuracy=$(sed -n 's|.*"accuracy/top1": *\([0-9.]*\).*|\1|p' "$dir"/*/vis_data/scalars.json | tail -n 1)
    loss=$(sed -n 's|.*"val_loss": *\([0-9.e-]*\).*|\1|p' "$dir"/*/vis_data/scalars.json | tail -n 1)
    printf '%s accuracy %s\n%s val_loss %s\n' "$dtype" "$accuracy" "$dtype" "$loss"
    rm -rf "$dir"
  done
done | $PYTHON scripts/peers/spread.py
