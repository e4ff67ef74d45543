#!/usr/bin/env bash
# A run against a real server of MLflow on this machine: its metrics, parameters, tags and files as MLflow's own client
# reads them; a run that is killed goes on in the same run there; a server that is killed ends no run and gets what it
# lacks when it is back. MLflow is installed into a folder of its own, which goes at the end; MLFLOW_ENV names a virtual
# environment that has it, SHANTY the program, PORT the port.
set -euo pipefail
cd "$(dirname "$0")/.."
SHANTY=${SHANTY:-target/release/shanty} PORT=${PORT:-5055}
TMP=$(mktemp -d)
SERVER=
stop() {
    if [ -n "$SERVER" ]; then
        kill -9 -- "-$SERVER" 2>/dev/null || true
        wait "$SERVER" 2>/dev/null || true
    fi
    SERVER=
}
trap 'stop; rm -rf "$TMP"' EXIT

VENV=${MLFLOW_ENV:-$TMP/venv}
if [ ! -x "$VENV/bin/mlflow" ]; then
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet mlflow
fi

# Of a group of its own, so that its workers die with it.
serve() {
    setsid "$VENV/bin/mlflow" server --host 127.0.0.1 --port "$PORT" --workers 1 \
        --backend-store-uri "sqlite:///$TMP/ml.db" --artifacts-destination "$TMP/artifacts" >>"$TMP/server.log" 2>&1 &
    SERVER=$!
    for _ in $(seq 240); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then return; fi
        sleep 0.5
    done
    cat "$TMP/server.log"
    exit 1
}

# Starts a training in the background, of this experiment and so many epochs.
train() {
    local name=$1 epochs=$2
    shift 2
    "$SHANTY" train configs/digits_lenet.yaml --work-dir "$TMP/$name" "$@" --set "train_cfg.max_epochs=$epochs" \
        --set "vis_backends=[{type: LocalVisBackend}, {type: MLflowVisBackend, tracking_uri: 'http://127.0.0.1:$PORT', exp_name: $name, run_name: digits, tags: {who: check}, params: {note: 7}, timeout: 60}]" \
        >>"$TMP/$name.log" 2>&1 &
    RUN=$!
}

until_there() {
    for _ in $(seq 2400); do
        if [ -d "$1" ]; then return; fi
        sleep 0.05
    done
    echo "$1 does not come"
    exit 1
}

serve
echo "== a run that is killed goes on in the same run"
train killed 8
until_there "$TMP/killed/epoch_3"
kill -9 "$RUN"
wait "$RUN" 2>/dev/null || true
train killed 8 --resume
wait "$RUN"

echo "== a server that is killed in the middle gets what it lacks"
train gone "${EPOCHS:-200}"
until_there "$TMP/gone/epoch_3"
stop
until_there "$TMP/gone/epoch_8"
serve
wait "$RUN"

"$VENV/bin/python" - "$TMP" "$PORT" <<'P'
import collections, glob, json, sys
from pathlib import Path

from mlflow.tracking import MlflowClient

tmp, client = Path(sys.argv[1]), MlflowClient(f"http://127.0.0.1:{sys.argv[2]}")
for name in ["killed", "gone"]:
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1, runs
    (run,) = runs
    assert run.info.status == "FINISHED" and run.info.run_name == "digits", run.info
    assert run.data.tags["who"] == "check" and run.data.params["note"] == "7"
    assert run.data.params["optim_wrapper.optimizer.lr"] == "0.05", run.data.params
    log = sorted(glob.glob(str(tmp / name / "2*/vis_data/events.jsonl")))[-1]
    wanted = collections.defaultdict(list)
    for line in open(log, encoding="utf-8"):
        event = json.loads(line)
        if event["event"] in ("train", "val"):
            for key, value in event.items():
                if key not in ("event", "wall_time", "epoch", "iter", "step"):
                    wanted[key].append((event["step"], float(value)))
    metrics = 0
    for key, values in wanted.items():
        told = sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key))
        assert [step for step, _ in told] == [step for step, _ in values], (key, told, values)
        # What the clock measured before a kill it measures anew.
        if key.removeprefix("val/") not in ("time", "data_time", "memory"):
            assert told == values, (key, told, values)
        metrics += len(told)
    files, folders = [], [""]
    while folders:
        for entry in client.list_artifacts(run.info.run_id, folders.pop() or None):
            (folders if entry.is_dir else files).append(entry.path)
    for path in files:
        kept = Path(client.download_artifacts(run.info.run_id, path)).read_bytes()
        own = (tmp / name / path).read_bytes()
        # The log has gone on since.
        assert kept == own or path.endswith(".log") and own.startswith(kept), path
    stamp = Path(log).parts[-3]
    for path in ["digits_lenet.yaml", f"{stamp}/{stamp}.log", f"{stamp}/vis_data/config.yaml", f"{stamp}/vis_data/scalars.json"]:
        assert path in files, (path, files)
    assert any(path.endswith("manifest.json") for path in files), files
    print(f"{name}: {metrics} metrics of {len(wanted)} names, each step once; {len(run.data.params)} parameters, {len(files)} files")
P
