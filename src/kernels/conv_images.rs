//! The gradient to the input of a small map: lanes are images.
//!
//! Where a kernel is large against the map, most windows of the gradient hang over its edge (half of the products of a 5 × 5 kernel on a
//! 14 × 14 map are with padding). With a vector of images each pixel can have its own list of taps, and the padding is never multiplied;
//! what this costs is turning `dy` and `dx` so that images are side by side.
#![allow(unsafe_code)]

use super::conv_product::even_rows;
use super::scratch::Scratch;
use super::tile::{LANES, MAX_VECS, Order, Out, Steps, Tile, max_rows};
use super::transpose::transpose;
use super::{ConvGeom, Elem};
use rayon::prelude::*;
use std::ops::Range;

/// Images of one block.
const BLOCK: usize = LANES * MAX_VECS;

/// Whether vectors of images save at least a quarter of the products that vectors of pixels take.
pub(super) fn fits(g: &ConvGeom) -> bool {
    if g.groups != 1 || g.stride != [1, 1] || g.dilation != [1, 1] {
        return false;
    }
    let met = |axis: usize, size: usize| (0..size).map(|at| taps(g, axis, at).len()).sum::<usize>();
    let images = met(0, g.h) * met(1, g.w) * g.n.next_multiple_of(LANES);
    let pixels = g.h * g.w.next_multiple_of(LANES) * g.kernel[0] * g.kernel[1] * g.n;
    4 * images <= 3 * pixels
}

/// The taps of one axis, counted from the last, that meet an output from input position `at`: the first meets output
/// `at + padding + taps.start + 1 - kernel`, the others follow.
fn taps(g: &ConvGeom, axis: usize, at: usize) -> Range<usize> {
    let (kernel, first) = (g.kernel[axis], at + g.padding[axis] + 1);
    let start = kernel.saturating_sub(first);
    start..(g.out[axis] + kernel).saturating_sub(first).clamp(start, kernel)
}

/// `dx`, overwritten; the geometry [`fits`].
pub(super) fn backward_data(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    let (pixels, image) = (g.out[0] * g.out[1], g.k * g.out[0] * g.out[1]);
    if dx.is_empty() {
        return;
    }
    // [block][output pixel][output channel][image]
    let mut turned = Scratch::take(g.n.div_ceil(BLOCK) * image * BLOCK);
    turned.par_chunks_mut((image * BLOCK).max(1)).enumerate().for_each(|(block, turned)| {
        let images = BLOCK.min(g.n - block * BLOCK);
        for k in 0..g.k {
            let from = &dy[block * BLOCK * image + k * pixels..];
            transpose(images, pixels, from, image, 0.0, &mut turned[k * BLOCK..], g.k * BLOCK);
        }
    });
    let weights = turned_taps(g, w);
    let out = Out::from(dx);
    (0..g.n.div_ceil(BLOCK) * g.h).into_par_iter().with_max_len(1).for_each(|i| {
        let (block, y) = (i / g.h, i % g.h);
        // SAFETY: this task alone writes row y of these images.
        unsafe { row(g, block, y, &turned[block * image * BLOCK..], &weights, out) };
    });
}

/// The weight as [input channel][tap, the last first][output channel].
fn turned_taps(g: &ConvGeom, w: &[Elem]) -> Scratch {
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
unsafe fn row(g: &ConvGeom, block: usize, y: usize, dy: &[Elem], weights: &[Elem], out: Out<'_>) {
    let images = BLOCK.min(g.n - block * BLOCK);
    let [kh, kw] = g.kernel;
    let offsets: Vec<u32> = (0..(kw * g.k) as u32).collect();
    let base: Vec<u32> = (0..g.c).map(|c| (c * kh * kw * g.k) as u32).collect();
    let rows = even_rows(g.c, max_rows(MAX_VECS));
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
            for (i, base) in base.chunks(rows).enumerate() {
                Tile {
                    steps: Steps { inner: &offsets[..steps], outer: 1, stride: 0 },
                    max_inner: steps - 1,
                    x: &weights[(r * kw + met.start) * g.k..],
                    base,
                    w: &dy[pixel * g.k * BLOCK..],
                    order: Order::Panel(BLOCK),
                    lanes: images,
                    out: Out::from(&mut sums[(i * rows * g.w + x) * BLOCK..]),
                    out_step: g.w * BLOCK,
                    add: r > rows_met.start,
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
                let mut turned = [0.0; LANES * LANES];
                transpose(width, count, &sums[x * BLOCK + i..], BLOCK, 0.0, &mut turned, LANES);
                for (j, turned) in turned.chunks_exact(LANES).take(count).enumerate() {
                    let at = ((block * BLOCK + i + j) * g.c + c) * plane + y * g.w + x;
                    // SAFETY: the caller's promise.
                    unsafe { out.slice(at, width) }.copy_from_slice(&turned[..width]);
                }
            }
        }
    }
}
