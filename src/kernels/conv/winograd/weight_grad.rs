//! The gradient of the weight by the transposed algorithm: `Gt ((A dy At) . (Bt d B)) G`, summed over all tiles.
#![allow(unsafe_code)]

use std::ops::Range;

use super::data::{TRANSPOSED_ROWS, channels_last, input_rows};
use super::shape::Shape;
use super::transforms::{OUT, POINTS, TileStrides, apart, gradients, kernel_gradients};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::add_assign;
use crate::kernels::gemm::microkernel::{Gather, LANES, MicroKernel, NR, Offsets, balanced_mr};
use crate::kernels::number::Number;
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// Tiles of one round, which the products sum before their results go to memory: as many steps as the direct algorithm
/// takes.
const TILES: usize = 128;

/// Chunks of images that a gradient is cut into at most: the work of up to 8 threads.
const CHUNKS: usize = 8;
/// Panels whose work several threads can share: each is one task of [`at_once`].
const MANY_PANELS: usize = 8;
/// Elements that the transformed gradients of all chunks may have: 8 MiB.
const PARTIALS: usize = 1 << 21;

/// One round: the tiles of some images, transformed.
struct Round {
    tiles: usize,
    /// Inputs, [point, c / 16, tile, 16].
    v: Scratch,
    /// Gradients, [panel, point, tile, lane].
    z: Scratch,
    /// The steps of a product: where the tiles of 16 channels lie.
    steps: Vec<u32>,
    /// Whether its parts are tasks of several threads.
    shared: bool,
}

/// `dw = beta * dw + gradient` for the forward pass `s`.
///
/// Chunks of images have sums of their own where those are small. A round of few channels is too short a work to share.
pub(super) fn backward_weight<X: Number, D: Number>(
    s: &Shape,
    x: &[X],
    dy: &[D],
    beta: Elem,
    dw: &mut [Elem],
) {
    let chunks = (PARTIALS / (POINTS * s.c * s.k)).clamp(1, CHUNKS).min(s.n);
    let one_round = s.n * s.tile_rows() * s.tile_cols() <= TILES;
    if chunks == 1 && one_round && s.panels() >= MANY_PANELS {
        return at_once(s, x, dy, beta, dw);
    }
    let size = s.kernels_len();
    let images = s.n.div_ceil(chunks);
    let mut sums = Scratch::take(s.n.div_ceil(images) * size);
    par::chunks(size, chunks == 1, &mut sums, |i, u| {
        let images = i * images..s.n.min((i + 1) * images);
        chunk(s, images, chunks == 1, x, dy, u);
    });
    let (u, others) = sums.split_at_mut(size);
    others.chunks_exact(size).for_each(|other| add_assign(other, u));
    par::chunks(NR * s.c * 9, false, dw, |p, dw| {
        transform_back(s, p, &u[p * s.panel_len(0)..], beta, dw);
    });
}

/// All tiles in one round: each panel of sums is transformed back as it is found, while a cache has it.
fn at_once<X: Number, D: Number>(s: &Shape, x: &[X], dy: &[D], beta: Elem, dw: &mut [Elem]) {
    let mut round = Round::of(s, s.n, true);
    round.transform(s, s.n, x, dy);
    par::chunks(NR * s.c * 9, false, dw, |p, dw| {
        let mut u = Scratch::take(s.panel_len(p));
        let sums = DisjointMut::from(&mut u[..]);
        (0..POINTS).for_each(|point| round.multiply_point(s, (p, point), false, sums));
        transform_back(s, p, &u, beta, dw);
    });
}

/// Panel `p` of the gradient.
fn transform_back(s: &Shape, p: usize, u: &[Elem], beta: Elem, dw: &mut [Elem]) {
    let (width, steps) = (s.width(p), s.c * 9);
    let mut taps = Scratch::take(steps * width);
    for l in (0..width).step_by(LANES) {
        kernel_gradients(&u[l..], width, s.c, apart(s.c * width), &mut taps[l..]);
    }
    transpose(steps, width, &taps, width, beta, dw, steps);
}

/// The transformed gradient `u` of some images.
fn chunk<X: Number, D: Number>(
    s: &Shape,
    images: Range<usize>,
    shared: bool,
    x: &[X],
    dy: &[D],
    u: &mut [Elem],
) {
    let per_image = s.tile_rows() * s.tile_cols();
    let most = TILES.div_ceil(per_image).min(images.len());
    let mut round = Round::of(s, most, shared);
    for n in images.clone().step_by(most) {
        let count = most.min(images.end - n);
        round.transform(s, count, &x[n * s.c * s.h * s.w..], &dy[n * s.k * s.out_h * s.out_w..]);
        round.multiply(s, n > images.start, u);
    }
}

impl Round {
    /// Room for as many images.
    fn of(s: &Shape, images: usize, shared: bool) -> Self {
        let tiles = images * s.tile_rows() * s.tile_cols();
        let (v, z) = (POINTS * apart(s.c * tiles), s.panels() * POINTS * apart(NR * tiles));
        let steps = (0..tiles as u32).map(|t| t * LANES as u32).collect();
        Self { tiles, v: Scratch::take(v), z: Scratch::take(z), steps, shared }
    }

    /// Fills `v` and `z` from `count` images.
    fn transform<X: Number, D: Number>(&mut self, s: &Shape, count: usize, x: &[X], dy: &[D]) {
        let tiles = count * s.tile_rows() * s.tile_cols();
        self.tiles = tiles;
        let (v, z) = (DisjointMut::from(&mut self.v[..]), DisjointMut::from(&mut self.z[..]));
        let (blocks_c, blocks_k) = (s.c / LANES, s.k / LANES);
        // One task for 16 channels of one image, of the input or of the gradient.
        par::tasks(count * (blocks_c + blocks_k), !self.shared, |i| {
            let (image, block) = (i / (blocks_c + blocks_k), i % (blocks_c + blocks_k));
            let first = image * s.tile_rows() * s.tile_cols();
            if block < blocks_c {
                let src = &x[(image * s.c + block * LANES) * s.h * s.w..];
                let to = TileStrides { point: apart(s.c * tiles), tile: LANES };
                for r in (0..s.tile_rows()).step_by(TRANSPOSED_ROWS) {
                    let count = TRANSPOSED_ROWS.min(s.tile_rows() - r);
                    let at = (block * tiles + first + r * s.tile_cols()) * LANES;
                    // SAFETY: each task has tiles and channels of its own.
                    unsafe { input_rows(s, (r, count), src, to, v.part(at)) };
                }
            } else {
                let k = (block - blocks_c) * LANES;
                let (panel, lane) = (k / NR, k % NR);
                let width = s.width(panel);
                let src = &dy[(image * s.k + k) * s.out_h * s.out_w..];
                let to = TileStrides { point: apart(width * tiles), tile: width };
                let size = (OUT, s.tile_cols() * OUT);
                let mut local = Scratch::take(size.0 * size.1 * LANES);
                for r in 0..s.tile_rows() {
                    channels_last((s.out_h, s.out_w), (0, 0), r * OUT, size, src, &mut local);
                    let at = panel * POINTS * apart(NR * tiles) + (first + r * s.tile_cols()) * width + lane;
                    // SAFETY: each task has tiles and channels of its own.
                    gradients(&local, size.1, s.tile_cols(), to, unsafe { z.part(at) });
                }
            }
        });
    }

    /// Adds the round's products to `u`, [panel, point, c, lane].
    fn multiply(&self, s: &Shape, accumulate: bool, u: &mut [Elem]) {
        let u = DisjointMut::from(u);
        par::tasks(s.panels() * POINTS, !self.shared, |i| {
            let (panel, point) = (i / POINTS, i % POINTS);
            // SAFETY: each task has a panel and a point of its own.
            let u = unsafe { u.part(panel * s.panel_len(0)) };
            self.multiply_point(s, (panel, point), accumulate, u);
        });
    }

    /// One point of a panel, whose sums are `u`: [point, c, lane].
    fn multiply_point(
        &self,
        s: &Shape,
        (panel, point): (usize, usize),
        accumulate: bool,
        u: DisjointMut<'_>,
    ) {
        let (tiles, width) = (self.tiles, s.width(panel));
        let at = panel * POINTS * apart(NR * tiles) + point * apart(width * tiles);
        let z = &self.z[at..][..width * tiles];
        // Rows of one micro-kernel are channels of one block of 16.
        let mr = balanced_mr(LANES, width);
        for c in (0..s.c).step_by(mr) {
            let lane = (c % LANES) as u32;
            let rows: [u32; LANES] = std::array::from_fn(|i| lane + i as u32);
            MicroKernel {
                k: Offsets::flat(&self.steps[..tiles], (tiles - 1) * LANES),
                gather: Gather::A { rs_b: width },
                a: &self.v[point * apart(s.c * tiles) + c / LANES * LANES * tiles..],
                a_rows: &rows[..mr],
                b: z,
                nr: width,
                // SAFETY: the caller gives each point of a panel to one task.
                c: unsafe { u.part(point * apart(s.c * width) + c * width) },
                rs_c: width,
                accumulate,
            }
            .run();
        }
    }
}
