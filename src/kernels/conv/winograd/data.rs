//! The forward pass and the gradient of the input: transform, one matrix product a point, transform back.
#![allow(unsafe_code)]

use super::shape::Shape;
use super::transforms::{IN, OUT, POINTS, TileStrides, apart, inputs, kernels, outputs};
use crate::base::Elem;
use crate::kernels::conv::geometry::ConvGeom;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::{Gather, LANES, MicroKernel, NR, Offsets, balanced_mr};
use crate::kernels::number::Number;
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// Tiles that go through the products together: their transformed inputs, 36 x 64 x c, are read once for each panel
/// of output channels and should stay in a second-level cache meanwhile (576 KiB for 64 channels).
const TILES: usize = 64;

/// Rows of tiles whose inputs are transposed to channels last together: neighbouring rows of tiles share two rows of
/// inputs, so that four of them read 18 rows instead of 24.
pub(super) const TRANSPOSED_ROWS: usize = 4;

/// A rectangle's rows and columns.
pub(super) type Size = (usize, usize);

/// Copies 16 channels of a map of `map` size, from `src` on, to [rows, cols, 16]: the rows from `first` on of the map
/// with `before` rows and columns of zeros before it and zeros after it.
pub(super) fn channels_last<X: Number>(
    map: Size,
    before: Size,
    first: usize,
    (rows, cols): Size,
    src: &[X],
    dst: &mut [Elem],
) {
    let ((h, w), (top, left)) = (map, before);
    let width = w.min(cols.saturating_sub(left));
    for (y, row) in dst[..rows * cols * LANES].chunks_exact_mut(cols * LANES).enumerate() {
        match (first + y).checked_sub(top).filter(|y| *y < h) {
            None => row.fill(0.0),
            Some(y) => {
                row[..left * LANES].fill(0.0);
                row[(left + width) * LANES..].fill(0.0);
                transpose(LANES, width, &src[y * w..], h * w, 0.0, &mut row[left * LANES..], LANES);
            }
        }
    }
}

/// Transforms 16 channels, from `x` on, of `count` rows of tiles from `row` on.
///
/// # Safety
/// No other thread may touch these tiles and channels of `v`.
pub(super) unsafe fn input_rows<X: Number>(
    s: &Shape,
    (row, count): (usize, usize),
    x: &[X],
    to: TileStrides,
    v: DisjointMut<'_>,
) {
    let size = (count * OUT + IN - OUT, s.tile_cols() * OUT + IN - OUT);
    let mut local = Scratch::take(size.0 * size.1 * LANES);
    channels_last((s.h, s.w), (s.top, s.left), row * OUT, size, x, &mut local);
    for r in 0..count {
        // SAFETY: the caller's promise, and rows of tiles do not overlap.
        let v = unsafe { v.part(r * s.tile_cols() * to.tile) };
        inputs(&local[r * OUT * size.1 * LANES..], size.1, s.tile_cols(), to, v);
    }
}

/// Computes all images with the kernels that `taps` gives ([`taps`], [`flipped_taps`]); `epilogue(at, pixels)` is called
/// on each finished piece of an output plane with its place in `y`.
pub(super) fn run<X: Number, Y: Number>(
    s: &Shape,
    taps: &Taps<'_>,
    x: &[X],
    y: &mut [Y],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    let (per_image, image) = (s.tile_rows() * s.tile_cols(), s.k * s.out_h * s.out_w);
    let images = TILES.div_ceil(per_image).min(s.n.max(1));
    // Each thread has blocks of images of its own; where there are few, the threads share each.
    let shared = s.n.div_ceil(images) < 4;
    let rows = TILES.div_ceil(s.tile_cols());
    // Where all tiles go through together, each panel of kernels is transformed when it is wanted and stays in a cache: of
    // 512 channels all panels are 38 MB.
    let at_once = s.n * s.tile_rows() <= rows;
    let mut kernels = Scratch::take(if at_once { 0 } else { s.kernels_len() });
    par::each_index(s.panel_len(0), &mut kernels, |p, u| transform_kernels(s, p, taps, u));
    par::chunks(images * image, shared, y, |block, y| {
        let x = &x[block * images * s.c * s.h * s.w..];
        let all = y.len() / image * s.tile_rows();
        let y = DisjointMut::from(y);
        for first in (0..all).step_by(rows) {
            let chunk = Chunk { s, first, rows: rows.min(all - first), shared };
            let v = chunk.transform(x);
            let epilogue = |at: usize, out: &mut [Elem]| epilogue(block * images * image + at, out);
            par::tasks(s.panels(), !shared, |p| {
                if at_once {
                    let mut u = Scratch::take(s.panel_len(p));
                    transform_kernels(s, p, taps, &mut u);
                    chunk.panel(p, &u, &v, y, &epilogue);
                } else {
                    chunk.panel(p, &kernels[p * s.panel_len(0)..], &v, y, &epilogue);
                }
            });
        }
    });
}

/// Panel `p` of the kernels in the transformed domain: [point, c, lane], the points [`apart`].
fn transform_kernels(s: &Shape, p: usize, taps: &Taps<'_>, u: &mut [Elem]) {
    let width = s.width(p);
    let mut w = Scratch::take(s.c * 9 * width);
    taps(p, width, &mut w);
    for c in (0..s.c).step_by(LANES) {
        for l in (0..width).step_by(LANES) {
            let (w, u) = (&w[c * 9 * width + l..], &mut u[c * width + l..]);
            kernels(w, width, LANES, apart(s.c * width), u);
        }
    }
}

/// Some rows of tiles, counted through the images of a block.
struct Chunk<'a> {
    s: &'a Shape,
    first: usize,
    rows: usize,
    /// Whether its parts are tasks of several threads.
    shared: bool,
}

impl Chunk<'_> {
    /// The transformed inputs, [point, c / 16, tile, 16].
    fn transform<X: Number>(&self, x: &[X]) -> Scratch {
        let (s, tiles) = (self.s, self.rows * self.s.tile_cols());
        let point = apart(tiles * s.c);
        let mut v = Scratch::take(POINTS * point);
        let to = DisjointMut::from(&mut v[..]);
        let strides = TileStrides { point, tile: LANES };
        let (runs, blocks) = (self.runs(), s.c / LANES);
        par::tasks(runs.len() * blocks, !self.shared, |i| {
            let ((r, count), block) = (runs[i / blocks], i % blocks);
            let (image, row) = self.place(r);
            let x = &x[(image * s.c + block * LANES) * s.h * s.w..];
            // SAFETY: each task has tiles and channels of its own.
            unsafe {
                let to = to.part((block * tiles + r * s.tile_cols()) * LANES);
                input_rows(s, (row, count), x, strides, to);
            }
        });
        v
    }

    /// The rows in runs of at most [`TRANSPOSED_ROWS`] of one image: first and count.
    fn runs(&self) -> Vec<(usize, usize)> {
        let (mut runs, mut r) = (Vec::new(), 0);
        while r < self.rows {
            let count = TRANSPOSED_ROWS.min(self.rows - r).min(self.s.tile_rows() - self.place(r).1);
            runs.push((r, count));
            r += count;
        }
        runs
    }

    /// The image, and the row of tiles in it, of row `r` of the chunk.
    fn place(&self, r: usize) -> (usize, usize) {
        ((self.first + r) / self.s.tile_rows(), (self.first + r) % self.s.tile_rows())
    }

    /// All points of panel `p` of output channels, and back to pixels.
    fn panel<Y: Number>(
        &self,
        p: usize,
        u: &[Elem],
        v: &[Elem],
        y: DisjointMut<'_, Y>,
        epilogue: &(impl Fn(usize, &mut [Elem]) + Sync),
    ) {
        let (s, l0) = (self.s, p * NR);
        let (cols, plane, width) = (s.tile_cols(), s.out_h * s.out_w, s.width(p));
        let tiles = self.rows * cols;
        let mut m = Scratch::take(POINTS * apart(tiles * width));
        self.multiply(width, u, v, &mut m);
        let mut sums = Scratch::take(OUT * s.out_w * NR);
        // Planes a vector further apart than they need be: at a power of two they would share sets of a cache.
        let pitch = (OUT * s.out_w).next_multiple_of(LANES) + LANES;
        let mut planes = Scratch::take(NR * pitch);
        for r in 0..self.rows {
            let (image, row) = self.place(r);
            let height = OUT.min(s.out_h - row * OUT);
            for l in (0..width).step_by(LANES) {
                let from = TileStrides { point: apart(tiles * width), tile: width };
                outputs(&m[r * cols * width + l..], from, cols, (height, s.out_w), width, &mut sums[l..]);
            }
            let pixels = height * s.out_w;
            transpose(pixels, width, &sums, width, 0.0, &mut planes, pitch);
            let at = (image * s.k + l0) * plane + row * OUT * s.out_w;
            for (l, piece) in planes.chunks_exact_mut(pitch).enumerate().take(width) {
                let (at, piece) = (at + l * plane, &mut piece[..pixels]);
                epilogue(at, piece);
                // SAFETY: each task has channels of its own.
                Y::write(piece, unsafe { y.slice(at, pixels) });
            }
        }
    }

    /// The product of each point, [tile, c] x [c, lane], of a panel of `width` output channels: [point, tile, lane].
    fn multiply(&self, width: usize, u: &[Elem], v: &[Elem], m: &mut [Elem]) {
        let (s, tiles) = (self.s, self.rows * self.s.tile_cols());
        let rows: Vec<u32> = (0..tiles).map(|t| (t * LANES) as u32).collect();
        let steps: [u32; LANES] = std::array::from_fn(|l| l as u32);
        let mr = balanced_mr(tiles, width);
        for point in 0..POINTS {
            for (i, a_rows) in rows.chunks(mr).enumerate() {
                MicroKernel {
                    k: Offsets {
                        inner: &steps,
                        max_inner: LANES - 1,
                        outer: s.c / LANES,
                        stride: tiles * LANES,
                    },
                    gather: Gather::A { rs_b: width },
                    a: &v[point * apart(tiles * s.c)..],
                    a_rows,
                    b: &u[point * apart(width * s.c)..],
                    nr: width,
                    c: DisjointMut::from(&mut m[point * apart(tiles * width) + i * mr * width..]),
                    rs_c: width,
                    accumulate: false,
                }
                .run();
            }
        }
    }
}

/// Writes panel `p` of the kernels before they are transformed, `width` output channels, as [c, tap, output channel].
pub(super) type Taps<'a> = dyn Fn(usize, usize, &mut [Elem]) + Sync + 'a;

/// Those of the forward pass, from a weight of [k, c, 3, 3].
pub(super) fn taps(g: &ConvGeom, w: &[Elem], p: usize, width: usize, panel: &mut [Elem]) {
    let steps = g.c * 9;
    transpose(width, steps, &w[p * NR * steps..], steps, 0.0, panel, width);
}

/// Those of the gradient of the input, which are those of a convolution with the last tap first.
pub(super) fn flipped_taps(g: &ConvGeom, w: &[Elem], p: usize, width: usize, panel: &mut [Elem]) {
    let mut turned = [0.0; 9 * NR];
    for (k, panel) in panel.chunks_exact_mut(9 * width).enumerate() {
        let from = &w[(k * g.c + p * NR) * 9..][..width * 9];
        transpose(width, 9, from, 9, 0.0, &mut turned, width);
        for (tap, row) in panel.chunks_exact_mut(width).enumerate() {
            row.copy_from_slice(&turned[(8 - tap) * width..][..width]);
        }
    }
}
