#!/usr/bin/env bash
# Inference of shanty, its layers one by one and fused, beside PyTorch's modes and ONNX Runtime by turns: images/s, as a table.
#
#   scripts/bench_inference.sh [NAME...]            default: resnet18 resnet50 mobilenet_v2 inception
#
# Environment: PYTHON (python3, with torchvision), BATCHES ("1 16"), SIZE (224), THREADS (2), ROUNDS (5), PASSES (4, of each mode in a round).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} BATCHES=${BATCHES:-1 16} SIZE=${SIZE:-224} THREADS=${THREADS:-2} ROUNDS=${ROUNDS:-5} PASSES=${PASSES:-4}
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

echo "$SIZE px, threads $THREADS, medians of $ROUNDS rounds of $PASSES, torch $($PYTHON -c 'import torch; print(torch.__version__)')"
echo "| network, batch | one by one | fused | eager | channels last | compile | ONNX Runtime | fused / one by one | largest difference |"
echo "|---|---|---|---|---|---|---|---|---|"
for name; do
  of=$(network "$name")
  layers="[${of% *}, {type: GlobalAveragePooling}, {type: Linear, in_features: ${of##* }, out_features: 1000}]"
  for batch in $BATCHES; do
    $PYTHON scripts/peers/infer.py "$name" "$bench" "$layers" --batch "$batch" --size "$SIZE" --threads "$THREADS" --rounds "$ROUNDS" --passes "$PASSES"
  done
done
