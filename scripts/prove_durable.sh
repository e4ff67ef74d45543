#!/bin/sh
# The long forms of what tests/ shows in short: real kills, the whole product of verify-resume, fuzzing, the stall of a save,
# the price of looking for NaN. About an hour; `FUZZ=60 KILLS=20 TERMS=5` for less.
set -eu
cd "$(dirname "$0")/.."
SHANTY_KILLS="${KILLS:-200}" SHANTY_TERMS="${TERMS:-50}" cargo test --release --test kill -- --nocapture --test-threads 1
cargo test --release --test checkpoint wherever -- --nocapture
SHANTY_FULL=1 cargo test --release --test verify_resume -- --nocapture
SHANTY_FUZZ_SECONDS="${FUZZ:-600}" cargo test --release --test fuzz -- --nocapture --test-threads 1
cargo run --release --example save_stall
cargo build --release
for round in 1 2 3 4 5; do
    for hook in 'null' '[{type: CheckInvalidLossHook, action: rollback, check: all}]'; do
        dir="$(mktemp -d)"
        began="$(date +%s.%N)"
        ./target/release/shanty train configs/digits_lenet.yaml --work-dir "$dir" --no-validate \
            --set train_cfg.max_epochs=5 param_scheduler=null default_hooks.checkpoint.save_best=null custom_hooks="$hook" >/dev/null 2>&1
        echo "$round: $(date +%s.%N) - $began" | awk -v h="$hook" '{print "round", $1, $2 - $4, "s with custom_hooks:", h}'
        rm -rf "$dir"
    done
done
