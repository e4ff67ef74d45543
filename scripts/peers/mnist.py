"""The MNIST IDX files (plain or .gz) as tensors, resized and normalised as in configs/mnist_lenet5.yaml."""

import gzip
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

MEAN, STD = 33.46, 78.87


def read(folder, name, skip):
    path = pathlib.Path(folder) / name
    raw = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(name + ".gz").read_bytes())
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=skip).copy())


def load_bytes(folder, split):
    """`split`: train or t10k. Images N x 1 x 28 x 28 as bytes, labels int64."""
    return read(folder, f"{split}-images-idx3-ubyte", 16).view(-1, 1, 28, 28), read(folder, f"{split}-labels-idx1-ubyte", 8).long()


def prepare(images):
    """N x 1 x 32 x 32, bilinear with half-pixel centres, normalised."""
    return F.interpolate(images.float(), (32, 32), mode="bilinear", align_corners=False).sub_(MEAN).div_(STD)


def load(folder, split):
    """The whole split, prepared."""
    images, labels = load_bytes(folder, split)
    return torch.cat([prepare(part) for part in images.split(1000)]), labels
