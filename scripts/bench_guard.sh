#!/usr/bin/env bash
# What became slower from one commit to another: single kernels and training steps of models, in alternating runs of both.
#
#   scripts/bench_guard.sh OLD NEW [MODEL...]       OLD and NEW: whatever git knows; NEW may be . for the files as they lie here
#                                                   default: mlp lenet5 resnet20 resnet18 vit
#
# Environment: ROUNDS (5 pairs), THREADS (2), BATCH (64), LIMIT (5: percent), KERNELS (all: a part of their names; none: no kernels),
# DTYPES ("float32"; "float32 bfloat16" where both commits have mixed precision), GUARD_DIR (target/guard: two builds of about 1 GB, which
# the next comparison of the same commits uses again), PYTHON (python3).
#
# Both commits are built into folders of their own. Each round runs old and new one after the other, the next one new and old. Of each figure
# the median of the pairs' ratios counts, and its noise is half the distance between the quartiles of these ratios: slower is what is behind by
# more than LIMIT percent even when the noise is taken off. Exit code: 0 nothing is slower, 1 something is, 2 it could not be measured.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
old=$1 new=$2 && shift 2
[ $# -gt 0 ] || set -- mlp lenet5 resnet20 resnet18 vit
ROUNDS=${ROUNDS:-5} THREADS=${THREADS:-2} BATCH=${BATCH:-64} LIMIT=${LIMIT:-5} KERNELS=${KERNELS:-all} DTYPES=${DTYPES:-float32}
PYTHON=${PYTHON:-python3}
mkdir -p "${GUARD_DIR:=target/guard}" && GUARD_DIR=$(cd "$GUARD_DIR" && pwd)

# Builds the two benchmarks of a commit; gives the folder that they are in.
build() {
  local commit tree
  if [ "$1" = . ]; then
    commit=here tree=$PWD
  else
    commit=$(git rev-parse --verify --quiet "$1^{commit}") || { echo "git knows no commit $1" >&2; exit 2; }
    tree=$GUARD_DIR/$commit/tree
  fi
  if [ "$1" != . ] && [ -x "$GUARD_DIR/$commit/release/examples/bench_kernels" ]; then
    echo "$GUARD_DIR/$commit/release/examples"
    return
  fi
  echo "building $1" >&2
  [ "$1" = . ] || [ -e "$tree" ] || git worktree add --quiet --detach "$tree" "$commit"
  (cd "$tree" && CARGO_TARGET_DIR=$GUARD_DIR/$commit cargo build --release --quiet --locked --example bench --example bench_kernels) || exit 2
  # The sources are not needed any more; what is built stays for the next time.
  [ "$1" = . ] || git worktree remove --force "$tree"
  echo "$GUARD_DIR/$commit/release/examples"
}
declare -A at
at[old]=$(build "$old")
at[new]=$(build "$new")

# One run of a side: lines of a figure's name and its milliseconds.
measure() {
  if [ "$KERNELS" != none ]; then
    "${at[$1]}/bench_kernels" "${KERNELS/#all/}" "$THREADS" "$BATCH" | sed -n 's|^\(.*[^ \t]\)[ \t]*\t *\([0-9.]*\) ms .*|\1\t\2|p'
  fi
  local model dtype
  for model in "${models[@]}"; do
    for dtype in $DTYPES; do
      local args=("$model" --batch "$BATCH" --threads "$THREADS")
      # A commit before mixed precision does not know the option.
      [ "$dtype" = float32 ] || args+=(--dtype "$dtype")
      "${at[$1]}/bench" "${args[@]}" | sed -n "s|.*ms/iteration \([0-9.]*\).*|$model $dtype\t\1|p"
    done
  done
}

models=("$@")
samples=$(mktemp) && trap 'rm -f "$samples"' EXIT
for round in $(seq "$ROUNDS"); do
  if [ $((round % 2)) = 1 ]; then order="old new"; else order="new old"; fi
  for side in $order; do
    measure "$side" | sed "s|^|$side\t|" >>"$samples"
  done
  echo "round $round of $ROUNDS" >&2
done
$PYTHON scripts/peers/slower.py --limit "$LIMIT" <"$samples"
