//! The gradient of the weight: products of the planes of the input and of the gradient, over pixels.
//!
//! Rows of A are channels of the input: 32 pixels side by side in a padded plane, from any pixel on, so that a tap is
//! an offset here as well. Columns of B are output channels, and its pairs are pixels: the gradient of the output lies
//! as the input does, with zeros where that has its padding, so that the pixels of all rows and images follow one
//! another.

use super::axis::Axis;
use super::lines::{View, singles};
use super::{numbers, numbers_mut};
use crate::base::Elem;
use crate::kernels::bf16::{Bf16Kernel, Bf16Scratch, MR, NR, ReleaseTiles, STEP, TILE, bf16, tiles_for};
use crate::kernels::conv::geometry::ConvGeom;
use crate::kernels::conv::weight_grad::sum_chunks;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::Offsets;
use crate::kernels::gemm::pack::padded;
use crate::kernels::number::{Number, Numbers};
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;
use std::ops::Range;

/// Chunks of images with a partial gradient each: the work of up to 8 threads.
const CHUNKS: usize = 8;
/// Elements that all partial gradients may have: 8 MiB.
const PARTIALS: usize = 1 << 21;
/// Numbers of the copies that one task uses, 1 MiB: about a second-level cache.
const BLOCK: usize = 1 << 19;
/// The same where threads share them.
const SHARED_BLOCK: usize = 1 << 21;
/// Positions that one micro-kernel sums: those of 32 channels of both operands are 32 KiB, which a first-level cache
/// keeps from tap to tap.
const PART: usize = 256;

/// `dw = beta * dw + gradient`; neither the weight nor the batch is empty.
pub(in crate::kernels::conv) fn backward_weight(
    g: &ConvGeom,
    x: Numbers<'_>,
    dy: Numbers<'_>,
    beta: Elem,
    dw: &mut [Elem],
) {
    match (x, dy) {
        (Numbers::Full(x), Numbers::Full(dy)) => of_numbers(g, x, dy, beta, dw),
        (Numbers::Full(x), Numbers::Half(dy)) => of_numbers(g, x, dy, beta, dw),
        (Numbers::Half(x), Numbers::Full(dy)) => of_numbers(g, x, dy, beta, dw),
        (Numbers::Half(x), Numbers::Half(dy)) => of_numbers(g, x, dy, beta, dw),
    }
}

fn of_numbers<X: Number, D: Number>(g: &ConvGeom, x: &[X], dy: &[D], beta: Elem, dw: &mut [Elem]) {
    let serial = g.flops() < SERIAL_FLOPS;
    // A chunk of images for each task; where partial gradients would be large or images few, the threads share all.
    let shared = g.n < CHUNKS || g.w_len() * CHUNKS > PARTIALS;
    let images = if shared { g.n } else { g.n.div_ceil(CHUNKS) };
    let plan = Plan::new(g, images, if shared { SHARED_BLOCK } else { BLOCK });
    let partial = plan.rows() * g.k.div_ceil(NR) * NR;
    let chunks = g.n.div_ceil(images);
    let mut partials = Scratch::take(chunks * partial);
    par::chunks(partial, serial || shared, &mut partials, |i, partial| {
        plan.run(x, dy, i * images..g.n.min((i + 1) * images), shared && !serial, partial);
    });
    sum_chunks(&partials, [chunks, g.k.div_ceil(NR)], plan.rows(), beta, dw);
}

/// All that the tasks share.
struct Plan<'a> {
    g: &'a ConvGeom,
    y: Axis,
    x: Axis,
    /// Images whose copies are used together.
    block: usize,
    /// Positions of an image, and of all images of a block: whole steps.
    area: usize,
    len: usize,
    /// Numbers of a phase of a channel of the input, and of all its phases.
    phase: usize,
    channel: usize,
    /// Where the taps lie in a channel.
    taps: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn new(g: &'a ConvGeom, images: usize, budget: usize) -> Self {
        let (y, x) = (Axis::forward(g, 0), Axis::forward(g, 1));
        let (area, phases) = (y.pitch * x.pitch, y.phases.len() * x.phases.len());
        let fit = (budget / ((g.c * phases + g.k) * area).max(1)).clamp(1, images);
        let block = images.div_ceil(images.div_ceil(fit));
        let len = (block * area).next_multiple_of(STEP);
        // What the last step sees through the last tap.
        let phase = len + y.reach * x.pitch + x.reach;
        // An odd number of cache lines, so that the rows of a tile lie in different sets of a cache.
        let channel = ((phases * phase).div_ceil(STEP) | 1) * STEP;
        let place = |of: &[usize], phase: usize| of.iter().position(|&p| p == phase).unwrap_or(0);
        let mut taps = Vec::new();
        for ty in &y.runs[0].taps {
            for tx in &x.runs[0].taps {
                let which = place(&y.phases, ty.phase) * x.phases.len() + place(&x.phases, tx.phase);
                let at = (ty.shift - y.low) as usize * x.pitch + (tx.shift - x.low) as usize;
                taps.push(which * phase + at);
            }
        }
        Self { g, y, x, block, area, len, phase, channel, taps }
    }

    /// Rows of the gradient: (channel, tap).
    fn rows(&self) -> usize {
        self.g.c * self.taps.len()
    }

    /// The gradient of some images, panels of `[(channel, tap)][32 output channels]`.
    fn run<X: Number, D: Number>(
        &self,
        x: &[X],
        dy: &[D],
        images: Range<usize>,
        shared: bool,
        partial: &mut [Elem],
    ) {
        let g = self.g;
        let mut planes = Bf16Scratch::take(g.c * self.channel);
        let mut pairs = Scratch::take(g.k.div_ceil(16) * 16 * self.len / 2);
        for first in images.clone().step_by(self.block) {
            let count = self.block.min(images.end - first);
            par::chunks(self.channel, !shared, &mut planes, |c, to| {
                self.fill_channel(c, &x[first * g.c * g.h * g.w..], count, to);
            });
            par::chunks(NR * self.len / 2, !shared, &mut pairs, |p, to| {
                self.fill_panel(p, &dy[first * g.k * g.out[0] * g.out[1]..], count, to);
            });
            let (planes, pairs) = (&planes[..], numbers(&pairs));
            par::chunks(self.rows() * NR, !shared, partial, |p, panel| {
                let width = padded(NR.min(g.k - p * NR));
                par::chunks(
                    MR * self.taps.len() * width,
                    !shared,
                    &mut panel[..self.rows() * width],
                    |c, rows| {
                        let _release = ReleaseTiles;
                        let b = &pairs[p * NR * self.len..];
                        self.multiply(
                            [c * MR, p * NR],
                            &planes[c * MR * self.channel..],
                            b,
                            first > images.start,
                            rows,
                        );
                    },
                );
            });
        }
    }

    /// One channel of the input of some images.
    fn fill_channel<X: Number>(&self, c: usize, x: &[X], images: usize, to: &mut [bf16]) {
        let (g, mut phases) = (self.g, to.chunks_exact_mut(self.phase));
        let plane = g.h * g.w;
        // Where the plane lies that comes next.
        let ahead = if images > 1 { g.c * plane } else { plane };
        for &py in &self.y.phases {
            for &px in &self.x.phases {
                let view = View::new(&self.y, &self.x, [py, px]);
                let Some(phase) = phases.next() else { return };
                for (i, to) in phase.chunks_exact_mut(self.area).take(images).enumerate() {
                    let from = &x[(i * g.c + c) * plane..][..plane];
                    singles(&view, 0..self.y.pitch, from, ahead, to);
                }
                phase[images * self.area..].fill(bf16::ZERO);
            }
        }
    }

    /// A panel of output channels of the gradient of some images: `[step][tile][16 pairs of pixels][16 channels]`.
    fn fill_panel<D: Number>(&self, p: usize, dy: &[D], images: usize, to: &mut [Elem]) {
        let (g, [rows, cols], half) = (self.g, self.g.out, self.len / 2);
        let channels = NR.min(g.k - p * NR);
        let tiles = tiles_for(channels);
        let view = View::plain([rows, cols], self.x.pitch);
        let ahead = rows * cols * if images > 1 { g.k } else { 1 };
        let mut planes = Scratch::take(16 * half);
        for t in 0..tiles {
            let channels = 16.min(channels - 16 * t);
            for (i, plane) in planes.chunks_exact_mut(half).take(channels).enumerate() {
                let plane = numbers_mut(plane);
                for (image, to) in plane.chunks_exact_mut(self.area).take(images).enumerate() {
                    let from = (image * g.k + p * NR + 16 * t + i) * rows * cols;
                    singles(&view, 0..self.y.pitch, &dy[from..][..rows * cols], ahead, to);
                }
                plane[images * self.area..].fill(bf16::ZERO);
            }
            for (s, step) in to.chunks_exact_mut(tiles * TILE / 2).enumerate() {
                transpose(channels, 16, &planes[s * 16..], half, 0.0, &mut step[t * TILE / 2..], 16);
            }
        }
    }

    /// The products of the channels from `c` on with the panel of output channels from `k` on.
    fn multiply(&self, [c, k]: [usize; 2], a: &[bf16], b: &[bf16], accumulate: bool, rows: &mut [Elem]) {
        let (cols, taps) = (NR.min(self.g.k - k), self.taps.len());
        let width = padded(cols);
        let steps: Vec<u32> = (0..PART / STEP).map(|s| (s * STEP) as u32).collect();
        for first in (0..self.len).step_by(PART) {
            let steps = &steps[..((self.len - first) / STEP).min(steps.len())];
            for (tap, &at) in self.taps.iter().enumerate() {
                Bf16Kernel {
                    counts: &[],
                    k: Offsets::flat(steps, (steps.len() - 1) * STEP),
                    a: &a[at + first..],
                    rs_a: self.channel,
                    rows: MR.min(self.g.c - c),
                    b: &b[first / STEP * tiles_for(cols) * TILE..],
                    rs_b: tiles_for(cols) * TILE,
                    cols,
                    c: DisjointMut::from(&mut rows[tap * width..]),
                    rs_c: taps * width,
                    accumulate: accumulate || first > 0,
                    is_far: false,
                }
                .run();
            }
        }
    }
}
