//! Convolution and its gradient to the input: a product over (channel, tap) for each pixel, by images in parallel.

use super::conv_frame::{Frame, Taps, grid};
use super::scratch::Scratch;
use super::tile::{LANES, MAX_VECS, Order, Out, Tile, max_rows};
use super::transpose::transpose;
use super::{
    Act, Bias, ConvGeom, Elem, Epilogue, Mat, MatMut, act_inplace, conv_images, conv_winograd, gemm,
};
use rayon::prelude::*;

/// Pixels that a block of images should have at least, so that a panel of weights is read often per load.
const BLOCK_PIXELS: usize = 48;
/// Below this much work a call stays on its thread.
pub(super) const SERIAL_FLOPS: usize = 400_000;

/// The grid of results of one pass and where it goes in the output plane.
struct Target {
    rows: usize,
    cols: usize,
    /// First pixel, and the distance of rows and columns, in the output plane.
    first: usize,
    row: usize,
    col: usize,
}

/// One product: each pixel of `target` sums `taps` of the frame.
struct Pass {
    taps: Taps,
    pos: Vec<u32>,
    target: Target,
    /// Where the pass's panels start in a group's packed weights.
    panels: usize,
}

/// All that the blocks of images share.
struct Plan {
    frame: Frame,
    passes: Vec<Pass>,
    groups: usize,
    /// Images in one block.
    block: usize,
    /// Output channels of one group, and pixels of an output plane.
    lanes: usize,
    plane: usize,
    /// Packed weights of one group.
    packed: usize,
    /// Whether the lanes are pixels and the weights [channel, step].
    thin: bool,
}

fn block_size(n: usize, pixels: usize) -> usize {
    BLOCK_PIXELS.div_ceil(pixels.max(1)).clamp(1, n.max(1))
}

fn panels(lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    let width = LANES * MAX_VECS;
    (0..lanes).step_by(width).map(move |l| (l, width.min(lanes - l)))
}

/// The stored width of a panel: whole vectors.
fn padded(lanes: usize) -> usize {
    lanes.div_ceil(LANES) * LANES
}

/// Whether vectors of pixels waste less than vectors of `lanes` channels, whose results must be turned as well.
fn thin(lanes: usize, out: [usize; 2], steps: usize) -> bool {
    let pixels = lanes * out[0] * padded(out[1]) * steps;
    let channels = padded(lanes) * out[0] * out[1] * (steps + LANES);
    pixels < channels
}

pub(super) fn forward(g: &ConvGeom, x: &[Elem], w: &[Elem], bias: Option<&[Elem]>, act: Act, y: &mut [Elem]) {
    let finish = |c: usize, out: &mut [Elem]| {
        if let Some(bias) = bias {
            out.iter_mut().for_each(|v| *v += bias[c]);
        }
        act_inplace(act, out);
    };
    if let Some(s) = conv_winograd::Shape::forward(g) {
        return conv_winograd::run(&s, &conv_winograd::pack(g.k, g.c, w, false), x, y, finish);
    }
    if full(g) {
        return full_forward(g, x, w, bias, act, y);
    }
    let (cg, kg) = (g.c / g.groups, g.k / g.groups);
    let [oh, ow] = g.out;
    let taps = g.kernel[0] * g.kernel[1];
    let frame = Frame {
        c: cg,
        h: g.h,
        w: g.w,
        top: g.padding[0] as isize,
        left: g.padding[1] as isize,
        fh: g.h + 2 * g.padding[0],
        fw: g.w + 2 * g.padding[1],
    };
    let block = block_size(g.n, oh * ow);
    let image = if frame.is_image() { g.c * g.h * g.w } else { frame.len() };
    let offsets: Vec<usize> = (0..g.kernel[0])
        .flat_map(|r| (0..g.kernel[1]).map(move |s| r * g.dilation[0] * frame.fw + s * g.dilation[1]))
        .collect();
    let pass = Pass {
        taps: Taps::new(&offsets, cg, frame.fh * frame.fw),
        pos: grid(block, image, oh, g.stride[0] * frame.fw, ow, g.stride[1]),
        target: Target { rows: oh, cols: ow, first: 0, row: ow, col: 1 },
        panels: 0,
    };
    let steps = cg * taps;
    let thin = g.stride[1] == 1 && thin(kg, g.out, steps);
    let packed = if thin { steps * kg } else { steps * padded(kg) };
    let plan =
        Plan { frame, passes: vec![pass], groups: g.groups, block, lanes: kg, plane: oh * ow, packed, thin };
    if thin {
        return plan.run(x, w, g.flops() < SERIAL_FLOPS, y, finish);
    }
    let mut weights = Scratch::take(g.groups * packed);
    for group in 0..g.groups {
        for (l, lanes) in panels(kg) {
            let dst = &mut weights[group * packed + l * steps..][..steps * padded(lanes)];
            transpose(lanes, steps, &w[(group * kg + l) * steps..], steps, 0.0, dst, padded(lanes));
            clear_padding(dst, lanes);
        }
    }
    plan.run(x, &weights, g.flops() < SERIAL_FLOPS, y, finish);
}

/// Whether the kernel covers the whole input: then a convolution is a linear layer.
pub(super) fn full(g: &ConvGeom) -> bool {
    g.groups == 1 && g.out == [1, 1] && g.padding == [0, 0] && g.kernel == [g.h, g.w] && g.dilation == [1, 1]
}

fn full_forward(g: &ConvGeom, x: &[Elem], w: &[Elem], bias: Option<&[Elem]>, act: Act, y: &mut [Elem]) {
    let inner = g.c * g.h * g.w;
    let ep = Epilogue { bias: bias.map_or(Bias::None, Bias::Cols), act };
    gemm(1.0, Mat::new(x, g.n, inner), Mat::new(w, g.k, inner).t(), 0.0, MatMut::new(y, g.n, g.k), ep);
}

/// The rest of the last vector of each step of a panel.
pub(super) fn clear_padding(panel: &mut [Elem], lanes: usize) {
    if !lanes.is_multiple_of(LANES) {
        panel.chunks_exact_mut(padded(lanes)).for_each(|row| row[lanes..].fill(0.0));
    }
}

pub(super) fn backward_data(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    if let Some(s) = conv_winograd::Shape::backward(g) {
        return conv_winograd::run(&s, &conv_winograd::pack(g.k, g.c, w, true), dy, dx, |_, _| {});
    }
    if full(g) {
        let to = MatMut::new(dx, g.n, g.c * g.h * g.w);
        return gemm(1.0, Mat::new(dy, g.n, g.k), Mat::new(w, g.k, to.cols), 0.0, to, Epilogue::default());
    }
    let (cg, kg) = (g.c / g.groups, g.k / g.groups);
    let rs = g.kernel[0] * g.kernel[1];
    // Input row y = a + stride * i takes from output row i + shift, for each tap whose shift is whole: a pass for each a.
    let [ys, xs] = [0, 1].map(|i| shifts(g.kernel[i], g.stride[i], g.padding[i], g.dilation[i]));
    let frame = {
        let [(top, fh), (left, fw)] =
            [(0, &ys, g.h), (1, &xs, g.w)].map(|(i, shifts, size)| reach(shifts, size, g.stride[i]));
        Frame { c: kg, h: g.out[0], w: g.out[1], top, left, fh, fw }
    };
    let block = block_size(g.n, g.h.div_ceil(g.stride[0]) * g.w.div_ceil(g.stride[1]));
    let image = if frame.is_image() { g.k * g.out[0] * g.out[1] } else { frame.len() };
    let thin = g.stride == [1, 1] && thin(cg, [g.h, g.w], kg * rs);
    if thin && conv_images::fits(g) {
        return conv_images::backward_data(g, dy, w, dx);
    }
    let (mut passes, mut tap_lists, mut packed) = (Vec::new(), Vec::new(), 0);
    for (a, ys) in ys.iter().enumerate().take(g.h) {
        for (b, xs) in xs.iter().enumerate().take(g.w) {
            let list: Vec<(usize, usize)> = ys
                .iter()
                .flat_map(|&(r, dy)| {
                    xs.iter().map(move |&(s, dx)| {
                        let at = (dy + frame.top) as usize * frame.fw + (dx + frame.left) as usize;
                        (r * g.kernel[1] + s, at)
                    })
                })
                .collect();
            let offsets: Vec<usize> = list.iter().map(|t| t.1).collect();
            let (rows, cols) = ((g.h - a).div_ceil(g.stride[0]), (g.w - b).div_ceil(g.stride[1]));
            passes.push(Pass {
                taps: Taps::new(&offsets, kg, frame.fh * frame.fw),
                pos: grid(block, image, rows, frame.fw, cols, 1),
                target: Target { rows, cols, first: a * g.w + b, row: g.stride[0] * g.w, col: g.stride[1] },
                panels: packed,
            });
            packed += kg * list.len() * if thin { cg } else { padded(cg) };
            tap_lists.push(list);
        }
    }
    let plan = Plan { frame, passes, groups: g.groups, block, lanes: cg, plane: g.h * g.w, packed, thin };
    let mut weights = Scratch::take(g.groups * packed);
    weights.par_chunks_mut(packed.max(1)).enumerate().for_each(|(group, weights)| {
        for (pass, list) in plan.passes.iter().zip(&tap_lists) {
            if thin {
                for (i, to) in weights.iter_mut().enumerate() {
                    let (c, k, tap) = (i / list.len() / kg, i / list.len() % kg, list[i % list.len()].0);
                    *to = w[((group * kg + k) * cg + c) * rs + tap];
                }
                continue;
            }
            for (l, lanes) in panels(cg) {
                let (steps, width) = (kg * list.len(), padded(lanes));
                let dst = &mut weights[pass.panels + l * steps..][..steps * width];
                for (k, dst) in dst.chunks_exact_mut((list.len() * width).max(1)).enumerate() {
                    let src = &w[((group * kg + k) * cg + l) * rs..][..lanes * rs];
                    for (dst, &(tap, _)) in dst.chunks_exact_mut(width).zip(list) {
                        dst.iter_mut().zip(src[tap..].iter().step_by(rs)).for_each(|(d, s)| *d = *s);
                        dst[lanes..].fill(0.0);
                    }
                }
            }
        }
    });
    plan.run(dy, &weights, g.flops() < SERIAL_FLOPS, dx, |_, _| {});
}

/// For each residue a of an input position modulo the stride: the taps that meet it, and the shift of the output.
fn shifts(kernel: usize, stride: usize, padding: usize, dilation: usize) -> Vec<Vec<(usize, isize)>> {
    (0..stride)
        .map(|a| {
            let taps = (0..kernel).map(|r| (r, (a + padding) as isize - (r * dilation) as isize));
            taps.filter(|t| t.1.rem_euclid(stride as isize) == 0)
                .map(|(r, d)| (r, d.div_euclid(stride as isize)))
                .collect()
        })
        .collect()
}

/// The padding before the output, and the size of the frame, that all shifts of one axis need.
fn reach(shifts: &[Vec<(usize, isize)>], size: usize, stride: usize) -> (isize, usize) {
    let all = || {
        shifts.iter().take(size).enumerate().flat_map(move |(a, list)| {
            let last = ((size - a).div_ceil(stride) - 1) as isize;
            list.iter().map(move |t| (t.1, last + t.1))
        })
    };
    let low = all().map(|t| t.0).min().unwrap_or(0);
    let high = all().map(|t| t.1).max().unwrap_or(0);
    (-low, (high - low + 1) as usize)
}

impl Plan {
    /// Computes all images; `finish(channel, plane)` is called on each finished output plane.
    fn run(
        &self,
        x: &[Elem],
        weights: &[Elem],
        serial: bool,
        out: &mut [Elem],
        finish: impl Fn(usize, &mut [Elem]) + Sync,
    ) {
        let channels = self.groups * self.lanes;
        let image = channels * self.plane;
        if image == 0 {
            return;
        }
        let one = |(i, out): (usize, &mut [Elem])| {
            self.block(i * self.block, x, weights, out);
            out.chunks_exact_mut(self.plane).enumerate().for_each(|(c, plane)| finish(c % channels, plane));
        };
        if serial {
            out.chunks_mut(self.block * image).enumerate().for_each(one);
        } else {
            out.par_chunks_mut(self.block * image).enumerate().for_each(one);
        }
    }

    /// The images from `first` on that `out` has room for.
    fn block(&self, first: usize, x: &[Elem], weights: &[Elem], out: &mut [Elem]) {
        let f = &self.frame;
        let images = out.len() / (self.groups * self.lanes * self.plane);
        let source = f.c * f.h * f.w;
        let mut frames = Scratch::take(if f.is_image() { 0 } else { images * f.len() });
        for group in 0..self.groups {
            let at = |i: usize| ((first + i) * self.groups + group) * source;
            let view = if f.is_image() {
                &x[at(0)..]
            } else {
                for i in 0..images {
                    f.fill(&x[at(i)..][..source], &mut frames[i * f.len()..][..f.len()]);
                }
                &frames[..]
            };
            for pass in &self.passes {
                if self.thin {
                    self.thin_pass(pass, images, group, view, &weights[group * self.packed..], out);
                    continue;
                }
                self.pass(pass, images, group, view, &weights[group * self.packed + pass.panels..], out);
            }
        }
    }

    /// Row by row of output pixels, straight to their places.
    fn thin_pass(
        &self,
        pass: &Pass,
        images: usize,
        group: usize,
        x: &[Elem],
        weights: &[Elem],
        out: &mut [Elem],
    ) {
        let (t, steps) = (&pass.target, pass.taps.steps());
        let base: Vec<u32> = (0..self.lanes).map(|l| (l * steps.len()) as u32).collect();
        for row in 0..images * t.rows {
            let (image, y) = (row / t.rows, row % t.rows);
            for col in (0..t.cols).step_by(LANES * MAX_VECS) {
                let pixels = (LANES * MAX_VECS).min(t.cols - col);
                let rows = even_rows(self.lanes, max_rows(pixels.div_ceil(LANES)));
                for (i, base) in base.chunks(rows).enumerate() {
                    let channel = (image * self.groups + group) * self.lanes + i * rows;
                    Tile {
                        steps,
                        max_inner: pass.taps.max_inner,
                        x: weights,
                        base,
                        w: &x[pass.pos[row * t.cols + col] as usize..],
                        order: Order::Map,
                        lanes: pixels,
                        out: Out::from(&mut out[channel * self.plane + y * t.row + col..]),
                        out_step: self.plane,
                        add: false,
                    }
                    .run();
                }
            }
        }
    }

    fn pass(&self, pass: &Pass, images: usize, group: usize, x: &[Elem], weights: &[Elem], out: &mut [Elem]) {
        let t = &pass.target;
        let steps = pass.taps.steps();
        let pixels = t.rows * t.cols;
        let dense = pixels == self.plane;
        let mut sums = Scratch::take(images * pixels * LANES * MAX_VECS);
        let mut plane = Scratch::take(if dense { 0 } else { pixels * LANES * MAX_VECS });
        for (l, lanes) in panels(self.lanes) {
            let width = padded(lanes);
            let tile_rows = even_rows(images * pixels, max_rows(width / LANES));
            for (i, base) in pass.pos[..images * pixels].chunks(tile_rows).enumerate() {
                Tile {
                    steps,
                    max_inner: pass.taps.max_inner,
                    x,
                    base,
                    w: &weights[l * steps.len()..],
                    order: Order::Panel(width),
                    lanes: width,
                    out: Out::from(&mut sums[i * tile_rows * width..]),
                    out_step: width,
                    add: false,
                }
                .run();
            }
            for i in 0..images {
                let sums = &sums[i * pixels * width..];
                let first = (i * self.groups + group) * self.lanes + l;
                let out = &mut out[first * self.plane..][..lanes * self.plane];
                if dense {
                    transpose(pixels, lanes, sums, width, 0.0, out, self.plane);
                } else {
                    transpose(pixels, lanes, sums, width, 0.0, &mut plane, pixels);
                    for (plane, out) in plane.chunks_exact(pixels).zip(out.chunks_exact_mut(self.plane)) {
                        spread(t, plane, out);
                    }
                }
            }
        }
    }
}

/// The rows of each tile when `count` are shared out evenly among tiles of at most `most`.
pub(super) fn even_rows(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most).max(1)).max(1)
}

/// Writes a dense grid of results to its places in the output plane.
fn spread(t: &Target, grid: &[Elem], out: &mut [Elem]) {
    for (y, row) in grid.chunks_exact(t.cols).enumerate() {
        let out = &mut out[t.first + y * t.row..];
        out.iter_mut().step_by(t.col).zip(row).for_each(|(o, v)| *o = *v);
    }
}
