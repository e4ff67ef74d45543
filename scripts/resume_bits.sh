#!/usr/bin/env bash
# One run of four epochs, the same run stopped and resumed, the same run killed in mid-epoch and resumed; with 0 and 2 loader
# workers, on 1 and 2 threads. All final weights must have one hash.
#
#   cargo build --release && scripts/resume_bits.sh
set -euo pipefail
cd "$(dirname "$0")/.."
shanty=${SHANTY:-target/release/shanty}
config=configs/digits_lenet.yaml
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT

run() { # work_dir, epochs, more arguments
    local dir=$1 epochs=$2
    shift 2
    "$shanty" train $config --work-dir "$dir" --set train_cfg.max_epochs="$epochs" \
        --set default_hooks.checkpoint.max_keep_ckpts=-1 "$@" >/dev/null 2>>"$runs/log"
}

for workers in 0 2; do
    for threads in 1 2; do
        export RAYON_NUM_THREADS=$threads
        at=$workers$threads
        data=(--set train_dataloader.num_workers=$workers)
        run "$runs/whole_$at" 4 "${data[@]}"
        run "$runs/stopped_$at" 2 "${data[@]}"
        run "$runs/stopped_$at" 4 "${data[@]}" --resume
        often=(--set default_hooks.checkpoint.interval=10 --set default_hooks.checkpoint.by_epoch=false)
        run "$runs/killed_$at" 4 "${data[@]}" "${often[@]}" &
        pid=$!
        until [ -e "$runs/killed_$at/iter_110" ]; do sleep 0.05; done
        pkill -9 -P $pid || true
        wait $pid || true
        echo "killed at $(cat "$runs/killed_$at/last_checkpoint")"
        run "$runs/killed_$at" 4 "${data[@]}" "${often[@]}" --resume
    done
done
sha256sum "$runs"/*/epoch_4/model.safetensors "$runs"/*/iter_188/model.safetensors | cut -d' ' -f1 | sort | uniq -c |
    tee "$runs/hashes"
[ "$(wc -l <"$runs/hashes")" = 1 ]
