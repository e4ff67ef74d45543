//! The weight gradient of a convolution: a product over pixels for each (channel, tap).

use super::conv_frame::{Frame, grid};
use super::conv_product::{SERIAL_FLOPS, clear_padding, even_rows, full};
use super::conv_winograd::Shape;
use super::scratch::Scratch;
use super::tile::{LANES, MAX_VECS, Order, Out, Steps, Tile, max_rows};
use super::transpose::transpose;
use super::{ConvGeom, Elem, Epilogue, Mat, MatMut, conv_winograd_weight, gemm};
use rayon::prelude::*;

/// Pixels that one tile should sum before its results go to memory.
const BLOCK_PIXELS: usize = 128;
/// Elements that the partial gradients of all image chunks may have.
const PARTIALS: usize = 1 << 21;
/// Tasks that a gradient is cut into.
const TASKS: usize = 8;

/// How the work is cut: `chunks` of images times `groups` of panels, each with its own partial result.
struct Cut {
    chunks: usize,
    images: usize,
    /// Panels of 32 output channels of one group of channels, in all and in one task.
    panels: usize,
    per_task: usize,
}

impl Cut {
    fn new(g: &ConvGeom) -> Self {
        let kg = g.k / g.groups;
        let panels = kg.div_ceil(LANES * MAX_VECS);
        let chunks = (PARTIALS / g.w_len().max(1)).clamp(1, TASKS).min(g.n.max(1));
        let images = g.n.div_ceil(chunks).max(1);
        let chunks = g.n.div_ceil(images);
        let groups = TASKS.div_ceil(chunks.max(1)).min(panels);
        Self { chunks, images, panels, per_task: panels.div_ceil(groups.max(1)).max(1) }
    }
}

pub(super) fn backward_weight(g: &ConvGeom, x: &[Elem], dy: &[Elem], beta: Elem, dw: &mut [Elem]) {
    let (cg, kg) = (g.c / g.groups, g.k / g.groups);
    let crs = cg * g.kernel[0] * g.kernel[1];
    if dw.is_empty() {
        return;
    }
    if g.n == 0 {
        return super::reduce::start(beta, dw);
    }
    if let Some(s) = Shape::forward(g) {
        return conv_winograd_weight::backward_weight(&s, x, dy, beta, dw);
    }
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    if super::conv_weight_thin::fits(g) {
        return super::conv_weight_thin::backward_weight(g, x, dy, beta, dw);
    }
    if full(g) {
        let to = MatMut::new(dw, g.k, crs);
        return gemm(1.0, Mat::new(dy, g.n, g.k).t(), Mat::new(x, g.n, crs), beta, to, Epilogue::default());
    }
    let cut = Cut::new(g);
    let plan = Plan::new(g, crs);
    let panel = crs * LANES * MAX_VECS;
    let tasks_a_chunk = g.groups * cut.panels.div_ceil(cut.per_task);
    let mut partials = Scratch::take(cut.chunks * g.groups * cut.panels * panel);
    // A chunk of a task holds `per_task` panels; the last task of a group may hold fewer.
    let mut rest = &mut partials[..];
    let mut tasks = Vec::with_capacity(cut.chunks * tasks_a_chunk);
    for chunk in 0..cut.chunks {
        for group in 0..g.groups {
            for p in (0..cut.panels).step_by(cut.per_task) {
                let (part, tail) = rest.split_at_mut(cut.per_task.min(cut.panels - p) * panel);
                tasks.push((chunk, group, p, part));
                rest = tail;
            }
        }
    }
    let one = |(chunk, group, p, part): (usize, usize, usize, &mut [Elem])| {
        let images = chunk * cut.images..g.n.min((chunk + 1) * cut.images);
        plan.task(g, x, dy, images, group, p, part);
    };
    if g.flops() < SERIAL_FLOPS {
        tasks.into_iter().for_each(one);
    } else {
        tasks.into_par_iter().with_max_len(1).for_each(one);
    }
    // Lanes become rows again, and the chunks are summed in their order.
    let all = g.groups * cut.panels;
    let sum = |(i, dw): (usize, &mut [Elem])| {
        let lanes = dw.len() / crs;
        let width = lanes.div_ceil(LANES) * LANES;
        for chunk in 0..cut.chunks {
            let beta = if chunk == 0 { beta } else { 1.0 };
            transpose(crs, lanes, &partials[(chunk * all + i) * panel..], width, beta, dw, crs);
        }
    };
    for (group, dw) in dw.chunks_exact_mut(kg * crs).enumerate() {
        let one = |(i, dw): (usize, &mut [Elem])| sum((group * cut.panels + i, dw));
        if g.w_len() * cut.chunks < SERIAL_FLOPS / 4 {
            dw.chunks_mut(LANES * MAX_VECS * crs).enumerate().for_each(one);
        } else {
            dw.par_chunks_mut(LANES * MAX_VECS * crs).enumerate().for_each(one);
        }
    }
}

struct Plan {
    frame: Frame,
    /// Images whose pixels one tile sums.
    block: usize,
    pos: Vec<u32>,
    max_pos: usize,
    image: usize,
    taps: Vec<u32>,
}

impl Plan {
    fn new(g: &ConvGeom, crs: usize) -> Self {
        let [oh, ow] = g.out;
        let frame = Frame {
            c: g.c / g.groups,
            h: g.h,
            w: g.w,
            top: g.padding[0] as isize,
            left: g.padding[1] as isize,
            fh: g.h + 2 * g.padding[0],
            fw: g.w + 2 * g.padding[1],
        };
        let block = BLOCK_PIXELS.div_ceil((oh * ow).max(1));
        let pos = grid(1, 0, oh, g.stride[0] * frame.fw, ow, g.stride[1]);
        let image = if frame.is_image() { g.c * g.h * g.w } else { frame.len() };
        let [kh, kw] = g.kernel;
        let tap = |i: usize| {
            let (c, r, s) = (i / (kh * kw), i / kw % kh, i % kw);
            (c * frame.fh * frame.fw + r * g.dilation[0] * frame.fw + s * g.dilation[1]) as u32
        };
        let max_pos = pos.iter().max().map_or(0, |&p| p as usize);
        Self { frame, block, pos, max_pos, image, taps: (0..crs).map(tap).collect() }
    }

    /// The partial gradient `part` (panels from `first` on, [step][lane] each) from some images.
    fn task(
        &self,
        g: &ConvGeom,
        x: &[Elem],
        dy: &[Elem],
        images: std::ops::Range<usize>,
        group: usize,
        first: usize,
        part: &mut [Elem],
    ) {
        let f = &self.frame;
        let (kg, pixels, source) = (g.k / g.groups, self.pos.len(), f.c * f.h * f.w);
        let panel = self.taps.len() * LANES * MAX_VECS;
        let mut frames = Scratch::take(if f.is_image() { 0 } else { self.block * f.len() });
        let mut turned = Scratch::take(self.block * pixels * LANES * MAX_VECS);
        for n in images.clone().step_by(self.block) {
            let count = self.block.min(images.end - n);
            let view = if f.is_image() {
                &x[(n * g.groups + group) * source..]
            } else {
                for i in 0..count {
                    let src = &x[((n + i) * g.groups + group) * source..][..source];
                    f.fill(src, &mut frames[i * f.len()..][..f.len()]);
                }
                &frames[..]
            };
            for (p, part) in part.chunks_exact_mut(panel).enumerate() {
                let l = (first + p) * LANES * MAX_VECS;
                let lanes = (LANES * MAX_VECS).min(kg - l);
                let width = lanes.div_ceil(LANES) * LANES;
                for i in 0..count {
                    let src = &dy[((n + i) * g.k + group * kg + l) * pixels..];
                    transpose(lanes, pixels, src, pixels, 0.0, &mut turned[i * pixels * width..], width);
                }
                clear_padding(&mut turned[..count * pixels * width], lanes);
                let rows = even_rows(self.taps.len(), max_rows(width / LANES));
                for (j, base) in self.taps.chunks(rows).enumerate() {
                    Tile {
                        steps: Steps { inner: &self.pos, outer: count, stride: self.image },
                        max_inner: self.max_pos,
                        x: view,
                        base,
                        w: &turned,
                        order: Order::Panel(width),
                        lanes: width,
                        out: Out::from(&mut part[j * rows * width..]),
                        out_step: width,
                        add: n > images.start,
                    }
                    .run();
                }
            }
        }
    }
}
