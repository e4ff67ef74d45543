//! Convolutions whose groups have few channels: depthwise ones above all.
//!
//! A product of matrices would leave most of its columns empty, so each channel is convolved by itself, as in a
//! depthwise convolution (Chollet, "Xception", arXiv:1610.02357), with pixels in the lanes of vectors. An image is copied
//! with its padding to a plane of one pitch (`flat`), and rows follow each other without a break: the sum of tap t of all
//! pixels is then one run of the weight times the plane shifted by one number, even where a row has 7 pixels. With a
//! stride the columns and rows of each remainder lie in a plane of their own, so that strides cost nothing in the loops
//! (`sums`).
//!
//! Where the CPU loads with masks, even the copy is saved, if the image keeps its size (`masked`, and `rows` for kernels
//! of 5 x 5 and 7 x 7) or is halved (`strided`, the forward pass).
//!
//! One task is an image and some groups, or for the gradient of the weight some images and a group.
#![allow(unsafe_code)]

mod flat;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod masked;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod rows;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod strided;
mod sums;
mod vector;

use super::geometry::ConvGeom;
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::LANES;
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::scratch::Scratch;
use flat::Flat;
use sums::{Dots, Products, add_dots, sums};

/// Elements of one task, where groups are small: 64 KiB.
const TASK: usize = 1 << 14;
/// Tasks that the gradient of the weight is cut into at least, where its shape allows: the work of up to 8 threads.
const TASKS: usize = 8;

/// Whether the groups have too few channels to fill the columns of a product. Strides are as small as those of networks:
/// each pair of remainders takes a plane.
pub(super) fn fits(g: &ConvGeom) -> bool {
    let few = 1..LANES;
    g.groups > 1
        && g.stride.iter().all(|s| *s <= 4)
        && few.contains(&(g.c / g.groups))
        && few.contains(&(g.k / g.groups))
}

/// Calls `f` with an image and a range of groups, in parallel; `elements` are those of one group.
fn each_block(g: &ConvGeom, elements: usize, f: impl Fn(usize, usize, usize) + Sync + Send) {
    let block = (TASK / elements.max(1)).clamp(1, g.groups);
    let blocks = g.groups.div_ceil(block);
    par::tasks(g.n * blocks, g.flops() < SERIAL_FLOPS, |i| {
        let first = i % blocks * block;
        f(i / blocks, first, block.min(g.groups - first));
    });
}

/// The taps of a channel of a depthwise convolution.
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
fn kernel<'a>(g: &ConvGeom, w: &'a [Elem], channel: usize) -> &'a [Elem] {
    let taps = g.kernel[0] * g.kernel[1];
    &w[channel * taps..][..taps]
}

/// Calls `f` with the number and the memory of each plane, of `size` elements, of the result of a depthwise convolution.
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
fn each_plane(g: &ConvGeom, size: usize, out: &mut [Elem], f: impl Fn(usize, &mut [Elem]) + Sync + Send) {
    let planes = (TASK / (g.h * g.w).max(1)).max(1);
    par::chunks(planes * size.max(1), g.flops() < SERIAL_FLOPS, out, |i, out| {
        out.chunks_exact_mut(size).enumerate().for_each(|(j, out)| f(i * planes + j, out));
    });
}

/// What computes a plane of a depthwise convolution from the taps of its channel and the plane of the input as it lies,
/// if the shape is one for that.
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
fn without_copy(g: &ConvGeom) -> Option<Box<dyn Fn(&[Elem], &[Elem], &mut [Elem]) + Sync + Send>> {
    if let Some(rows) = rows::Rows::new(g) {
        return Some(Box::new(move |w, x, y| rows.sums(w, false, x, y)));
    }
    if let Some(masked) = masked::Masked::new(g, false) {
        return Some(Box::new(move |w, x, y| masked.sums(w, x, y)));
    }
    let strided = strided::Strided::new(g)?;
    Some(Box::new(move |w, x, y| strided.sums(w, x, y)))
}

/// `y`, overwritten; `epilogue(at, plane)` is called on each finished output plane with its place in `y`.
pub(super) fn forward(
    g: &ConvGeom,
    x: &[Elem],
    w: &[Elem],
    y: &mut [Elem],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    if let Some(sums) = without_copy(g) {
        let (image, plane) = (g.h * g.w, g.out[0] * g.out[1]);
        return each_plane(g, plane, y, |i, y| {
            sums(kernel(g, w, i % g.c), &x[i * image..][..image], y);
            epilogue(i * plane, y);
        });
    }
    let (flat, [from, to]) = (Flat::new(g), [g.c, g.k].map(|channels| channels / g.groups));
    let (steps, plane, image) = (flat.steps(from), g.out[0] * g.out[1], g.h * g.w);
    let len = flat.span();
    let y = DisjointMut::from(y);
    each_block(g, to * plane + from * image, |n, first, groups| {
        let mut input = Scratch::take(flat.input_len(from));
        let mut output = Scratch::take(to * sums::whole(len));
        let at = (n * g.k + first * to) * plane;
        // SAFETY: each task has planes of its own.
        let y = unsafe { y.slice(at, groups * to * plane) };
        for i in 0..groups {
            let group = first + i;
            flat.fill(from, &x[(n * g.c + group * from) * image..], &mut input);
            let weights = &w[group * to * steps.len()..][..to * steps.len()];
            sums(Products { steps: &steps, weights, x: &input }, to, len, &mut output, sums::whole(len));
            for k in 0..to {
                let from = (i * to + k) * plane;
                let y = &mut y[from..];
                flat::compact(&output[k * sums::whole(len)..], flat.pitch, g.out, y);
                epilogue(at + from, &mut y[..plane]);
            }
        }
    });
}

/// `dx`, overwritten.
pub(super) fn backward_data(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    if let Some(rows) = rows::Rows::new(g) {
        let plane = g.h * g.w;
        return each_plane(g, plane, dx, |i, dx| {
            rows.sums(kernel(g, w, i % g.c), true, &dy[i * plane..][..plane], dx);
        });
    }
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    if let Some(masked) = masked::Masked::new(g, true) {
        let plane = g.h * g.w;
        return each_plane(g, plane, dx, |i, dx| {
            masked.sums(kernel(g, w, i % g.c), &dy[i * plane..][..plane], dx);
        });
    }
    let (flat, [to, from]) = (Flat::new(g), [g.c, g.k].map(|channels| channels / g.groups));
    let phases = flat.output_steps(from);
    let weights = weights_by_phase(g, &flat, w);
    let (plane, image, group_weights) = (g.out[0] * g.out[1], g.h * g.w, g.w_len() / g.groups);
    let ((first_row, rows), phase) = (flat.covered_rows(), flat.phase_len());
    let len = rows * flat.pitch;
    let phase_pitch = phase.max(first_row * flat.pitch + sums::whole(len));
    let dx = DisjointMut::from(dx);
    each_block(g, from * plane + to * image, |n, first, groups| {
        let mut grad = Scratch::take(flat.output_len(from));
        // [phase][channel][pixel]
        let mut input = Scratch::take(phases.len() * to * phase_pitch);
        // SAFETY: each task has planes of its own.
        let dx = unsafe { dx.slice((n * g.c + first * to) * image, groups * to * image) };
        for i in 0..groups {
            let group = first + i;
            flat.fill_output(from, &dy[(n * g.k + group * from) * plane..], &mut grad);
            let mut weights = &weights[group * group_weights..];
            for (steps, input) in phases.iter().zip(input.chunks_exact_mut(to * phase_pitch)) {
                let at = first_row * flat.pitch;
                let products = Products { steps, weights: &weights[..to * steps.len()], x: &grad[at..] };
                sums(products, to, len, &mut input[at..], phase_pitch);
                weights = &weights[to * steps.len()..];
            }
            for c in 0..to {
                let phases = |phase: usize| &input[(phase * to + c) * phase_pitch..];
                flat.merge(phases, &mut dx[(i * to + c) * image..]);
            }
        }
    });
}

/// The weight as [group][phase][input channel][output channel, tap].
fn weights_by_phase(g: &ConvGeom, flat: &Flat, w: &[Elem]) -> Scratch {
    let (from, to, kernel) = (g.k / g.groups, g.c / g.groups, g.kernel[0] * g.kernel[1]);
    let mut weights = Scratch::take(g.w_len());
    let mut next = weights.iter_mut();
    for group in 0..g.groups {
        for phase in 0..flat.phases() {
            for c in 0..to {
                for k in 0..from {
                    let own = &w[((group * from + k) * to + c) * kernel..];
                    let taps = flat.taps.iter().zip(own).filter(|(tap, _)| tap.phase == phase);
                    taps.zip(&mut next).for_each(|((_, w), to)| *to = *w);
                }
            }
        }
    }
    weights
}

/// `dw = beta * dw + gradient`; neither the weight nor the batch is empty.
pub(super) fn backward_weight(g: &ConvGeom, x: &[Elem], dy: &[Elem], beta: Elem, dw: &mut [Elem]) {
    let (flat, [from, to]) = (Flat::new(g), [g.c, g.k].map(|channels| channels / g.groups));
    let (steps, plane, image) = (flat.steps(from), g.out[0] * g.out[1], g.h * g.w);
    let group = to * steps.len();
    let images = g.n.div_ceil(TASKS.div_ceil(g.groups).min(g.n));
    let chunks = g.n.div_ceil(images);
    // [chunk of images][output channel][channel, tap]
    let mut partials = Scratch::take(if chunks == 1 { 0 } else { chunks * g.w_len() });
    let one = chunks == 1;
    let sums = DisjointMut::from(if one { &mut *dw } else { &mut partials[..] });
    let finish = |dots: Dots, chunk: usize, at: usize| {
        // SAFETY: each task has sums of its own.
        let own = unsafe { sums.slice(chunk * g.w_len() + at * group, group) };
        dots.finish(if one { beta } else { 0.0 }, own);
    };
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    let masked = masked::Masked::new(g, false);
    par::tasks(chunks * g.groups, g.flops() < SERIAL_FLOPS, |i| {
        let (chunk, at) = (i / g.groups, i % g.groups);
        let mut dots = Dots::new(group);
        let range = chunk * images..g.n.min((chunk + 1) * images);
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        if let Some(masked) = &masked {
            let first = (range.start * g.c + at) * plane;
            masked.add_dots(&mut dots, range.len(), g.c * plane, &x[first..], &dy[first..]);
            return finish(dots, chunk, at);
        }
        let mut input = Scratch::take(flat.input_len(from));
        let mut grad = Scratch::take(flat.output_len(to));
        for n in range {
            flat.fill(from, &x[(n * g.c + at * from) * image..], &mut input);
            flat.fill_output(to, &dy[(n * g.k + at * to) * plane..], &mut grad);
            for k in 0..to {
                let grad = &grad[k * flat.output_plane() + flat.reach()..];
                let lanes = &mut dots.lanes[k * steps.len() * LANES..][..steps.len() * LANES];
                add_dots(&steps, flat.span(), grad, &input, lanes);
            }
            dots.flush_after(flat.span());
        }
        finish(dots, chunk, at);
    });
    if !one {
        for (chunk, partial) in partials.chunks_exact(g.w_len()).enumerate() {
            let beta = if chunk == 0 { beta } else { 1.0 };
            dw.iter_mut().zip(partial).for_each(|(d, p)| *d = if beta == 0.0 { *p } else { beta * *d + *p });
        }
    }
}
