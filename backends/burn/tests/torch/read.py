"""Evaluates a checkpoint of configs/mlp.yaml or configs/resnet.yaml in PyTorch, by name: what `test` says of it.

    cargo run --release --example resnet -- train configs/resnet.yaml --work-dir work_dirs/resnet
    cargo run --release --example resnet -- test configs/resnet.yaml work_dirs/resnet/epoch_6
    python tests/torch/read.py resnet work_dirs/resnet/epoch_6/model.safetensors
"""
import csv
import gzip
import pathlib
import sys

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from networks import Mlp, ResNet

with gzip.open(pathlib.Path(__file__).parents[4] / "assets/digits/digits.csv.gz", "rt") as file:
    rows = torch.tensor([[float(v) for v in row] for row in csv.reader(file) if row and row[0][0].isdigit()])
rows = rows[5::6]
images, labels = (rows[:, :64].reshape(-1, 1, 8, 8) - 4.88) / 6.0, rows[:, 64].long()
model = {"mlp": lambda: Mlp(128), "resnet": lambda: ResNet(8)}[sys.argv[1]]().eval()
told = model.load_state_dict(load_file(sys.argv[2]), strict=False)
assert not told.unexpected_keys and all(key.endswith("num_batches_tracked") for key in told.missing_keys), told
with torch.no_grad():
    scores = model(images)
right = (scores.argmax(1) == labels).float().mean() * 100
print(f"accuracy/top1 {right:.4f}  loss {F.cross_entropy(scores, labels):.6f}")
