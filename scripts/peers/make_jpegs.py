"""Photographs to measure the loading of pictures with: JPEGs of 500 x 375 pixels, quality 90, in one folder a class.

Windows of the two photographs that come with scikit-learn (china.jpg, flower.jpg), each at a random place and with noise of
standard deviation 3, so that no two are alike. The same files for the same seed and Pillow.

    pip install pillow scikit-learn
    python scripts/peers/make_jpegs.py target/jpegs
    python scripts/peers/make_jpegs.py target/large --count 48 --times 6    # enlarged to 3000 x 2250 pixels
"""

import argparse
import pathlib

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

WIDTH, HEIGHT, NOISE, QUALITY = 500, 375, 3.0, 90


def main():
    args = argparse.ArgumentParser()
    args.add_argument("folder", type=pathlib.Path)
    args.add_argument("--count", type=int, default=200)
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--times", type=int, default=1, help="how many times as high and wide")
    args = args.parse_args()

    rng = np.random.default_rng(args.seed)
    photographs = load_sample_images()
    names = [pathlib.Path(name).stem for name in photographs.filenames]
    for i in range(args.count):
        name, photo = names[i % len(names)], photographs.images[i % len(names)]
        y, x = (rng.integers(0, room + 1) for room in (photo.shape[0] - HEIGHT, photo.shape[1] - WIDTH))
        window = photo[y : y + HEIGHT, x : x + WIDTH]
        if args.times > 1:
            window = np.asarray(Image.fromarray(window).resize((WIDTH * args.times, HEIGHT * args.times), Image.Resampling.BICUBIC))
        window = window + rng.normal(0.0, NOISE, window.shape)
        folder = args.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(window).clip(0, 255).astype(np.uint8)).save(folder / f"{i:04}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
