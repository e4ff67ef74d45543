#!/usr/bin/env bash
# What logging costs: LeNet-5 on the embedded digits with a line every 10 iterations and all backends that write files, and
# without a line, by turns. Iterations alone, in samples a second as a training's end tells them; no validation, no save.
#
#   scripts/bench_logging.sh [ROUNDS]          default: 7
#
# Environment: SHANTY (target/release/shanty), EPOCHS (20), CONFIG (configs/digits_lenet.yaml), PYTHON (python3); SHANTY_MNIST, the
# folder of MNIST's IDX files, for CONFIG=configs/mnist_lenet5.yaml. Prints medians (min-max), and by how many per cent a round with
# logging was slower than the round beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-7} SHANTY=${SHANTY:-${CARGO_TARGET_DIR:-target}/release/shanty} EPOCHS=${EPOCHS:-20}
CONFIG=${CONFIG:-configs/digits_lenet.yaml} PYTHON=${PYTHON:-python3}
[ -x "$SHANTY" ] || { echo "no $SHANTY: run cargo build --release first" >&2; exit 2; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT

all='vis_backends=[{type: LocalVisBackend}, {type: CsvVisBackend}, {type: TensorboardVisBackend}]'
data=() && [ -z "${SHANTY_MNIST:-}" ] || data=({train,test}_dataloader.dataset.data_prefix="$SHANTY_MNIST")
# Samples a second of a run with these changes.
rate() {
  "$SHANTY" train "$CONFIG" --work-dir "$work/run" --overwrite --no-validate --no-sanity --set "train_cfg.max_epochs=$EPOCHS" \
    default_hooks.checkpoint.interval=1000000 default_hooks.checkpoint.save_last=false default_hooks.checkpoint.save_best=null \
    "${data[@]}" "$@" 2>"$work/stderr" | sed -nE 's|^ *([0-9,.]+) samples/s in training.*|\1|p' | tr -d , ||
    { cat "$work/stderr" >&2 && return 1; }
}
rate default_hooks.logger.interval=1000000 >/dev/null # the files are read, the processor is awake
for round in $(seq "$rounds"); do
  # Who comes second in a round comes first in the next.
  if [ $((round % 2)) = 0 ]; then
    with=$(rate default_hooks.logger.interval=10 "$all") without=$(rate default_hooks.logger.interval=1000000)
  else
    without=$(rate default_hooks.logger.interval=1000000) with=$(rate default_hooks.logger.interval=10 "$all")
  fi
  printf 'every 10 iterations, three backends, samples/s %s\nno line, samples/s %s\n' "$with" "$without"
  awk -v a="$with" -v b="$without" 'BEGIN { printf "slower by, %% %.3f\n", 100 * (b / a - 1) }'
done >"$work/samples"
$PYTHON scripts/peers/spread.py <"$work/samples"
