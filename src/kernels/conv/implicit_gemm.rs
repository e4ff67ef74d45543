//! A product over (channel, tap) for each pixel of the result, by blocks of images in parallel; where there are few, by
//! channels or rows of each.
#![allow(unsafe_code)]

use super::padded::{Padded, TapOffsets};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::{Gather, LANES, MicroKernel, NR, balanced_mr};
use crate::kernels::gemm::pack::{padded, panels};
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// Pixels that a block of images should have at least: four micro-kernels of 12 rows for each walk over a panel of
/// weights.
const BLOCK_PIXELS: usize = 48;

/// The most pixels of an image whose sums are computed before they are transposed: those of a panel of 32 channels are
/// 63 KiB, and what they see of the input is read once for all panels.
const PART_PIXELS: usize = 504;

/// The images of one block, each of `pixels` results.
pub(super) fn block_size(n: usize, pixels: usize) -> usize {
    BLOCK_PIXELS.div_ceil(pixels.max(1)).clamp(1, n.max(1))
}

/// The grid of results of one pass and where it goes in the output plane.
pub(super) struct OutputGrid {
    pub rows: usize,
    pub cols: usize,
    /// Its first pixel, and the distances of its rows and columns, in the output plane.
    pub first: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl OutputGrid {
    /// Brings the sums of rows `first..first + rows`, [pixel, channel] with channels `width` apart, to their places in
    /// the output planes, where there are as many as `out` holds.
    fn place(&self, first: usize, rows: usize, sums: Sums<'_>, out: &mut [Elem], plane: usize) {
        let (pixels, channels) = (rows * self.cols, out.len() / plane);
        if self.rows * self.cols == plane {
            transpose(pixels, channels, sums.of, sums.width, 0.0, &mut out[first * self.cols..], plane);
            return;
        }
        transpose(pixels, channels, sums.of, sums.width, 0.0, sums.turned, pixels);
        for (grid, out) in sums.turned.chunks_exact(pixels).zip(out.chunks_exact_mut(plane)) {
            for (y, row) in grid.chunks_exact(self.cols).enumerate() {
                let out = &mut out[self.first + (first + y) * self.row_stride..];
                out.iter_mut().step_by(self.col_stride).zip(row).for_each(|(o, v)| *o = *v);
            }
        }
    }
}

/// The results of a product for a panel of channels: [pixel, channel], `width` apart, and room to transpose them in.
struct Sums<'a> {
    of: &'a [Elem],
    width: usize,
    turned: &'a mut [Elem],
}

/// One product: each pixel of `grid` sums `taps` of the padded image.
pub(super) struct Pass {
    pub taps: TapOffsets,
    /// Where the window of each pixel begins, for all images of a block.
    pub windows: Vec<u32>,
    pub grid: OutputGrid,
    /// Where the pass's panels start in the packed weights of a group.
    pub first_panel: usize,
}

/// All that the blocks of images share.
pub(super) struct ImplicitGemm {
    pub image: Padded,
    pub passes: Vec<Pass>,
    pub groups: usize,
    /// Images in one block.
    pub block: usize,
    /// Output channels of one group.
    pub channels: usize,
    /// Pixels of an output plane.
    pub plane: usize,
    /// Elements of the packed weights of one group.
    pub packed: usize,
    /// Whether the columns of the micro-kernel are pixels, and the weights are [channel, step]. Else they are
    /// channels, and the weights are panels.
    pub narrow: bool,
}

/// Whether vectors of pixels waste less than vectors of `channels` channels, whose results must be transposed as well.
pub(super) fn prefers_pixels(channels: usize, out: [usize; 2], steps: usize) -> bool {
    let by_pixels = channels * out[0] * padded(out[1]) * steps;
    let by_channels = padded(channels) * out[0] * out[1] * (steps + LANES);
    by_pixels < by_channels
}

/// The images of one block and group: as many as `out` holds.
#[derive(Clone, Copy)]
struct Block<'a> {
    images: usize,
    group: usize,
    /// The images, padded if they need to be.
    x: &'a [Elem],
    /// The packed weights of the group.
    weights: &'a [Elem],
    /// Whether its parts are tasks of several threads.
    shared: bool,
}

impl ImplicitGemm {
    /// Computes all images; `epilogue(at, pixels)` is called on each finished piece of an output plane with its place in
    /// `out`. Where there is one, a single pass makes all pixels.
    pub fn run(
        &self,
        x: &[Elem],
        weights: &[Elem],
        serial: bool,
        out: &mut [Elem],
        epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
    ) {
        let image = self.groups * self.channels * self.plane;
        if image == 0 {
            return;
        }
        // Each thread has blocks of images of its own; where there are few, the threads share each.
        let shared = !serial && out.len().div_ceil(self.block * image) < 4;
        par::chunks(self.block * image, serial || shared, out, |i, out| {
            let epilogue = |at: usize, pixels: &mut [Elem]| epilogue(i * self.block * image + at, pixels);
            self.block(i * self.block, x, weights, shared, out, &epilogue);
            if self.narrow {
                par::chunks(self.plane, !shared, out, |p, plane| epilogue(p * self.plane, plane));
            }
        });
    }

    /// The images from `first` on, as many as `out` holds; threads share them if `shared`.
    fn block(
        &self,
        first: usize,
        x: &[Elem],
        weights: &[Elem],
        shared: bool,
        out: &mut [Elem],
        epilogue: &(impl Fn(usize, &mut [Elem]) + Sync),
    ) {
        let p = &self.image;
        let images = out.len() / (self.groups * self.channels * self.plane);
        let source = p.c * p.h * p.w;
        let mut copies = Scratch::take(if p.is_image() { 0 } else { images * p.len() });
        for group in 0..self.groups {
            let at = |i: usize| ((first + i) * self.groups + group) * source;
            let x = if p.is_image() {
                &x[at(0)..]
            } else {
                for i in 0..images {
                    p.fill(&x[at(i)..][..source], shared, &mut copies[i * p.len()..][..p.len()]);
                }
                &copies[..]
            };
            let block = Block { images, group, x, weights: &weights[group * self.packed..], shared };
            for pass in &self.passes {
                if self.narrow {
                    self.pixels_as_columns(pass, block, out);
                } else {
                    self.channels_as_columns(pass, block, out, epilogue);
                }
            }
        }
    }

    /// One product whose vectors are pixels of a row, which go straight to their places.
    fn pixels_as_columns(&self, pass: &Pass, block: Block<'_>, out: &mut [Elem]) {
        let (grid, k) = (&pass.grid, pass.taps.offsets());
        let channels: Vec<u32> = (0..self.channels).map(|c| (c * k.len()) as u32).collect();
        let out = DisjointMut::from(out);
        par::tasks(block.images * grid.rows, !block.shared, |row| {
            let (image, y) = (row / grid.rows, row % grid.rows);
            for (col, pixels) in panels(grid.cols) {
                let mr = balanced_mr(self.channels, pixels);
                for (i, a_rows) in channels.chunks(mr).enumerate() {
                    let channel = (image * self.groups + block.group) * self.channels + i * mr;
                    let at = channel * self.plane + y * grid.row_stride + col;
                    MicroKernel {
                        k,
                        gather: Gather::B,
                        a: block.weights,
                        a_rows,
                        b: &block.x[pass.windows[row * grid.cols + col] as usize..],
                        nr: pixels,
                        // SAFETY: each task has a row of its own.
                        c: unsafe { out.part(at) },
                        rs_c: self.plane,
                        accumulate: false,
                    }
                    .run();
                }
            }
        });
    }

    /// One product whose vectors are output channels, which are transposed on their way to the planes, where what follows
    /// meets them in the cache.
    fn channels_as_columns(
        &self,
        pass: &Pass,
        block: Block<'_>,
        out: &mut [Elem],
        epilogue: &(impl Fn(usize, &mut [Elem]) + Sync),
    ) {
        let (grid, k) = (&pass.grid, pass.taps.offsets());
        let pixels = grid.rows * grid.cols;
        // Small images side by side, or parts of a large one: whole rows, so that each has a place in the plane.
        let part = if block.images > 1 { grid.rows } else { (PART_PIXELS / grid.cols.max(1)).max(1) };
        let panels: Vec<(usize, usize)> = panels(self.channels).collect();
        let out = DisjointMut::from(out);
        let tasks = if block.shared { panels.len() } else { 1 };
        par::tasks(tasks, !block.shared, |task| {
            let panels = if block.shared { &panels[task..=task] } else { &panels[..] };
            let mut sums = Scratch::take(block.images * part.min(grid.rows) * grid.cols * NR);
            let mut plane =
                Scratch::take(if pixels == self.plane { 0 } else { part.min(grid.rows) * grid.cols * NR });
            for first in (0..grid.rows).step_by(part.max(1)) {
                let rows = part.min(grid.rows - first);
                let windows = &pass.windows[first * grid.cols..];
                let windows = &windows[..(block.images - 1) * pixels + rows * grid.cols];
                for &(l, channels) in panels {
                    let width = padded(channels);
                    let mr = balanced_mr(windows.len(), width);
                    for (i, a_rows) in windows.chunks(mr).enumerate() {
                        MicroKernel {
                            k,
                            gather: Gather::A { rs_b: width },
                            a: block.x,
                            a_rows,
                            b: &block.weights[pass.first_panel + l * k.len()..],
                            nr: width,
                            c: DisjointMut::from(&mut sums[i * mr * width..]),
                            rs_c: width,
                            accumulate: false,
                        }
                        .run();
                    }
                    for i in 0..block.images {
                        let sums = Sums { of: &sums[i * pixels * width..], width, turned: &mut plane };
                        let channel = (i * self.groups + block.group) * self.channels + l;
                        // SAFETY: each task has channels of its own.
                        let out = unsafe { out.slice(channel * self.plane, channels * self.plane) };
                        grid.place(first, rows, sums, out, self.plane);
                        let whole = if pixels == self.plane { out } else { &mut [] };
                        for (c, plane) in whole.chunks_exact_mut(self.plane).enumerate() {
                            let at = first * grid.cols;
                            epilogue((channel + c) * self.plane + at, &mut plane[at..][..rows * grid.cols]);
                        }
                    }
                }
            }
        });
    }
}
