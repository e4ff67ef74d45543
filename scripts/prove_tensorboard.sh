#!/usr/bin/env bash
# Kills a training (SIGKILL) behind a checkpoint, resumes it, and reads its files of TensorBoard by TensorBoard's own reader: every scalar
# with its step, and none twice.
#
#   PYTHON=venv/bin/python scripts/prove_tensorboard.sh        needs `pip install tensorboard`
#
# SHANTY is the program (target/release/shanty).
set -euo pipefail
cd "$(dirname "$0")/.."
SHANTY=${SHANTY:-${CARGO_TARGET_DIR:-target}/release/shanty} PYTHON=${PYTHON:-python3}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
train() {
  exec "$SHANTY" -q train configs/digits_lenet.yaml --work-dir "$work/run" --set train_cfg.max_epochs=6 default_hooks.logger.interval=1 \
    'vis_backends=[{type: LocalVisBackend}, {type: TensorboardVisBackend}]' 'custom_hooks=[{type: HistogramHook, interval: 50}]' "$@"
}
train & child=$!
until [ -e "$work/run/epoch_2/manifest.json" ]; do sleep 0.05; done
kill -KILL $child
wait $child 2>/dev/null || true
(train --resume)
newest=$(ls -d "$work/run"/2*/vis_data | tail -n 1)
"$PYTHON" scripts/read_tensorboard.py "$newest"
