#!/usr/bin/env python3
"""What Winograd's algorithm loses where its products are of bf16 operands: docs/performance.md says why it stays in f32.

    python3 scripts/winograd_error.py        needs numpy

The relative error (root mean square) of 3x3 convolutions over 64 channels of noise, beside double precision. F(m x m) by
the matrices of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, section 4.
"""

import numpy as np

CHANNELS, TILES, KERNELS = 64, 200, 16

MATRICES = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}


def bf16(x):
    """The nearest numbers of bf16, ties to the even one."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def f32(x):
    return np.asarray(x, np.float32).astype(np.float64)


def direct(tiles, kernels, m):
    windows = np.lib.stride_tricks.sliding_window_view(tiles, (3, 3), axis=(2, 3))[:, :, :m, :m]
    return np.einsum("tcijab,kcab->tkij", windows, kernels)


def winograd(tiles, kernels, m, rounded):
    b, g, a = (np.array(matrix, float) for matrix in MATRICES[m])
    v = rounded(b @ tiles @ b.T)
    u = rounded(g @ kernels @ g.T)
    return a @ np.einsum("tcij,kcij->tkij", v, u) @ a.T


def error(got, want):
    return np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))


def main():
    rng = np.random.default_rng(0)
    for m in MATRICES:
        tiles = bf16(rng.standard_normal((TILES, CHANNELS, m + 2, m + 2)))
        kernels = rng.standard_normal((KERNELS, CHANNELS, 3, 3))
        want = direct(tiles, kernels, m)
        print(
            f"F({m}x{m}, 3x3): direct with bf16 kernels {error(direct(tiles, bf16(kernels), m), want):.2%},"
            f" Winograd with bf16 products {error(winograd(tiles, kernels, m, bf16), want):.2%},"
            f" with f32 products {error(winograd(tiles, kernels, m, f32), want):.0e}"
        )


if __name__ == "__main__":
    main()
