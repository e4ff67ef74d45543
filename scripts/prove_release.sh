#!/usr/bin/env bash
# What users build: the command and the long examples with all optimizations, what the loop costs without a model, and the
# README's first command. CI runs the same from its debug build, where the release build would take as long as all else.
#
#   scripts/prove_release.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --bins --example activations --example imbalance
for example in activations imbalance; do
  echo "== example $example"
  "target/release/examples/$example"
done
echo "== what the loop costs without a model"
cargo bench --locked --bench dispatch
echo "== train the embedded digits"
target/release/shanty train configs/digits_lenet.yaml --work-dir target/ci_digits --overwrite
echo "== any number of any type, not a third of them"
SHANTY_FULL=1 cargo test --release --locked --test bounds
