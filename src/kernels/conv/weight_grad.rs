//! The gradient of the weight as an implicit product over pixels for each (channel, tap).

use super::geometry::ConvGeom;
use super::padded::{Padded, grid};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::{Gather, MicroKernel, NR, Offsets, balanced_mr};
use crate::kernels::gemm::pack::{padded, zero_padding};
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;
use rayon::prelude::*;
use std::ops::Range;

/// Pixels that one micro-kernel should sum before its results go to memory: with fewer, loading and storing them
/// would weigh as much as the products.
const BLOCK_PIXELS: usize = 128;
/// Elements of the input that one micro-kernel after the other walks over, 256 KiB: they should stay in a second-level
/// cache meanwhile.
const PART: usize = 1 << 16;
/// Elements that the partial gradients of all chunks of images may have: 8 MiB.
const PARTIALS: usize = 1 << 21;
/// Tasks that a gradient is cut into at least, where its shape allows: the work of up to 8 threads.
const TASKS: usize = 8;

/// How the work is cut: chunks of images times groups of panels, each with a partial gradient of its own.
struct Split {
    chunks: usize,
    /// Images of one chunk.
    images: usize,
    /// Panels of NR output channels of one group of channels, in all and in one task.
    panels: usize,
    panels_per_task: usize,
}

impl Split {
    fn new(g: &ConvGeom) -> Self {
        let panels = (g.k / g.groups).div_ceil(NR);
        let chunks = (PARTIALS / g.w_len().max(1)).clamp(1, TASKS).min(g.n.max(1));
        let images = g.n.div_ceil(chunks).max(1);
        let chunks = g.n.div_ceil(images);
        let tasks = TASKS.div_ceil(chunks.max(1)).min(panels);
        Self { chunks, images, panels, panels_per_task: panels.div_ceil(tasks.max(1)).max(1) }
    }
}

/// One task: some images, and some panels of one group of channels.
struct Task<'a> {
    images: Range<usize>,
    group: usize,
    first_panel: usize,
    /// The partial gradient, panel after panel of [(channel, tap), lane].
    partial: &'a mut [Elem],
}

/// `dw = beta * dw + gradient`; neither the weight nor the batch is empty.
pub(super) fn backward_weight(g: &ConvGeom, x: &[Elem], dy: &[Elem], beta: Elem, dw: &mut [Elem]) {
    let channels = g.k / g.groups;
    let split = Split::new(g);
    let plan = Plan::new(g);
    let rows = plan.taps.len();
    let panel = rows * NR;
    let mut partials = Scratch::take(split.chunks * g.groups * split.panels * panel);
    let tasks = cut(g, &split, panel, &mut partials);
    let run = |task: Task<'_>| plan.run(g, x, dy, task);
    if g.flops() < SERIAL_FLOPS {
        tasks.into_iter().for_each(run);
    } else {
        tasks.into_par_iter().with_max_len(1).for_each(run);
    }
    for (group, dw) in dw.chunks_exact_mut(channels * rows).enumerate() {
        sum_chunks(
            &partials[group * split.panels * panel..],
            [split.chunks, g.groups * split.panels],
            rows,
            beta,
            dw,
        );
    }
}

/// `dw = beta * dw` and the sum of partial gradients in their order: `chunks` of them, `panels` panels apart. Lanes
/// become rows again.
pub(super) fn sum_chunks(
    partials: &[Elem],
    [chunks, panels]: [usize; 2],
    rows: usize,
    beta: Elem,
    dw: &mut [Elem],
) {
    let panel = rows * NR;
    par::chunks(panel, dw.len() * chunks < SERIAL_FLOPS / 4, dw, |p, dw| {
        let cols = dw.len() / rows;
        for chunk in 0..chunks {
            let beta = if chunk == 0 { beta } else { 1.0 };
            let from = &partials[(chunk * panels + p) * panel..];
            transpose(rows, cols, from, padded(cols), beta, dw, rows);
        }
    });
}

/// The tasks, chunk after chunk of images; the last task of a group may have fewer panels.
fn cut<'a>(g: &ConvGeom, split: &Split, panel: usize, partials: &'a mut [Elem]) -> Vec<Task<'a>> {
    let mut rest = partials;
    let mut tasks = Vec::new();
    for chunk in 0..split.chunks {
        for group in 0..g.groups {
            for first_panel in (0..split.panels).step_by(split.panels_per_task) {
                let panels = split.panels_per_task.min(split.panels - first_panel);
                let (partial, tail) = rest.split_at_mut(panels * panel);
                let images = chunk * split.images..g.n.min((chunk + 1) * split.images);
                tasks.push(Task { images, group, first_panel, partial });
                rest = tail;
            }
        }
    }
    tasks
}

/// All that the tasks share.
struct Plan {
    image: Padded,
    /// Images whose pixels one micro-kernel sums.
    block: usize,
    /// Pixels of an image that one micro-kernel sums: all, but of a large image.
    part: usize,
    /// Where the windows of one image begin: the steps.
    windows: Vec<u32>,
    last_window: usize,
    /// Distance of two images.
    image_stride: usize,
    /// Where each (channel, tap) lies in a window: the rows.
    taps: Vec<u32>,
}

impl Plan {
    fn new(g: &ConvGeom) -> Self {
        let [out_h, out_w] = g.out;
        let image = Padded::input(g);
        let windows = grid((1, 0), (out_h, g.stride[0] * image.padded_w), (out_w, g.stride[1]));
        let [kh, kw] = g.kernel;
        let tap = |i: usize| {
            let (c, r, s) = (i / (kh * kw), i / kw % kh, i % kw);
            let row = c * image.padded_h + r * g.dilation[0];
            (row * image.padded_w + s * g.dilation[1]) as u32
        };
        let part = (PART / image.c.max(1)).clamp(BLOCK_PIXELS, 4 * BLOCK_PIXELS);
        Self {
            image,
            block: BLOCK_PIXELS.div_ceil((out_h * out_w).max(1)),
            part: (out_h * out_w).div_ceil((out_h * out_w).div_ceil(part).max(1)),
            last_window: windows.iter().max().map_or(0, |&p| p as usize),
            windows,
            image_stride: if image.is_image() { g.c * g.h * g.w } else { image.len() },
            taps: (0..image.c * kh * kw).map(tap).collect(),
        }
    }

    fn run(&self, g: &ConvGeom, x: &[Elem], dy: &[Elem], task: Task<'_>) {
        let p = &self.image;
        let (channels, pixels, source) = (g.k / g.groups, self.windows.len(), p.c * p.h * p.w);
        let panel = self.taps.len() * NR;
        let mut copies = Scratch::take(if p.is_image() { 0 } else { self.block * p.len() });
        let mut transposed = Scratch::take(self.block * self.part * NR);
        for n in task.images.clone().step_by(self.block) {
            let count = self.block.min(task.images.end - n);
            let x = if p.is_image() {
                &x[(n * g.groups + task.group) * source..]
            } else {
                for i in 0..count {
                    let src = &x[((n + i) * g.groups + task.group) * source..][..source];
                    p.fill(src, false, &mut copies[i * p.len()..][..p.len()]);
                }
                &copies[..]
            };
            for first in (0..pixels).step_by(self.part.max(1)) {
                let windows = &self.windows[first..pixels.min(first + self.part)];
                for (i, partial) in task.partial.chunks_exact_mut(panel).enumerate() {
                    let l = (task.first_panel + i) * NR;
                    let cols = NR.min(channels - l);
                    let width = padded(cols);
                    for i in 0..count {
                        let src = &dy[((n + i) * g.k + task.group * channels + l) * pixels + first..];
                        let to = &mut transposed[i * windows.len() * width..];
                        transpose(cols, windows.len(), src, pixels, 0.0, to, width);
                    }
                    zero_padding(&mut transposed[..count * windows.len() * width], cols);
                    let steps = Offsets {
                        inner: windows,
                        max_inner: self.last_window,
                        outer: count,
                        stride: self.image_stride,
                    };
                    self.add(steps, x, &transposed, width, n > task.images.start || first > 0, partial);
                }
            }
        }
    }

    /// The sums of these steps for all rows, in a panel of `width` columns.
    fn add(
        &self,
        steps: Offsets<'_>,
        x: &[Elem],
        dy: &[Elem],
        width: usize,
        accumulate: bool,
        partial: &mut [Elem],
    ) {
        let mr = balanced_mr(self.taps.len(), width);
        for (j, a_rows) in self.taps.chunks(mr).enumerate() {
            MicroKernel {
                k: steps,
                gather: Gather::A { rs_b: width },
                a: x,
                a_rows,
                b: dy,
                nr: width,
                c: DisjointMut::from(&mut partial[j * mr * width..]),
                rs_c: width,
                accumulate,
            }
            .run();
        }
    }
}
