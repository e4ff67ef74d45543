//! 3 x 3 convolutions of stride 1 by Winograd's algorithm: transform, one product a point, transform back.
#![allow(unsafe_code)]

use super::conv_product::{clear_padding, even_rows};
use super::scratch::Scratch;
use super::tile::{LANES, MAX_VECS, Order, Out, Steps, Tile, max_rows};
use super::transpose::transpose;
use super::winograd::{IN, OUT, POINTS, Spread, inputs, kernels, outputs};
use super::{ConvGeom, Elem, par};
use rayon::prelude::*;

/// Lanes of a panel of output channels.
const PANEL: usize = LANES * MAX_VECS;
/// Tiles that go through the products together.
const TILES: usize = 64;
/// Rows of tiles whose inputs are turned to channels last together.
pub(super) const TURNED: usize = 4;

/// One convolution as the algorithm sees it: `c` channels of h x w in, `k` channels of oh x ow out, the window starting `top` rows and
/// `left` columns before the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub k: usize,
    pub oh: usize,
    pub ow: usize,
    pub top: usize,
    pub left: usize,
}

impl Shape {
    /// The forward pass of `g`, if it is one that the algorithm does faster.
    pub fn forward(g: &ConvGeom) -> Option<Self> {
        let [top, left] = g.padding;
        let [oh, ow] = g.out;
        let s = Self { n: g.n, c: g.c, h: g.h, w: g.w, k: g.k, oh, ow, top, left };
        (plain(g) && s.pays()).then_some(s)
    }

    /// The gradient of the input: the same with the channels' roles exchanged.
    pub fn backward(g: &ConvGeom) -> Option<Self> {
        let ([h, w], [top, left]) = (g.out, g.padding.map(|p| 2usize.saturating_sub(p)));
        let s = Self { n: g.n, c: g.k, h, w, k: g.c, oh: g.h, ow: g.w, top, left };
        (plain(g) && s.pays()).then_some(s)
    }

    /// Whole vectors of channels, enough tiles, and not too many of their outputs outside the map.
    fn pays(&self) -> bool {
        let tiles = self.rows() * self.cols();
        self.c.is_multiple_of(LANES)
            && self.k.is_multiple_of(LANES)
            && self.n * tiles >= 16
            && 10 * self.oh * self.ow >= 6 * tiles * OUT * OUT
    }

    /// Rows of tiles in one image.
    pub fn rows(&self) -> usize {
        self.oh.div_ceil(OUT)
    }

    /// Tiles in one row.
    pub fn cols(&self) -> usize {
        self.ow.div_ceil(OUT)
    }
}

/// Whether this is the kind of convolution that the algorithm is for.
pub(super) fn plain(g: &ConvGeom) -> bool {
    g.kernel == [3, 3]
        && g.stride == [1, 1]
        && g.dilation == [1, 1]
        && g.groups == 1
        && g.padding[0] <= 2
        && g.padding[1] <= 2
}

/// Copies rows `first`.. of the padded map to [rows, cols, 16]: 16 channels from `src` on, `top` and `left` zeros before the map and
/// zeros after it.
pub(super) fn channels_last(
    (h, w): (usize, usize),
    (top, left): (usize, usize),
    first: usize,
    (rows, cols): (usize, usize),
    src: &[Elem],
    dst: &mut [Elem],
) {
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

/// Transforms 16 channels, from `x` on, of `count` rows of tiles.
pub(super) fn input_rows(s: &Shape, row: usize, count: usize, x: &[Elem], to: Spread, v: Out<'_>) {
    let size = (count * OUT + IN - OUT, s.cols() * OUT + IN - OUT);
    let mut frame = Scratch::take(size.0 * size.1 * LANES);
    channels_last((s.h, s.w), (s.top, s.left), row * OUT, size, x, &mut frame);
    for r in 0..count {
        // SAFETY: it is this task's row of tiles.
        let v = unsafe { v.part(r * s.cols() * to.tile) };
        inputs(&frame[r * OUT * size.1 * LANES..], size.1, s.cols(), to, v);
    }
}

/// Computes all images. `w` are packed kernels, panel after panel of [c, 9, lanes]; `finish(channel, pixels)` is called on each finished
/// piece of an output plane.
pub(super) fn run(
    s: &Shape,
    w: &[Elem],
    x: &[Elem],
    y: &mut [Elem],
    finish: impl Fn(usize, &mut [Elem]) + Sync,
) {
    let u = transform_kernels(s, w);
    let (per_image, image) = (s.rows() * s.cols(), s.k * s.oh * s.ow);
    let images = TILES.div_ceil(per_image).min(s.n.max(1));
    // Each thread has blocks of images of its own; where there are few, the threads share each.
    let wide = s.n.div_ceil(images) < 4;
    let one = |(block, y): (usize, &mut [Elem])| {
        let x = &x[block * images * s.c * s.h * s.w..];
        let all = y.len() / image * s.rows();
        let rows = TILES.div_ceil(s.cols());
        for first in (0..all).step_by(rows) {
            Chunk { s, first, rows: rows.min(all - first), wide }.run(&u, x, Out::from(&mut *y), &finish);
        }
    };
    if wide {
        y.chunks_mut(images * image).enumerate().for_each(one);
    } else {
        y.par_chunks_mut(images * image).enumerate().for_each(one);
    }
}

/// Kernels in the transformed domain: panel after panel of [point, c, lanes].
fn transform_kernels(s: &Shape, w: &[Elem]) -> Scratch {
    let mut u = Scratch::take(POINTS * s.c * s.k);
    let panel = |u: &mut [Elem], p: usize| {
        let width = u.len() / (POINTS * s.c);
        let w = &w[p * PANEL * s.c * 9..][..width * s.c * 9];
        for l in (0..width).step_by(LANES) {
            kernels(&w[l..], width, s.c, s.c * width, &mut u[l..]);
        }
    };
    par::each_index(POINTS * s.c * PANEL, &mut u, |p, u| panel(u, p));
    u
}

/// Some rows of tiles, counted through the images of a block.
struct Chunk<'a> {
    s: &'a Shape,
    first: usize,
    rows: usize,
    /// Whether its parts are tasks.
    wide: bool,
}

impl Chunk<'_> {
    fn run(&self, u: &[Elem], x: &[Elem], y: Out<'_>, finish: &(impl Fn(usize, &mut [Elem]) + Sync)) {
        let (s, tiles) = (self.s, self.rows * self.s.cols());
        let mut v = Scratch::take(POINTS * tiles * s.c);
        let to = Out::from(&mut v[..]);
        let blocks = s.c / LANES;
        let size = if self.wide { usize::MAX } else { 0 };
        let units = self.units();
        par::count(units.len() * blocks, size, |i| {
            let ((r, count), block) = (units[i / blocks], i % blocks);
            let (image, row) = self.place(r);
            let spread = Spread { point: tiles * s.c, tile: LANES };
            let x = &x[(image * s.c + block * LANES) * s.h * s.w..];
            // SAFETY: each task has tiles and channels of its own.
            input_rows(s, row, count, x, spread, unsafe { to.part((block * tiles + r * s.cols()) * LANES) });
        });
        par::count(s.k.div_ceil(PANEL), size, |p| self.panel(p, u, &v, y, finish));
    }

    /// The rows in runs of at most `TURNED` of one image: first and count.
    fn units(&self) -> Vec<(usize, usize)> {
        let (mut units, mut r) = (Vec::new(), 0);
        while r < self.rows {
            let count = TURNED.min(self.rows - r).min(self.s.rows() - self.place(r).1);
            units.push((r, count));
            r += count;
        }
        units
    }

    /// Image and row of tiles of row `r` of the chunk.
    fn place(&self, r: usize) -> (usize, usize) {
        ((self.first + r) / self.s.rows(), (self.first + r) % self.s.rows())
    }

    /// All points of one panel of output channels, and back to pixels.
    fn panel(
        &self,
        p: usize,
        u: &[Elem],
        v: &[Elem],
        y: Out<'_>,
        finish: &(impl Fn(usize, &mut [Elem]) + Sync),
    ) {
        let (s, l0) = (self.s, p * PANEL);
        let (cols, plane, width) = (s.cols(), s.oh * s.ow, PANEL.min(s.k - l0));
        let tiles = self.rows * cols;
        let mut m = Scratch::take(POINTS * tiles * PANEL);
        let mut sums = Scratch::take(OUT * s.ow * PANEL);
        let base: Vec<u32> = (0..tiles).map(|t| (t * LANES) as u32).collect();
        let step: [u32; LANES] = std::array::from_fn(|l| l as u32);
        let tile_rows = even_rows(tiles, max_rows(width / LANES));
        for point in 0..POINTS {
            for (i, base) in base.chunks(tile_rows).enumerate() {
                Tile {
                    steps: Steps { inner: &step, outer: s.c / LANES, stride: tiles * LANES },
                    max_inner: LANES - 1,
                    x: &v[point * tiles * s.c..],
                    base,
                    w: &u[(l0 * POINTS + point * width) * s.c..],
                    order: Order::Panel(width),
                    lanes: width,
                    out: Out::from(&mut m[(point * tiles + i * tile_rows) * width..]),
                    out_step: width,
                    add: false,
                }
                .run();
            }
        }
        for r in 0..self.rows {
            let (image, row) = self.place(r);
            let height = OUT.min(s.oh - row * OUT);
            for l in (0..width).step_by(LANES) {
                let from = Spread { point: tiles * width, tile: width };
                outputs(&m[r * cols * width + l..], from, cols, height, s.ow, width, &mut sums[l..]);
            }
            let pixels = height * s.ow;
            let at = (image * s.k + l0) * plane + row * OUT * s.ow;
            // SAFETY: each task has channels of its own.
            unsafe { turn(pixels, width, &sums, y, at, plane) };
            for l in 0..width {
                // SAFETY: as above.
                finish(l0 + l, unsafe { y.slice(at + l * plane, pixels) });
            }
        }
    }
}

/// Turns [pixel, lane] into pieces of planes that start at `at` and lie `plane` apart.
///
/// # Safety
/// No other thread may touch these pieces.
unsafe fn turn(pixels: usize, width: usize, sums: &[Elem], y: Out<'_>, at: usize, plane: usize) {
    let mut block = [0.0; LANES * LANES];
    for p in (0..pixels).step_by(LANES) {
        let cols = LANES.min(pixels - p);
        for l in (0..width).step_by(LANES) {
            transpose(cols, LANES, &sums[p * width + l..], width, 0.0, &mut block, LANES);
            for (i, row) in block.chunks_exact(LANES).enumerate() {
                // SAFETY: the caller's promise.
                let out = unsafe { y.slice(at + (l + i) * plane + p, cols) };
                match out.first_chunk_mut::<LANES>() {
                    Some(out) => out.copy_from_slice(row),
                    None => out.copy_from_slice(&row[..cols]),
                }
            }
        }
    }
}

/// Packs `w` ([k, c, 3, 3]) for [`run`]: of the forward pass, or with `flip` of the gradient to the input.
pub(super) fn pack(k: usize, c: usize, w: &[Elem], flip: bool) -> Scratch {
    let mut packed = Scratch::take(k * c * 9);
    let lanes = if flip { c } else { k };
    let steps = k * c / lanes * 9;
    par::each_index(PANEL * steps, &mut packed, |p, dst| {
        let (l, width) = (p * PANEL, dst.len() / steps);
        if !flip {
            transpose(width, steps, &w[l * steps..], steps, 0.0, dst, width);
            return clear_padding(dst, width);
        }
        for (k, dst) in dst.chunks_exact_mut(9 * width).enumerate() {
            let src = &w[(k * c + l) * 9..][..width * 9];
            for (tap, dst) in dst.chunks_exact_mut(width).enumerate() {
                dst.iter_mut().zip(src[8 - tap..].iter().step_by(9)).for_each(|(d, s)| *d = *s);
            }
        }
    });
    packed
}
