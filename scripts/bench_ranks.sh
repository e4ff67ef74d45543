#!/usr/bin/env bash
# Two ranks of one thread against one, and PyTorch's DDP over gloo beside them, alternately in one run: images/s, and how many times those
# of one rank two have.
#
#   scripts/bench_ranks.sh [MODEL...]            default: mlp lenet5 resnet20
#
# Environment: PYTHON (python3), MPIRUN (mpirun), BATCH (64, of one rank), ROUNDS (5). Each rank keeps to a processor of its own. "apart"
# are two processes that know nothing of each other: what the machine allows.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} MPIRUN=${MPIRUN:-mpirun} BATCH=${BATCH:-64} ROUNDS=${ROUNDS:-5}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
bench=target/release/examples/bench_ranks
[ -x "$bench" ] || { echo "no $bench: run cargo build --release --example bench_ranks first" >&2; exit 2; }
[ $# -gt 0 ] || set -- mlp lenet5 resnet20
samples=$(mktemp) && trap 'rm -f "$samples"' EXIT

binding=(--bind-to none)
"$MPIRUN" --version 2>/dev/null | grep -q "Open MPI" || binding=()

# Each rank on the processor of its number.
ranks() { "$MPIRUN" "${binding[@]}" -np 2 sh -c 'exec taskset -c "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}" "$@"' sh "$bench" "$@"; }
rate() { sed -n 's|.*images/s \([0-9.]*\).*|\1|p' | head -n 1; }
iterations() { case $1 in mlp) echo 400 ;; lenet5) echo 200 ;; *) echo 20 ;; esac; }

for model; do
  with=(--batch "$BATCH" --iters "$(iterations "$model")")
  for _ in $(seq "$ROUNDS"); do
    one=$(taskset -c 0 "$bench" "$model" "${with[@]}" | rate)
    two=$(ranks "$model" "${with[@]}" | rate)
    apart=$(ranks "$model" "${with[@]}" --apart | rate)
    torch_one=$($PYTHON scripts/peers/ddp.py "$model" --world 1 "${with[@]}" | rate)
    torch_two=$($PYTHON scripts/peers/ddp.py "$model" --world 2 "${with[@]}" | rate)
    echo "$model $one $two $apart $torch_one $torch_two"
  done
done | tee /dev/stderr | awk '{
  print $1 ", shanty, images/s of 1 rank", $2; print $1 ", shanty, images/s of 2 ranks", $3
  print $1 ", shanty, 2 ranks to 1", $3 / $2; print $1 ", shanty, 2 processes apart to 1", 2 * $4 / $2
  print $1 ", torch, images/s of 1 rank", $5; print $1 ", torch, images/s of 2 ranks", $6; print $1 ", torch DDP, 2 ranks to 1", $6 / $5
}' >"$samples"
$PYTHON scripts/peers/spread.py <"$samples"
