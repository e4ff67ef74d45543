"""What the eight tasks share: the samples that shanty dumped, the training loop, the figures.

Each task is a script beside this one:   python houses.py DIR [--seed 0] [--threads 2]

DIR holds what `cargo run --release --example dump_data -- configs/houses_mlp.yaml DIR` wrote: the samples after the whole
preprocessing of the config. It prints a line of JSON: the figure of the last epoch, and the seconds of the training loop
(without the import of PyTorch, and without validations).
"""

import argparse
import json
import math
import time

import torch
from torch import nn

TYPES = {"F32": torch.float32, "I64": torch.int64}


def read(path):
    """The tensors of a .safetensors file by name."""
    with open(path, "rb") as f:
        bytes_ = f.read()
    begin = 8 + int.from_bytes(bytes_[:8], "little")
    header = json.loads(bytes_[8:begin])
    header.pop("__metadata__", None)
    data = bytearray(bytes_[begin:])

    def tensor(about):
        a, b = about["data_offsets"]
        return torch.frombuffer(data[a:b], dtype=TYPES[about["dtype"]]).reshape(about["shape"])

    return {name: tensor(about) for name, about in header.items()}



def run(net, loss, figure, *, epochs, batch, lr=0.01, cosine=False, augment=None):
    """Trains `net` on `loss(net, fields)` with Adam, and prints `figure(net, fields)` of the validation data.

    `net` makes the network, after the seed is set. With `cosine` the learning rate goes to 0 by iterations.
    """
    args = argparse.ArgumentParser()
    args.add_argument("data")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train, val = (read(f"{args.data}/{part}.safetensors") for part in ("train", "val"))
    net = net()
    n = len(train["inputs"])
    steps = epochs * math.ceil(n / batch)
    began = time.perf_counter()
    opt = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps) if cosine else None
    net.train()
    for _ in range(epochs):
        order = torch.randperm(n)
        for begin in range(0, n, batch):
            rows = order[begin : begin + batch]
            fields = {name: values[rows] for name, values in train.items()}
            if augment:
                augment(fields)
            opt.zero_grad()
            loss(net, fields).backward()
            opt.step()
            if schedule:
                schedule.step()
    seconds = time.perf_counter() - began
    net.eval()
    with torch.no_grad():
        figures = figure(net, val)
    print(json.dumps({**{name: float(value) for name, value in figures.items()}, "seconds": seconds}))


def r2(predicted, target):
    """The mean over the columns, as scikit-learn's."""
    rest = ((predicted - target) ** 2).sum(0)
    return (1 - rest / ((target - target.mean(0)) ** 2).sum(0)).mean()


def f1(given, actual):
    """The mean F1 of the labels, in percent."""
    hits = (given & actual).sum(0)
    return (200 * hits / (given.sum(0) + actual.sum(0)).clamp(min=1)).mean()


def top1(scores, target):
    return 100 * (scores.argmax(1) == target).double().mean()
