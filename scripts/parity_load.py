"""Loads a LeNet-5 checkpoint of shanty into the same network in PyTorch, by name and strictly, and compares logits.

    python parity_load.py CHECKPOINT_DIR LOGITS.json

CHECKPOINT_DIR holds model.safetensors with the names `backbone.features.0.weight`, …; LOGITS.json is
{"inputs": N x 1 x 32 x 32, already normalised, "logits": N x 10}, as nested lists or as {"shape": [..], "data": [..]}.
Exits with 1 if a logit differs by more than 1e-5.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

from peers.models import LeNet5

TOLERANCE = 1e-5


def tensor(value):
    if isinstance(value, dict):
        return torch.tensor(value["data"], dtype=torch.float32).view(value["shape"])
    return torch.tensor(value, dtype=torch.float32)


if len(sys.argv) != 3:
    sys.exit(__doc__)
weights = load_file(pathlib.Path(sys.argv[1]) / "model.safetensors")
net = torch.nn.ModuleDict({"backbone": LeNet5()}).eval()
net.load_state_dict(weights, strict=True)
file = json.loads(pathlib.Path(sys.argv[2]).read_text())
inputs, ours = tensor(file["inputs"]), tensor(file["logits"])
if len(inputs) == 0 or ours.shape != (len(inputs), 10):
    sys.exit(f"{sys.argv[2]}: {list(ours.shape)} logits for {list(inputs.shape)} inputs")
with torch.no_grad():
    theirs = net["backbone"](inputs.view(-1, 1, 32, 32))
worst = (ours - theirs).abs().max().item()
print(f"{len(weights)} tensors loaded by name, {len(inputs)} images: logits up to {theirs.abs().max():.3f}, differ by at most {worst:.1e}")
sys.exit(not worst <= TOLERANCE)  # so that NaN fails
