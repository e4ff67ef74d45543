//! The forward pass and the gradient of the input: products of pixels and weights.
#![allow(unsafe_code)]

use super::axis::{Axis, Run};
use super::image::{Layout, Step};
use super::lines::turn;
use super::numbers;
use super::weights::{Weight, panel_len};
use crate::base::Elem;
use crate::kernels::bf16::{Bf16Kernel, Bf16Scratch, MR, NR, ReleaseTiles, TILE, bf16, tiles_for};
use crate::kernels::conv::geometry::ConvGeom;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::{LANES, Offsets};
use crate::kernels::gemm::pack::{padded, panels};
use crate::kernels::number::Number;
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::scratch::Scratch;

/// Numbers of the copies that a task walks over, 512 KiB: with a panel of the weight they stay in a second-level cache.
const BLOCK: usize = 1 << 18;
/// Positions whose sums are computed before they are transposed: those of 32 channels are 64 KiB.
const PART: usize = 1152;

/// `y`, overwritten; `epilogue(at, pixels)` is called on each finished piece of a plane with its place in `y`.
pub(super) fn forward<X: Number, Y: Number>(
    g: &ConvGeom,
    x: &[X],
    w: &[Elem],
    y: &mut [Y],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    let layout = Layout::new(Axis::forward(g, 0), Axis::spread(g, 1), g.kernel[1], g.c);
    let weight = Weight { w, shape: [g.k, g.c, g.kernel[0] * g.kernel[1]], backward: false };
    Product::new(g.n, layout, weight, g.out).run(x, g.flops() < SERIAL_FLOPS, y, &epilogue);
}

/// `dx`, overwritten.
pub(super) fn backward_data<D: Number, X: Number>(g: &ConvGeom, dy: &[D], w: &[Elem], dx: &mut [X]) {
    let layout = Layout::new(Axis::backward(g, 0), Axis::backward(g, 1), g.kernel[1], g.k);
    let weight = Weight { w, shape: [g.k, g.c, g.kernel[0] * g.kernel[1]], backward: true };
    let product = Product::new(g.n, layout, weight, [g.h, g.w]);
    product.run(dy, g.flops() < SERIAL_FLOPS, dx, &|_: usize, _: &mut [Elem]| {});
}

/// The results that see the same taps.
struct Pass {
    y: Run,
    x: Run,
    steps: Vec<Step>,
    /// Where the steps lie in a copy, and how many of their numbers count.
    offsets: Vec<u32>,
    counts: Vec<u8>,
    /// Where the results lie in one image of it.
    positions: Vec<u32>,
    /// Where its panels begin in the packed weight, and the numbers of one.
    first_panel: usize,
    panel: usize,
}

/// Rows `row..row + rows` of a pass in some images.
struct Part {
    image: usize,
    images: usize,
    row: usize,
    rows: usize,
}

/// A product over all images.
struct Product<'a> {
    layout: Layout,
    weight: Weight<'a>,
    /// All images, and those whose copies are used together.
    images: usize,
    block: usize,
    /// Width and pixels of a plane of the result.
    width: usize,
    plane: usize,
    passes: Vec<Pass>,
    /// Numbers of the packed weight.
    packed: usize,
}

impl<'a> Product<'a> {
    fn new(images: usize, mut layout: Layout, weight: Weight<'a>, [height, width]: [usize; 2]) -> Self {
        // Blocks of about equal size, and as many for each of two threads.
        let fit = (BLOCK / layout.image_numbers().max(1)).clamp(1, images.max(1));
        let blocks = images.div_ceil(fit);
        let block = images.div_ceil(if blocks > 1 { blocks.next_multiple_of(2) } else { 1 });
        layout.reserve(block);
        let (pitch, _) = layout.results();
        let (mut passes, mut packed) = (Vec::new(), 0);
        for y in &layout.y.runs {
            for x in &layout.x.runs {
                let steps = layout.steps([y, x]);
                let offsets = steps.iter().map(|step| step.offset as u32).collect();
                let counts = steps.iter().map(|step| layout.count(step) as u8).collect();
                let positions = (0..y.count)
                    .flat_map(|row| (0..x.count).map(move |col| (row * pitch + col) as u32))
                    .collect();
                let panel = panel_len(&layout, steps.len());
                let (y, x) = (y.clone(), x.clone());
                passes.push(Pass { y, x, steps, offsets, counts, positions, first_panel: packed, panel });
                packed += panel * weight.columns().div_ceil(NR);
            }
        }
        Self { layout, weight, images, block, width, plane: height * width, passes, packed }
    }

    fn run<X: Number, Y: Number>(
        &self,
        x: &[X],
        serial: bool,
        out: &mut [Y],
        epilogue: &(impl Fn(usize, &mut [Elem]) + Sync + Send),
    ) {
        let mut packed = Bf16Scratch::take(self.packed);
        for pass in &self.passes {
            let panels = pass.panel * self.weight.columns().div_ceil(NR);
            let packed = &mut packed[pass.first_panel..][..panels];
            self.weight.pack(&self.layout, &pass.steps, serial, packed);
        }
        let (image, source) = (self.weight.columns() * self.plane, self.layout.source_len());
        // Each thread has blocks of its own; where there are few, the threads share each.
        let shared = !serial && self.images.div_ceil(self.block.max(1)) < 4;
        par::chunks((self.block * image).max(1), serial || shared, out, |i, out| {
            let first = i * self.block;
            let epilogue = |at: usize, pixels: &mut [Elem]| epilogue(first * image + at, pixels);
            self.block(&x[first * source..], &packed, shared, out, &epilogue);
        });
    }

    /// As many images as `out` holds; threads share them if `shared`.
    fn block<X: Number, Y: Number>(
        &self,
        x: &[X],
        packed: &[bf16],
        shared: bool,
        out: &mut [Y],
        epilogue: &(impl Fn(usize, &mut [Elem]) + Sync),
    ) {
        let (layout, blocks) = (&self.layout, self.layout.blocks());
        let images = out.len() / (self.weight.columns() * self.plane);
        let mut copies = Scratch::take(blocks * layout.stride() / 2);
        layout.fill_tail(images, &mut copies);
        let to = DisjointMut::from(&mut copies[..]);
        par::tasks(images * blocks, !shared, |i| {
            let src = &x[i / blocks * layout.source_len()..][..layout.source_len()];
            // SAFETY: this task alone writes this block of this image.
            unsafe { layout.fill(src, i / blocks, i % blocks, to) };
        });
        let (copies, out) = (numbers(&copies), DisjointMut::from(out));
        let panels: Vec<(usize, usize)> = panels(self.weight.columns()).collect();
        for pass in &self.passes {
            let parts = self.parts(pass, images);
            // Panel after panel: who has read one goes on with it.
            let tasks = if shared { panels.len() * parts.len() } else { 1 };
            par::tasks(tasks, !shared, |i| {
                let _release = ReleaseTiles;
                let (parts, panels) = if shared {
                    (&parts[i % parts.len()..][..1], &panels[i / parts.len()..][..1])
                } else {
                    (&parts[..], &panels[..])
                };
                for part in parts {
                    for &panel in panels {
                        let sums = self.multiply(pass, part, panel, copies, packed);
                        // SAFETY: this task alone writes this part of these channels.
                        unsafe { self.place(pass, part, panel, &sums, out, epilogue) };
                    }
                }
            });
        }
    }

    /// Small images together, or rows of a large one.
    fn parts(&self, pass: &Pass, images: usize) -> Vec<Part> {
        let (rows, (pitch, area)) = (pass.y.count, self.layout.results());
        let step = (PART / area.max(1)).max(1);
        let pieces = (rows * pitch).div_ceil(PART).max(1);
        let piece = rows.div_ceil(pieces).max(1);
        (0..images)
            .step_by(step)
            .flat_map(|image| {
                (0..rows).step_by(piece).map(move |row| Part {
                    image,
                    images: step.min(images - image),
                    row,
                    rows: piece.min(rows - row),
                })
            })
            .collect()
    }

    /// The sums of a part for a panel of channels: `[position][channel]`.
    fn multiply(
        &self,
        pass: &Pass,
        part: &Part,
        (l, cols): (usize, usize),
        copies: &[bf16],
        packed: &[bf16],
    ) -> Scratch {
        let (layout, (pitch, area)) = (&self.layout, self.layout.results());
        // From what one result sees to what its neighbour does.
        let distance = layout.x.spread * layout.block;
        let first = part.image * area + part.row * pitch;
        let positions = (part.images - 1) * area + (part.rows - 1) * pitch + pass.x.count;
        let width = padded(cols);
        let mut sums = Scratch::take(positions * width);
        if pass.steps.is_empty() {
            sums.fill(0.0);
            return sums;
        }
        let max_inner = pass.offsets.iter().max().map_or(0, |&o| o as usize);
        for at in (0..positions).step_by(MR) {
            Bf16Kernel {
                k: Offsets {
                    inner: &pass.offsets,
                    max_inner,
                    outer: layout.blocks(),
                    stride: layout.stride(),
                },
                counts: &pass.counts,
                a: &copies[(first + at) * distance..],
                rs_a: distance,
                rows: MR.min(positions - at),
                b: &packed[pass.first_panel + l / NR * pass.panel..],
                rs_b: tiles_for(cols) * TILE,
                cols,
                c: DisjointMut::from(&mut sums[at * width..]),
                rs_c: width,
                accumulate: false,
                is_far: false,
            }
            .run();
        }
        sums
    }

    /// Brings sums to their places in the planes, and what follows to them.
    ///
    /// # Safety
    /// No other thread may touch this part of these channels.
    unsafe fn place<Y: Number>(
        &self,
        pass: &Pass,
        part: &Part,
        (l, cols): (usize, usize),
        sums: &[Elem],
        out: DisjointMut<'_, Y>,
        epilogue: &impl Fn(usize, &mut [Elem]),
    ) {
        let (width, count) = (padded(cols), pass.x.count);
        let positions = &pass.positions[..part.rows * count];
        let whole = pass.y.count * count == self.plane;
        // A plane after the other: 32 of them at once, often whole pages apart, would wait for the cache.
        let pitch = positions.len().next_multiple_of(LANES) + LANES;
        let mut turned = Scratch::take(cols * pitch);
        let (_, area) = self.layout.results();
        for i in 0..part.images {
            turn(&sums[i * area * width..], width, positions, cols, &mut turned, pitch);
            for (c, turned) in turned.chunks_exact_mut(pitch).enumerate() {
                let at = ((part.image + i) * self.weight.columns() + l + c) * self.plane;
                if whole {
                    let at = at + part.row * count;
                    let turned = &mut turned[..positions.len()];
                    epilogue(at, turned);
                    // SAFETY: the caller's promise.
                    Y::write(turned, unsafe { out.slice(at, positions.len()) });
                    continue;
                }
                for (y, turned) in turned[..positions.len()].chunks_exact(count).enumerate() {
                    let row = pass.y.first + (part.row + y) * pass.y.step;
                    let from = at + row * self.width + pass.x.first;
                    // SAFETY: the caller's promise.
                    let out = unsafe { out.slice(from, (count - 1) * pass.x.step + 1) };
                    out.iter_mut().step_by(pass.x.step).zip(turned).for_each(|(o, v)| *o = Y::of(*v));
                }
            }
        }
    }
}
