//! Convolutions of 1 x 1 from few channels: one product of matrices over the pixels of all images.
//!
//! ```text
//! y[k, q] = sum over c of w[k, c] * x[c, q]
//! ```
//!
//! The lanes of a vector are pixels, which lie side by side in a plane already, so that results need not be transposed:
//! with few terms in a sum that would cost as much as the sums. A task copies the input of some hundred pixels to panels
//! of [channel, pixel], which stay in a second-level cache while all rows of the weight walk over them: each pixel comes
//! from memory once. A panel may hold pixels of two images, so that small maps leave no lanes empty. The gradient of the
//! input is the same product with the transposed weight.
//!
//! Each number that is read or written takes part in few products, so memory is what counts here. The pieces of planes
//! lie too far apart for a processor to foresee, and are asked for ahead: those of the next pixels, and those that
//! results go to.
#![allow(unsafe_code)]

use super::geometry::ConvGeom;
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::{Gather, LANES, MicroKernel, NR, Offsets, balanced_mr, max_mr};
use crate::kernels::gemm::pack::padded;
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::prefetch::ask_for;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// Terms of a sum up to which pixels are the lanes; with more, the implicit product's reads of single pixels pay.
const FEW: usize = 192;
/// The most pixels of one task, eight panels: they are 192 KiB at most, a small part of a second-level cache.
const PIXELS: usize = 8 * NR;
/// Tasks that a product is cut into at least, where its shape allows: the work of up to 8 threads.
const TASKS: usize = 8;
/// Channels by which the copy asks ahead.
const AHEAD: usize = 4;

/// Whether the forward pass of `g` (of sums over its input's channels) is one for this file.
pub(super) fn fits_forward(g: &ConvGeom) -> bool {
    fits(g) && (4..=FEW).contains(&g.c)
}

/// Whether the gradient of the input of `g` (of sums over its output's channels) is one for this file.
pub(super) fn fits_backward(g: &ConvGeom) -> bool {
    fits(g) && (4..=FEW).contains(&g.k)
}

fn fits(g: &ConvGeom) -> bool {
    g.groups == 1 && g.kernel == [1, 1] && g.padding == [0, 0] && g.stride == [1, 1]
}

/// `y`, overwritten; `epilogue(at, pixels)` is called on each finished piece of an output plane with its place in `y`.
pub(super) fn forward(
    g: &ConvGeom,
    x: &[Elem],
    w: &[Elem],
    y: &mut [Elem],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    let plane = g.h * g.w;
    Product { steps: g.c, rows: g.k, plane, pixels: g.n * plane, w, x }.run(y, &epilogue);
}

/// `dx`, overwritten.
pub(super) fn backward_data(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    let plane = g.h * g.w;
    let mut turned = Scratch::take(w.len());
    transpose(g.k, g.c, w, g.c, 0.0, &mut turned, g.k);
    Product { steps: g.k, rows: g.c, plane, pixels: g.n * plane, w: &turned, x: dy }
        .run(dx, &|_: usize, _: &mut [Elem]| {});
}

/// The product of `w`, [row, step], and the pixels of `x`, in planes of `plane` elements, one a step.
struct Product<'a> {
    steps: usize,
    rows: usize,
    plane: usize,
    /// Pixels of all images.
    pixels: usize,
    w: &'a [Elem],
    x: &'a [Elem],
}

/// Some pixels and some rows of the result.
struct Part {
    first: usize,
    count: usize,
    row: usize,
    rows: usize,
}

impl Product<'_> {
    fn run(&self, y: &mut [Elem], epilogue: &(impl Fn(usize, &mut [Elem]) + Sync)) {
        let chunk = PIXELS.min(NR * self.pixels.div_ceil(NR * TASKS).max(1));
        let chunks = self.pixels.div_ceil(chunk);
        // Where there are few pixels, the rows are shared out as well, in whole micro-kernels.
        let groups = TASKS.div_ceil(chunks.max(1)).min(self.rows.div_ceil(max_mr(NR)));
        let group = self.rows.div_ceil(groups.max(1));
        let offsets: Vec<u32> = (0..self.steps as u32).collect();
        let y = DisjointMut::from(y);
        par::tasks(chunks * groups, 2 * self.pixels * self.rows * self.steps < SERIAL_FLOPS, |i| {
            let (first, row) = (i / groups * chunk, i % groups * group);
            let count = chunk.min(self.pixels - first);
            let mut panels = Scratch::take(self.steps * padded(count));
            self.pack(first, count, &mut panels);
            let part = Part { first, count, row, rows: group.min(self.rows.saturating_sub(row)) };
            // SAFETY: no two tasks have both a pixel and a row in common.
            unsafe { self.multiply(part, &offsets, &panels, y, epilogue) };
        });
    }

    /// Where pixel `q` lies in the first of `channels` planes of its image.
    fn at(&self, q: usize, channels: usize) -> usize {
        q / self.plane * channels * self.plane + q % self.plane
    }

    /// How many of `count` pixels from `q` on are of one image.
    fn run_of(&self, q: usize, count: usize) -> usize {
        count.min(self.plane - q % self.plane)
    }

    /// The pixels from `first` on as panels of [step, pixel].
    fn pack(&self, first: usize, count: usize, panels: &mut [Elem]) {
        let mut q = 0;
        while q < count {
            let run = self.run_of(first + q, count - q);
            let at = self.at(first + q, self.steps);
            for c in 0..self.steps {
                if c + AHEAD < self.steps {
                    ask_for(&self.x[at + (c + AHEAD) * self.plane..][..run]);
                }
                self.copy(c, [q, count], &self.x[at + c * self.plane..][..run], panels);
            }
            q += run;
        }
        // The lanes that pad the last panel.
        let (cols, width) = (count % NR, padded(count % NR));
        if cols < width {
            let panel = &mut panels[(count - cols) * self.steps..];
            panel.chunks_exact_mut(width).for_each(|row| row[cols..].fill(0.0));
        }
    }

    /// Copies step `c` of pixels, from pixel `q` of `count` on.
    fn copy(&self, c: usize, [mut q, count]: [usize; 2], mut from: &[Elem], panels: &mut [Elem]) {
        while !from.is_empty() {
            let (panel, lane) = (q / NR * NR, q % NR);
            let width = padded(NR.min(count - panel));
            let n = from.len().min(width - lane);
            let to = &mut panels[panel * self.steps + c * width + lane..][..n];
            match (from.first_chunk::<NR>(), to.first_chunk_mut::<NR>()) {
                (Some(from), Some(to)) => *to = *from,
                _ => to.copy_from_slice(&from[..n]),
            }
            (q, from) = (q + n, &from[n..]);
        }
    }

    /// A part of the result, and what follows it.
    ///
    /// # Safety
    /// No other thread may touch these pixels of these rows of `y`.
    unsafe fn multiply(
        &self,
        part: Part,
        offsets: &[u32],
        panels: &[Elem],
        y: DisjointMut<'_>,
        epilogue: &impl Fn(usize, &mut [Elem]),
    ) {
        let (steps, plane) = (self.steps, self.plane);
        let mr = balanced_mr(part.rows, NR.min(part.count));
        // Where a panel has pixels of two images.
        let mut sums = Scratch::take(mr * NR);
        let mut next = self.next(&part, part.rows.div_ceil(mr) * part.count.div_ceil(NR));
        for row in (part.row..part.row + part.rows).step_by(mr) {
            let count = mr.min(part.row + part.rows - row);
            let mut a_rows = [0; max_mr(LANES)];
            (0..count).for_each(|i| a_rows[i] = (i * steps) as u32);
            for q in (0..part.count).step_by(NR) {
                next();
                let (first, pixels) = (part.first + q, NR.min(part.count - q));
                let at = self.at(first, self.rows) + row * plane;
                let direct = self.run_of(first, pixels) == pixels;
                let (c, rs_c) = if direct {
                    // SAFETY: the caller's promise.
                    (unsafe { y.part(at) }, plane)
                } else {
                    (DisjointMut::from(&mut sums[..]), NR)
                };
                MicroKernel {
                    k: Offsets::flat(offsets, steps - 1),
                    gather: Gather::A { rs_b: padded(pixels) },
                    a: &self.w[row * steps..],
                    a_rows: &a_rows[..count],
                    b: &panels[q * steps..],
                    nr: pixels,
                    c,
                    rs_c,
                    accumulate: false,
                }
                .run();
                for (i, sums) in sums.chunks_exact(NR).take(if direct { 0 } else { count }).enumerate() {
                    for (q, sum) in (first..first + pixels).zip(sums) {
                        // SAFETY: the caller's promise.
                        unsafe { y.slice(self.at(q, self.rows) + (row + i) * plane, 1)[0] = *sum };
                    }
                }
            }
            for row in row..row + count {
                let mut q = part.first;
                while q < part.first + part.count {
                    let run = self.run_of(q, part.first + part.count - q);
                    let at = self.at(q, self.rows) + row * plane;
                    // SAFETY: the caller's promise.
                    epilogue(at, unsafe { y.slice(at, run) });
                    q += run;
                }
            }
        }
    }

    /// What asks for the pixels behind a part, which the thread most likely comes to next, in so many calls.
    fn next(&self, part: &Part, calls: usize) -> impl FnMut() {
        let first = part.first + part.count;
        let left = self.pixels - first;
        // With rows of its own, another task has the same pixels.
        let run =
            if left > 0 && part.rows == self.rows { self.run_of(first, left.min(part.count)) } else { 0 };
        let at = if run > 0 { self.at(first, self.steps) } else { 0 };
        let (mut channels, a_call) =
            (0..if run > 0 { self.steps } else { 0 }, self.steps.div_ceil(calls.max(1)));
        move || {
            for c in channels.by_ref().take(a_call) {
                ask_for(&self.x[at + c * self.plane..][..run]);
            }
        }
    }
}
