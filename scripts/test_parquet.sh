#!/usr/bin/env bash
# Lints the build with `--features parquet` and tests what it exports, which CI has no time for: another set of features is
# another build of the library.
#
#   scripts/test_parquet.sh
#
# With PYTHON=…, a Python that has pyarrow, it also exports a run of the digits and has that read what the event log tells.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --features parquet --lib --bins -- -D warnings
cargo test --features parquet --test vis parquet
[ -n "${PYTHON:-}" ] || exit 0
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
shanty() { "${CARGO_TARGET_DIR:-target}/debug/shanty" "$@"; }
cargo build --features parquet --bin shanty
shanty train configs/digits_lenet.yaml --work-dir "$work/run" --set train_cfg.max_epochs=1 default_hooks.logger.interval=5 >/dev/null 2>&1
shanty export-logs "$work/run" --to parquet >/dev/null
"$PYTHON" - "$work/run" <<'PYTHON'
import glob, json, sys
import pyarrow.parquet

run = sys.argv[1]
[log] = glob.glob(f"{run}/*/vis_data/events.jsonl")
events = [json.loads(line) for line in open(log)]
[file] = glob.glob(f"{run}/**/train.parquet", recursive=True)
table = pyarrow.parquet.read_table(file).to_pydict()
told = [event for event in events if event["event"] == "train"]
for name in ["step", "epoch", "iter", "loss", "lr"]:
    assert told and table[name] == [event.get(name) for event in told], (name, table[name][:3], told[:1])
print(f"{len(told)} lines of training are read by pyarrow {pyarrow.__version__} with equal numbers")
PYTHON
