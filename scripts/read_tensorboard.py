#!/usr/bin/env python3
"""Reads a run's file of TensorBoard by TensorBoard's own reader and compares it with the event log.

    pip install tensorboard
    scripts/read_tensorboard.py work_dirs/digits_lenet/20261125_030000/vis_data

Every scalar must be there with its step and value, and none twice.
"""
import json
import struct
import sys
from collections import defaultdict
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

vis_data = Path(sys.argv[1])
wanted = defaultdict(list)
histograms = 0
# Not `splitlines`, which also ends lines at characters that a text within one may hold.
for line in (vis_data / "events.jsonl").read_text(encoding="utf-8").split("\n"):
    if not line:
        continue
    event = json.loads(line)
    histograms += event["event"] == "histogram"
    if event["event"] in ("train", "val", "test", "scalars"):
        prefix = "test/" if event["event"] == "test" else ""
        for name, value in event.items():
            if name not in ("event", "wall_time", "epoch", "iter", "step"):
                wanted[prefix + name.removeprefix("/")].append((event["step"], float(value)))

board = EventAccumulator(sys.argv[2] if len(sys.argv) > 2 else str(vis_data), size_guidance={"scalars": 0, "histograms": 0})
board.Reload()
tags = board.Tags()
assert set(tags["scalars"]) == set(wanted), set(tags["scalars"]) ^ set(wanted)
scalars = 0
for tag, values in wanted.items():
    read = [(event.step, event.value) for event in board.Scalars(tag)]
    single = [(step, struct.unpack("f", struct.pack("f", value))[0]) for step, value in values]
    assert repr(read) == repr(single), (tag, read[:5], single[:5])
    scalars += len(read)
assert sum(len(board.Histograms(tag)) for tag in tags["histograms"]) == histograms
assert "config" in tags["tensors"], tags["tensors"]
text = board.Tensors("config")[0].tensor_proto.string_val[0].decode()
data = {
    tag: plugin_data_pb2.HParamsPluginData.FromString(board.SummaryMetadata(tag).plugin_data.content)
    for tag in tags["tensors"] + [t for t in board.PluginTagToContent("hparams")]
    if tag.startswith("_hparams_/")
}
start = data["_hparams_/session_start_info"].session_start_info
metrics = [metric.name.tag for metric in data["_hparams_/experiment"].experiment.metric_infos]
print(f"{scalars} scalars of {len(wanted)} tags, {histograms} histograms, {len(text)} characters of config, "
      f"{len(start.hparams)} hyperparameters, metrics {metrics}, "
      f"status {data['_hparams_/session_end_info'].session_end_info.status}")
