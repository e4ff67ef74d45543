//! Kernels of one pixel on large maps: pixels are the columns, which lie side by side in a plane already, so that
//! nothing is transposed on the way in or out. These products wait for memory, and that would cost as much as they do.
#![allow(unsafe_code)]

use super::lines::columns;
use crate::base::Elem;
use crate::kernels::bf16::{
    Bf16Kernel, Bf16Scratch, MR, NR, ReleaseTiles, STEP, TILE, bf16, pack_a, packed_a_len,
};
use crate::kernels::conv::geometry::ConvGeom;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::Mat;
use crate::kernels::gemm::microkernel::Offsets;
use crate::kernels::number::Number;
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::scratch::Scratch;

/// Pixels of a map from which on each image may walk over the whole weight.
const LARGE: usize = 192;
/// Numbers of the columns that a task packs, 512 KiB at most, so that they stay in a second-level cache.
const BLOCK: usize = 1 << 18;
/// The most pixels of one task: those of a plane that are read or written one behind the other, a page's or more.
const PIXELS: usize = 1024;

/// Whether `g` is a convolution for this file.
pub(super) fn fits(g: &ConvGeom) -> bool {
    g.kernel == [1, 1] && g.padding == [0, 0] && g.stride == [1, 1] && g.h * g.w >= LARGE
}

/// `y`, overwritten; `epilogue(at, pixels)` is called on each finished piece of a plane with its place in `y`.
pub(super) fn forward<X: Number, Y: Number>(
    g: &ConvGeom,
    x: &[X],
    w: &[Elem],
    y: &mut [Y],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    Product::new(g, Mat::new(w, g.k, g.c)).run(x, y, &epilogue);
}

/// `dx`, overwritten.
pub(super) fn backward_data<D: Number, X: Number>(g: &ConvGeom, dy: &[D], w: &[Elem], dx: &mut [X]) {
    Product::new(g, Mat::new(w, g.k, g.c).t()).run(dy, dx, &|_: usize, _: &mut [Elem]| {});
}

/// The product of a weight, [row, channel] in panels of 32 rows, and the pixels of each image, [channel, pixel].
struct Product {
    weight: Bf16Scratch,
    rows: usize,
    channels: usize,
    steps: usize,
    plane: usize,
    /// Pixels of one task.
    pixels: usize,
    serial: bool,
}

impl Product {
    fn new(g: &ConvGeom, w: Mat<'_>) -> Self {
        let Mat { rows, cols: channels, .. } = w;
        let (steps, plane, serial) = (channels.div_ceil(STEP), g.h * g.w, g.flops() < SERIAL_FLOPS);
        let mut weight = Bf16Scratch::take(rows.div_ceil(MR) * packed_a_len(channels));
        par::chunks(
            packed_a_len(channels),
            serial || w.data.len() < SERIAL_FLOPS / 8,
            &mut weight,
            |p, panel| {
                pack_a(&w, (p * MR, MR.min(rows - p * MR)), (0, channels), panel);
            },
        );
        let most = (BLOCK / (steps * STEP)).clamp(NR, PIXELS);
        let pixels = plane.div_ceil(plane.div_ceil(most)).next_multiple_of(NR);
        Self { weight, rows, channels, steps, plane, pixels, serial }
    }

    fn run<X: Number, Y: Number>(
        &self,
        x: &[X],
        y: &mut [Y],
        epilogue: &(impl Fn(usize, &mut [Elem]) + Sync + Send),
    ) {
        let parts = self.plane.div_ceil(self.pixels);
        let images = x.len() / (self.channels * self.plane);
        let y = DisjointMut::from(y);
        par::tasks(images * parts, self.serial, |i| {
            let _release = ReleaseTiles;
            let (image, first) = (i / parts, i % parts * self.pixels);
            let count = self.pixels.min(self.plane - first);
            let mut packed = Bf16Scratch::take(count.div_ceil(NR) * self.steps * 2 * TILE);
            self.pack(&x[image * self.channels * self.plane + first..], count, &mut packed);
            let mut sums = Scratch::take(MR * count);
            for row in (0..self.rows).step_by(MR) {
                let rows = MR.min(self.rows - row);
                let at = |r: usize| (image * self.rows + row + r) * self.plane + first;
                self.multiply(row, rows, count, &packed, DisjointMut::from(&mut sums[..]));
                for (r, sums) in sums.chunks_exact_mut(count).enumerate().take(rows) {
                    epilogue(at(r), sums);
                    // SAFETY: this task alone writes these pixels.
                    Y::write(sums, unsafe { y.slice(at(r), count) });
                }
            }
        });
    }

    /// `count` pixels as panels of 32 columns, channel after channel.
    fn pack<X: Number>(&self, x: &[X], count: usize, packed: &mut [bf16]) {
        let channel = |c: usize| (c < self.channels).then(|| &x[c * self.plane..][..count]);
        for p in 0..self.steps * STEP / 2 {
            let at = p / 16 * 2 * TILE + p % 16 * 32;
            let planes = [channel(2 * p), channel(2 * p + 1)];
            columns(planes, count, 2 * self.plane, &mut packed[at..], self.steps * 2 * TILE);
        }
    }

    /// Rows `row..row + rows` of the product with `count` pixels.
    fn multiply(&self, row: usize, rows: usize, count: usize, packed: &[bf16], out: DisjointMut<'_>) {
        for col in (0..count).step_by(NR) {
            Bf16Kernel {
                counts: &[],
                k: Offsets { inner: &[0], max_inner: 0, outer: self.steps, stride: MR * STEP },
                a: &self.weight[row / MR * packed_a_len(self.channels)..],
                rs_a: STEP,
                rows,
                b: &packed[col / NR * self.steps * 2 * TILE..],
                rs_b: 2 * TILE,
                cols: NR.min(count - col),
                // SAFETY: the caller's task alone writes these pixels.
                c: unsafe { out.part(col) },
                rs_c: count,
                accumulate: false,
                is_far: false,
            }
            .run();
        }
    }
}
