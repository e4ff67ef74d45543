#!/usr/bin/env bash
# Inference of shanty, its layers one by one and fused, beside PyTorch's modes and ONNX Runtime in one run: images/s.
#
#   scripts/bench_inference.sh [NAME...]            default: resnet18 resnet50 mobilenet_v2 inception
#
# Environment: PYTHON (python3, with torchvision), BATCH (1), SIZE (224), THREADS (2), ROUNDS (20).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} BATCH=${BATCH:-1} SIZE=${SIZE:-224} THREADS=${THREADS:-2} ROUNDS=${ROUNDS:-20}
bench=${CARGO_TARGET_DIR:-target}/release/examples/bench_infer
[ -x "$bench" ] || { echo "no $bench: run cargo build --release --example bench_infer first" >&2; exit 2; }
[ $# -gt 0 ] || set -- resnet18 resnet50 mobilenet_v2 inception

# A convolution without offset, batch norm and ReLU: IN OUT KERNEL [STRIDE].
conv() {
  echo "{type: Conv2d, in_channels: $1, out_channels: $2, kernel_size: $3, stride: ${4:-1}, padding: $(($3 / 2)), bias: false}," \
    "{type: BatchNorm2d, num_features: $2}, {type: ReLU}"
}

# GoogLeNet's stem, and the first of its blocks (Szegedy et al. 2015, table 1: 3a): 256 features.
inception() {
  local pool="{type: MaxPool2d, kernel_size: 3, stride: 2, padding: 1}" same="{type: MaxPool2d, kernel_size: 3, stride: 1, padding: 1}"
  echo "{type: Sequential, layers: [$(conv 3 64 7 2), $pool, $(conv 64 64 1), $(conv 64 192 3), $pool, {type: Concat, branches: [" \
    "[$(conv 192 64 1)], [$(conv 192 96 1), $(conv 96 128 3)], [$(conv 192 16 1), $(conv 16 32 5)], [$same, $(conv 192 32 1)]]}]}"
}

# The network of torchvision's name, with its pooling and its thousand classes; then its features.
network() {
  case $1 in
    inception) echo "$(inception) 256" ;;
    resnet*) echo "{type: ResNet, depth: ${1#resnet}} $([ "${1#resnet}" -lt 50 ] && echo 512 || echo 2048)" ;;
    mobilenet_v2) echo "{type: MobileNetV2} 1280" ;;
    *) echo "no network $1: resnet18, resnet50, …, mobilenet_v2, inception" >&2; exit 2 ;;
  esac
}

echo "batch $BATCH, $SIZE px, threads $THREADS, median of $ROUNDS, torch $($PYTHON -c 'import torch; print(torch.__version__)')"
for name; do
  of=$(network "$name")
  layers="[${of% *}, {type: GlobalAveragePooling}, {type: Linear, in_features: ${of##* }, out_features: 1000}]"
  sizes=(--batch "$BATCH" --size "$SIZE" --threads "$THREADS" --rounds "$ROUNDS")
  { "$bench" "$layers" "${sizes[@]}" | sed 's/^/shanty /'; $PYTHON scripts/peers/infer.py "$name" "${sizes[@]}" 2>/dev/null; } | sed "s/^/$name: /"
done
