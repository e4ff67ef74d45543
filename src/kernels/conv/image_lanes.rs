//! The gradient of the input of a small map: the lanes of a vector are images.
//!
//! Where a kernel is large against the map, most windows of the gradient hang over its edge: half of the products of
//! a 5 x 5 kernel on a 14 x 14 map are with padding. With a vector of images each pixel can have its own list of
//! taps, and the padding is never multiplied. The price is transposing `dy` and `dx` so that images lie side by side.
#![allow(unsafe_code)]

use super::geometry::ConvGeom;
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::{Gather, LANES, MicroKernel, NR, Offsets, balanced_mr};
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;
use std::ops::Range;

/// Images of one block: the columns of a micro-kernel.
const BLOCK: usize = NR;

/// Whether vectors of images save at least a quarter of the products that vectors of pixels take.
pub(in crate::kernels) fn fits(g: &ConvGeom) -> bool {
    if g.groups != 1 || g.stride != [1, 1] || g.dilation != [1, 1] {
        return false;
    }
    let met = |axis: usize, size: usize| (0..size).map(|at| taps(g, axis, at).len()).sum::<usize>();
    let by_images = met(0, g.h) * met(1, g.w) * g.n.next_multiple_of(LANES);
    let by_pixels = g.h * g.w.next_multiple_of(LANES) * g.kernel[0] * g.kernel[1] * g.n;
    4 * by_images <= 3 * by_pixels
}

/// The taps of one axis, counted from the last, that meet an output from input position `at`: the first meets output
/// `at + padding + taps.start + 1 - kernel`, the others follow.
fn taps(g: &ConvGeom, axis: usize, at: usize) -> Range<usize> {
    let (kernel, first) = (g.kernel[axis], at + g.padding[axis] + 1);
    let start = kernel.saturating_sub(first);
    start..(g.out[axis] + kernel).saturating_sub(first).clamp(start, kernel)
}

/// `dx`, overwritten; the geometry [`fits`].
pub(in crate::kernels) fn backward_data(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    let (pixels, image) = (g.out[0] * g.out[1], g.k * g.out[0] * g.out[1]);
    if dx.is_empty() {
        return;
    }
    // [block][output pixel][output channel][image]
    let mut transposed = Scratch::take(g.n.div_ceil(BLOCK) * image * BLOCK);
    par::chunks((image * BLOCK).max(1), false, &mut transposed, |block, transposed| {
        let images = BLOCK.min(g.n - block * BLOCK);
        for k in 0..g.k {
            let from = &dy[block * BLOCK * image + k * pixels..];
            transpose(images, pixels, from, image, 0.0, &mut transposed[k * BLOCK..], g.k * BLOCK);
        }
    });
    let weights = flipped_weights(g, w);
    let dx = DisjointMut::from(dx);
    par::tasks(g.n.div_ceil(BLOCK) * g.h, false, |i| {
        let (block, y) = (i / g.h, i % g.h);
        // SAFETY: this task alone writes row y of these images.
        unsafe { row(g, block, y, &transposed[block * image * BLOCK..], &weights, dx) };
    });
}

/// The weight as [input channel][tap, the last first][output channel].
fn flipped_weights(g: &ConvGeom, w: &[Elem]) -> Scratch {
    let rs = g.kernel[0] * g.kernel[1];
    let mut weights = Scratch::take(g.w_len());
    for (i, to) in weights.iter_mut().enumerate() {
        let (c, tap, k) = (i / g.k / rs, rs - 1 - i / g.k % rs, i % g.k);
        *to = w[(k * g.c + c) * rs + tap];
    }
    weights
}

/// Row `y` of all channels of a block of images.
///
/// # Safety
/// No other thread may touch this row.
unsafe fn row(g: &ConvGeom, block: usize, y: usize, dy: &[Elem], weights: &[Elem], dx: DisjointMut<'_>) {
    let images = BLOCK.min(g.n - block * BLOCK);
    let [kh, kw] = g.kernel;
    let offsets: Vec<u32> = (0..(kw * g.k) as u32).collect();
    let channels: Vec<u32> = (0..g.c).map(|c| (c * kh * kw * g.k) as u32).collect();
    let mr = balanced_mr(g.c, BLOCK);
    // [channel][column][image]
    let mut sums = Scratch::take(g.c * g.w * BLOCK);
    let rows_met = taps(g, 0, y);
    for x in 0..g.w {
        let met = taps(g, 1, x);
        let steps = met.len() * g.k;
        if steps == 0 || rows_met.is_empty() {
            sums.chunks_exact_mut(g.w * BLOCK).for_each(|c| c[x * BLOCK..][..images].fill(0.0));
            continue;
        }
        for r in rows_met.clone() {
            let pixel = (y + g.padding[0] + 1 + r - kh) * g.out[1] + x + g.padding[1] + 1 + met.start - kw;
            for (i, a_rows) in channels.chunks(mr).enumerate() {
                MicroKernel {
                    k: Offsets::flat(&offsets[..steps], steps - 1),
                    gather: Gather::A { rs_b: BLOCK },
                    a: &weights[(r * kw + met.start) * g.k..],
                    a_rows,
                    b: &dy[pixel * g.k * BLOCK..],
                    nr: images,
                    c: DisjointMut::from(&mut sums[(i * mr * g.w + x) * BLOCK..]),
                    rs_c: g.w * BLOCK,
                    accumulate: r > rows_met.start,
                }
                .run();
            }
        }
    }
    let plane = g.h * g.w;
    for (c, sums) in sums.chunks_exact(g.w * BLOCK).enumerate() {
        for i in (0..images).step_by(LANES) {
            for x in (0..g.w).step_by(LANES) {
                let (count, width) = (LANES.min(images - i), LANES.min(g.w - x));
                let mut transposed = [0.0; LANES * LANES];
                transpose(width, count, &sums[x * BLOCK + i..], BLOCK, 0.0, &mut transposed, LANES);
                for (j, row) in transposed.chunks_exact(LANES).take(count).enumerate() {
                    let at = ((block * BLOCK + i + j) * g.c + c) * plane + y * g.w + x;
                    // SAFETY: the caller's promise.
                    unsafe { dx.slice(at, width) }.copy_from_slice(&row[..width]);
                }
            }
        }
    }
}
