#!/usr/bin/env bash
# shanty against PyTorch, alternately in one run: images/s of training, and the ratio with its min-max over the pairs.
#
#   scripts/bench_vs_torch.sh [MODEL...]            default: mlp lenet5 resnet20 resnet18 vit
#
# Environment: PYTHON (python3), BATCH (64), THREADS (2), ROUNDS (5), MODES ("eager channels_last compile"),
# TUNED=1: both sides keep their freed memory (glibc's variables below). Each round runs shanty once and then every mode of PyTorch once;
# a mode that did not come within 20 % of the best in two rounds is left out of the others. The mode with the best median counts.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} BATCH=${BATCH:-64} THREADS=${THREADS:-2} ROUNDS=${ROUNDS:-5} MODES=${MODES:-eager channels_last compile}
bench=target/release/examples/bench
[ -x "$bench" ] || { echo "no $bench: run cargo build --release --example bench first" >&2; exit 2; }
[ $# -gt 0 ] || set -- mlp lenet5 resnet20 resnet18 vit
if [ "${TUNED:-0}" = 1 ]; then
  export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
fi

# What a compiling PyTorch leaves behind ends some time after it: waits until the processors have been idle for 0.3 s, 15 s at most.
settle() {
  [ -r /proc/stat ] || return 0
  local before after
  for _ in $(seq 50); do
    before=($(head -n 1 /proc/stat)) && sleep 0.3 && after=($(head -n 1 /proc/stat))
    local idle=$((after[4] - before[4])) all=0
    for i in 1 2 3 4 5 6 7 8; do all=$((all + after[i] - before[i])); done
    [ $((100 * idle)) -lt $((93 * all)) ] || return 0
  done
}

images_per_second() { sed -n 's|.*images/s \([0-9.]*\).*|\1|p' | head -n 1; }

# Enough iterations for a median, few enough for a round in seconds.
iterations() { case $1 in mlp) echo 400 ;; lenet5) echo 150 ;; resnet18) echo 7 ;; *) echo 20 ;; esac; }

echo "batch $BATCH, threads $THREADS, $ROUNDS rounds, $([ "${TUNED:-0}" = 1 ] && echo 'memory kept' || echo 'default allocator'), torch $($PYTHON -c 'import torch; print(torch.__version__)')"
samples=$(mktemp) && trap 'rm -f "$samples"' EXIT
for model; do
  n=$(iterations "$model") modes=$MODES
  : >"$samples"
  for round in $(seq "$ROUNDS"); do
    for who in shanty $modes; do
      settle
      if [ "$who" = shanty ]; then
        rate=$("$bench" "$model" --batch "$BATCH" --threads "$THREADS" --iters "$n" | images_per_second)
      else
        rate=$($PYTHON scripts/peers/train.py "$model" --mode "$who" --batch "$BATCH" --threads "$THREADS" --iters "$n" | images_per_second)
      fi
      [ -n "$rate" ] || { echo "$model: $who printed no images/s" >&2; exit 1; }
      echo "$round $who $rate" >>"$samples"
    done
    [ "$round" != 2 ] || modes=$($PYTHON scripts/peers/ratio.py --contenders <"$samples")
  done
  $PYTHON scripts/peers/ratio.py "$model" <"$samples"
done
