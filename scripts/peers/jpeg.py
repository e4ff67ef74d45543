"""Loads JPEGs the way `examples/bench_jpeg.rs` does, with torchvision: decode, RandomResizedCrop 224 (antialias), flip, to f32,
normalise, batches of 50. One line a pass: pictures a second by the clock and by the time of all processes' CPUs.

    python scripts/peers/jpeg.py FOLDER WORKERS [PASSES [randaugment]]
"""

import pathlib
import resource
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

BATCH = 50


class Folder(Dataset):
    def __init__(self, folder, augments):
        self.files = [str(p) for p in sorted(pathlib.Path(folder).rglob("*.jpg"))]
        names = sorted({pathlib.Path(p).parent.name for p in self.files})
        self.labels = [names.index(pathlib.Path(p).parent.name) for p in self.files]
        self.transform = v2.Compose([
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandAugment(num_ops=2, magnitude=9, interpolation=v2.InterpolationMode.BILINEAR)] if augments else []),
            v2.ToDtype(torch.float32),
            v2.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return self.transform(decode_jpeg(read_file(self.files[i]), mode=ImageReadMode.RGB)), self.labels[i]


def cpu():
    """CPU seconds of this process and of the workers that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(r.ru_utime + r.ru_stime for r in both)


def main():
    folder, workers = sys.argv[1], int(sys.argv[2])
    passes = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    torch.set_num_threads(1)
    data = Folder(folder, "randaugment" in sys.argv[4:])
    # Each pass reads the set `repeat` times, so that the start of the workers does not count.
    repeat = 5
    data.files, data.labels = data.files * repeat, data.labels * repeat
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=workers)
    for number in range(passes + 1):
        wall, busy, total = time.perf_counter(), cpu(), 0.0
        for images, _ in loader:
            assert images.shape == (BATCH, 3, 224, 224)
            total += float(images[0, 0, 0, 0])
        wall, busy = time.perf_counter() - wall, cpu() - busy
        if number > 0:  # the first one warms up
            print(f"{len(data) / wall:8.1f} pictures/s   {len(data) / busy:8.1f} pictures/CPU-second", flush=True)


if __name__ == "__main__":
    main()
