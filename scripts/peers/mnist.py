"""The MNIST IDX files (plain or .gz) as tensors: images N x 1 x 32 x 32, resized and normalised as in configs/mnist_lenet5.yaml."""

import gzip
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

MEAN, STD = 33.46, 78.87


def read(folder, name, skip):
    path = pathlib.Path(folder) / name
    if path.exists():
        raw = path.read_bytes()
    else:
        raw = gzip.decompress(path.with_name(name + ".gz").read_bytes())
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=skip).copy())


def load(folder, split):
    """`split`: train or t10k."""
    images = read(folder, f"{split}-images-idx3-ubyte", 16).view(-1, 1, 28, 28)
    x = torch.cat([F.interpolate(part.float(), (32, 32), mode="bilinear", align_corners=False) for part in images.split(1000)])
    return x.sub_(MEAN).div_(STD), read(folder, f"{split}-labels-idx1-ubyte", 8).long()
