//! 3 x 3 convolutions of stride 1 by Winograd's algorithm: transform, one product a point, transform back.

use super::conv_product::{clear_padding, even_rows};
use super::scratch::Scratch;
use super::tile::{LANES, MAX_VECS, Out, Steps, Tile, max_rows};
use super::transpose::transpose;
use super::winograd::{OUT, POINTS, Spread, inputs, kernels, outputs};
use super::{ConvGeom, Elem, par};
use rayon::prelude::*;

/// Lanes of a panel of output channels.
const PANEL: usize = LANES * MAX_VECS;
/// Tiles that go through the products together.
const TILES: usize = 64;

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

/// Rows of tiles of several images, counted through: what one chunk works on.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub first: usize,
    pub count: usize,
}

/// Copies one image's channels to [channel / 16, rows, cols, 16], `top` and `left` zeros before, zeros after.
pub(super) fn channels_last(
    (c, h, w): (usize, usize, usize),
    (top, left): (usize, usize),
    (rows, cols): (usize, usize),
    src: &[Elem],
    dst: &mut [Elem],
) {
    let size = rows * cols * LANES;
    for (block, dst) in dst[..c / LANES * size].chunks_exact_mut(size).enumerate() {
        for (y, row) in dst.chunks_exact_mut(cols * LANES).enumerate() {
            let inside = y.checked_sub(top).filter(|y| *y < h);
            let Some(y) = inside else {
                row.fill(0.0);
                continue;
            };
            let width = w.min(cols.saturating_sub(left));
            row[..left * LANES].fill(0.0);
            row[(left + width) * LANES..].fill(0.0);
            let src = &src[(block * LANES * h + y) * w..];
            transpose(LANES, width, src, h * w, 0.0, &mut row[left * LANES..], LANES);
        }
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
    let images = TILES.div_ceil(s.rows() * s.cols()).min(s.n.max(1));
    let step: Vec<u32> = (0..s.c as u32).collect();
    y.par_chunks_mut(images * s.k * s.oh * s.ow).enumerate().for_each(|(block, y)| {
        let count = y.len() / (s.k * s.oh * s.ow);
        let all = count * s.rows();
        let rows = TILES.div_ceil(s.cols());
        // The frame of an image stays while its rows of tiles are worked on.
        let mut frame = Frame { data: Scratch::take(s.c * frame_len(s)), image: usize::MAX };
        for first in (0..all).step_by(rows) {
            let rows = Rows { first, count: rows.min(all - first) };
            chunk(s, rows, &step, &u, &x[block * images * s.c * s.h * s.w..], &mut frame, y, &finish);
        }
    });
}

struct Frame {
    data: Scratch,
    image: usize,
}

/// Elements of one channel of a frame.
fn frame_len(s: &Shape) -> usize {
    (s.rows() * OUT + 2) * (s.cols() * OUT + 2)
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

/// Some rows of tiles of the images in `x` and `y`.
fn chunk(
    s: &Shape,
    rows: Rows,
    step: &[u32],
    u: &[Elem],
    x: &[Elem],
    frame: &mut Frame,
    y: &mut [Elem],
    finish: &(impl Fn(usize, &mut [Elem]) + Sync),
) {
    let (cols, plane) = (s.cols(), s.oh * s.ow);
    let tiles = rows.count * cols;
    let mut v = Scratch::take(POINTS * tiles * s.c);
    transform_inputs(s, rows, x, frame, &mut v);
    let mut m = Scratch::take(POINTS * tiles * PANEL);
    let mut sums = Scratch::take(OUT * s.ow * PANEL);
    let base: Vec<u32> = (0..tiles).map(|t| (t * s.c) as u32).collect();
    for l0 in (0..s.k).step_by(PANEL) {
        let width = PANEL.min(s.k - l0);
        let tile_rows = even_rows(tiles, max_rows(width / LANES));
        for p in 0..POINTS {
            for (i, base) in base.chunks(tile_rows).enumerate() {
                Tile {
                    steps: Steps { inner: step, outer: 1, stride: 0 },
                    max_inner: s.c - 1,
                    x: &v[p * tiles * s.c..],
                    base,
                    w: &u[(l0 * POINTS + p * width) * s.c..],
                    w_step: width,
                    lanes: width,
                    out: Out::from(&mut m[(p * tiles + i * tile_rows) * width..]),
                    out_step: width,
                    add: false,
                }
                .run();
            }
        }
        for r in 0..rows.count {
            let (image, row) = ((rows.first + r) / s.rows(), (rows.first + r) % s.rows());
            let height = OUT.min(s.oh - row * OUT);
            for l in (0..width).step_by(LANES) {
                let from = Spread { point: tiles * width, tile: width };
                outputs(&m[r * cols * width + l..], from, cols, height, s.ow, width, &mut sums[l..]);
            }
            let pixels = height * s.ow;
            let at = (image * s.k + l0) * plane + row * OUT * s.ow;
            transpose(pixels, width, &sums, width, 0.0, &mut y[at..], plane);
            for l in 0..width {
                finish(l0 + l, &mut y[at + l * plane..][..pixels]);
            }
        }
    }
}

/// `v`: [point, tile, c].
fn transform_inputs(s: &Shape, rows: Rows, x: &[Elem], frame: &mut Frame, v: &mut [Elem]) {
    let size = (s.rows() * OUT + 2, s.cols() * OUT + 2);
    for r in 0..rows.count {
        let (image, row) = ((rows.first + r) / s.rows(), (rows.first + r) % s.rows());
        if frame.image != image {
            let x = &x[image * s.c * s.h * s.w..][..s.c * s.h * s.w];
            channels_last((s.c, s.h, s.w), (s.top, s.left), size, x, &mut frame.data);
            frame.image = image;
        }
        for c in (0..s.c).step_by(LANES) {
            let from = &frame.data[c * size.0 * size.1 + row * OUT * size.1 * LANES..];
            let to = Spread { point: rows.count * s.cols() * s.c, tile: s.c };
            inputs(from, size.1, s.cols(), to, Out::from(&mut v[r * s.cols() * s.c + c..]));
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
