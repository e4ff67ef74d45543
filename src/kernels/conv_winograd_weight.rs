//! The weight gradient of 3 x 3 convolutions of stride 1 by the transpose of Winograd's algorithm.
#![allow(unsafe_code)]

use super::conv_product::even_rows;
use super::conv_winograd::{Shape, TURNED, channels_last, input_rows};
use super::scratch::Scratch;
use super::tile::{LANES, MAX_VECS, Order, Out, Steps, Tile, max_rows};
use super::transpose::transpose;
use super::winograd::{OUT, POINTS, Spread, gradients, kernel_gradients};
use super::{Elem, par};
use rayon::prelude::*;

/// Lanes of a panel of output channels.
const PANEL: usize = LANES * MAX_VECS;
/// Tiles of one round, which the products sum before their results go to memory.
const TILES: usize = 128;

/// One round: the tiles of some images, transformed.
struct Round {
    tiles: usize,
    /// Inputs, [point, c / 16, tile, 16].
    v: Scratch,
    /// Gradients, [panel, point, tile, lanes].
    z: Scratch,
}

/// `dw = beta * dw + gradient` for the forward pass `s`.
pub(super) fn backward_weight(s: &Shape, x: &[Elem], dy: &[Elem], beta: Elem, dw: &mut [Elem]) {
    let per_image = s.rows() * s.cols();
    let images = TILES.div_ceil(per_image).min(s.n);
    let most = images * per_image;
    let mut round =
        Round { tiles: 0, v: Scratch::take(POINTS * s.c * most), z: Scratch::take(POINTS * s.k * most) };
    let mut u = Scratch::take(POINTS * s.c * s.k);
    for n in (0..s.n).step_by(images) {
        let count = images.min(s.n - n);
        round.tiles = count * per_image;
        round.transform(s, count, &x[n * s.c * s.h * s.w..], &dy[n * s.k * s.oh * s.ow..]);
        round.multiply(s, n > 0, &mut u);
    }
    dw.par_chunks_mut(PANEL * s.c * 9).enumerate().for_each(|(p, dw)| {
        let width = dw.len() / (s.c * 9);
        let u = &u[p * PANEL * POINTS * s.c..];
        let mut taps = Scratch::take(s.c * 9 * width);
        for l in (0..width).step_by(LANES) {
            kernel_gradients(&u[l..], width, s.c, s.c * width, &mut taps[l..]);
        }
        transpose(s.c * 9, width, &taps, width, beta, dw, s.c * 9);
    });
}

impl Round {
    /// Fills `v` and `z` from `count` images.
    fn transform(&mut self, s: &Shape, count: usize, x: &[Elem], dy: &[Elem]) {
        let tiles = self.tiles;
        let (v, z) = (Out::from(&mut self.v[..]), Out::from(&mut self.z[..]));
        let (blocks_c, blocks_k) = (s.c / LANES, s.k / LANES);
        // One task for 16 channels of one image, of the input or of the gradient.
        par::count(count * (blocks_c + blocks_k), usize::MAX, |i| {
            let (image, block) = (i / (blocks_c + blocks_k), i % (blocks_c + blocks_k));
            let first = image * s.rows() * s.cols();
            if block < blocks_c {
                let src = &x[(image * s.c + block * LANES) * s.h * s.w..];
                let to = Spread { point: s.c * tiles, tile: LANES };
                for r in (0..s.rows()).step_by(TURNED) {
                    let at = (block * tiles + first + r * s.cols()) * LANES;
                    // SAFETY: each task has tiles and channels of its own.
                    input_rows(s, r, TURNED.min(s.rows() - r), src, to, unsafe { v.part(at) });
                }
            } else {
                let k = (block - blocks_c) * LANES;
                let (panel, lane) = (k / PANEL, k % PANEL);
                let width = PANEL.min(s.k - panel * PANEL);
                let src = &dy[(image * s.k + k) * s.oh * s.ow..];
                let to = Spread { point: width * tiles, tile: width };
                let size = (OUT, s.cols() * OUT);
                let mut frame = Scratch::take(size.0 * size.1 * LANES);
                for r in 0..s.rows() {
                    channels_last((s.oh, s.ow), (0, 0), r * OUT, size, src, &mut frame);
                    let at = panel * PANEL * POINTS * tiles + (first + r * s.cols()) * width + lane;
                    // SAFETY: each task has tiles and channels of its own.
                    gradients(&frame, size.1, s.cols(), to, unsafe { z.part(at) });
                }
            }
        });
    }

    /// Adds the round's products to `u`, [panel, point, c, lanes].
    fn multiply(&self, s: &Shape, add: bool, u: &mut [Elem]) {
        let tiles = self.tiles;
        let steps: Vec<u32> = (0..tiles as u32).map(|t| t * LANES as u32).collect();
        let u = Out::from(u);
        // One task for a panel and a point.
        par::count(s.k.div_ceil(PANEL) * POINTS, usize::MAX, |i| {
            let (panel, point) = (i / POINTS, i % POINTS);
            let width = PANEL.min(s.k - panel * PANEL);
            let w = &self.z[(panel * PANEL * POINTS + point * width) * tiles..][..width * tiles];
            let rows = even_rows(LANES, max_rows(width / LANES));
            for c in (0..s.c).step_by(rows) {
                let lane = (c % LANES) as u32;
                let base: [u32; LANES] = std::array::from_fn(|j| lane + j as u32);
                let at = (panel * PANEL * POINTS + point * width) * s.c + c * width;
                Tile {
                    steps: Steps { inner: &steps, outer: 1, stride: 0 },
                    max_inner: (tiles - 1) * LANES,
                    x: &self.v[(point * s.c + c / LANES * LANES) * tiles..],
                    base: &base[..rows],
                    w,
                    order: Order::Panel(width),
                    lanes: width,
                    // SAFETY: each task has a panel and a point of its own.
                    out: unsafe { u.part(at) },
                    out_step: width,
                    add,
                }
                .run();
            }
        });
    }
}
