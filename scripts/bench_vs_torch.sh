#!/usr/bin/env bash
# shanty against PyTorch, alternately in one run: samples/s of training, the ratio with its min-max over the pairs, and the peak memory.
#
#   scripts/bench_vs_torch.sh [MODEL...]            default: mlp lenet5 resnet20 resnet18 vit
#                                                   others: resnet50 mobilenet_v2 shufflenet_v2 unet lstm transformer
#
# Environment: PYTHON (python3, with torchvision for those of 224 px), BATCH (64, 32 of the transformer, 16 at 224 px), THREADS (2),
# ROUNDS (5), MODES ("eager channels_last compile compile_channels_last"; a network of no images has no channels last),
# DTYPES ("float32 bfloat16": also in mixed precision, an AmpOptimWrapper here and autocast there),
# TUNED=1: both sides keep their freed memory (glibc's variables below). Each round runs shanty once and then every mode of PyTorch once,
# in each precision; a mode that did not come within 20 % of the best of its precision in two rounds is left out of the others. The mode
# with the best median counts.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} THREADS=${THREADS:-2} ROUNDS=${ROUNDS:-5}
MODES=${MODES:-eager channels_last compile compile_channels_last} DTYPES=${DTYPES:-float32 bfloat16}
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

# The rate, and MiB at the peak.
figures() { sed -n 's|.*images/s \([0-9.]*\).*memory at the peak \([0-9]*\) MiB.*|\1 \2|p' | head -n 1; }

# Enough iterations for a median, few enough for a round in seconds.
iterations() {
  case $1 in
    mlp) echo 1500 ;; lenet5) echo 600 ;; resnet18) echo 7 ;; lstm) echo 12 ;; mobilenet_v2 | shufflenet_v2) echo 6 ;;
    resnet50 | unet | transformer) echo 4 ;; *) echo 20 ;;
  esac
}

batch() { case $1 in resnet50 | mobilenet_v2 | shufflenet_v2) echo 16 ;; transformer) echo 32 ;; *) echo 64 ;; esac; }

# The name of a side with its precision, and back.
named() { if [ "$2" = bfloat16 ]; then echo "$1_bf16"; else echo "$1"; fi; }
dtype_of() { case $1 in *_bf16) echo bfloat16 ;; *) echo float32 ;; esac; }

echo "threads $THREADS, $ROUNDS rounds, $([ "${TUNED:-0}" = 1 ] && echo 'memory kept' || echo 'default allocator'), torch $($PYTHON -c 'import torch; print(torch.__version__)')"
samples=$(mktemp) && trap 'rm -f "$samples"' EXIT
for model; do
  n=$(iterations "$model") size=${BATCH:-$(batch "$model")} modes=$MODES
  case $model in lstm | transformer) modes=$(printf '%s\n' $MODES | grep -v channels_last | xargs) ;; esac
  own=$(for dtype in $DTYPES; do named shanty "$dtype"; done)
  modes=$(for dtype in $DTYPES; do for mode in $modes; do named "$mode" "$dtype"; done; done)
  : >"$samples"
  for round in $(seq "$ROUNDS"); do
    for who in $own $modes; do
      settle
      args=("$model" --dtype "$(dtype_of "$who")" --batch "$size" --threads "$THREADS" --iters "$n")
      case $who in
        shanty*) found=$("$bench" "${args[@]}" | figures) ;;
        *) found=$($PYTHON scripts/peers/train.py "${args[@]}" --mode "${who%_bf16}" | figures) ;;
      esac
      [ -n "$found" ] || { echo "$model: $who printed no images/s" >&2; exit 1; }
      echo "$round $who $found" >>"$samples"
    done
    [ "$round" != 2 ] || modes=$($PYTHON scripts/peers/ratio.py --contenders <"$samples")
  done
  $PYTHON scripts/peers/ratio.py "$model, batch $size" <"$samples"
done
