//! The gradient of the input as implicit products over (output channel, tap).
//!
//! With a stride, input positions of different remainders meet different taps, so there is one product for each pair of
//! remainders (vertical, horizontal): that multiplies no zeros, unlike a convolution over a stretched `dy`.

use super::geometry::ConvGeom;
use super::implicit_gemm::{ImplicitGemm, OutputGrid, Pass, block_size, prefers_pixels};
use super::padded::{Padded, TapOffsets, grid};
use crate::base::Elem;
use crate::kernels::gemm::microkernel::NR;
use crate::kernels::gemm::pack::padded;
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// Whether the columns of the micro-kernel should be pixels.
pub(super) fn is_narrow(g: &ConvGeom) -> bool {
    let steps = g.k / g.groups * g.kernel[0] * g.kernel[1];
    g.stride == [1, 1] && prefers_pixels(g.c / g.groups, [g.h, g.w], steps)
}

/// `dx`, overwritten.
pub(super) fn backward_data(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    let (plan, tap_lists) = plan(g);
    let mut weights = Scratch::take(g.groups * plan.packed);
    let serial = g.flops() < SERIAL_FLOPS;
    for (group, weights) in weights.chunks_exact_mut(plan.packed.max(1)).enumerate() {
        for (pass, taps) in plan.passes.iter().zip(&tap_lists) {
            if plan.narrow {
                copy_weights(g, group, taps, w, weights);
            } else {
                pack_weights(g, group, taps, w, &mut weights[pass.first_panel..], serial);
            }
        }
    }
    plan.run(dy, &weights, serial, dx, |_, _| {});
}

/// The weights of a group and a pass as [input channel, (output channel, tap)].
fn copy_weights(g: &ConvGeom, group: usize, taps: &[usize], w: &[Elem], weights: &mut [Elem]) {
    let (channels, from_channels) = (g.c / g.groups, g.k / g.groups);
    let kernel = g.kernel[0] * g.kernel[1];
    for (i, to) in weights.iter_mut().enumerate() {
        let (c, k) = (i / taps.len() / from_channels, i / taps.len() % from_channels);
        *to = w[((group * from_channels + k) * channels + c) * kernel + taps[i % taps.len()]];
    }
}

/// The weights of a group and a pass as panels of input channels.
fn pack_weights(g: &ConvGeom, group: usize, taps: &[usize], w: &[Elem], weights: &mut [Elem], serial: bool) {
    let (channels, from_channels) = (g.c / g.groups, g.k / g.groups);
    let (kernel, steps) = (g.kernel[0] * g.kernel[1], from_channels * taps.len());
    let weights = &mut weights[..steps * padded(channels)];
    par::chunks((NR * steps).max(1), serial, weights, |p, panel| {
        let (l, cols) = (p * NR, NR.min(channels - p * NR));
        let width = padded(cols);
        let mut turned = Scratch::take(kernel * width);
        for (k, panel) in panel.chunks_exact_mut((taps.len() * width).max(1)).enumerate() {
            let from = &w[((group * from_channels + k) * channels + l) * kernel..][..cols * kernel];
            match kernel {
                1 => turned[..cols].copy_from_slice(from),
                _ => transpose(cols, kernel, from, kernel, 0.0, &mut turned, width),
            }
            for (row, &tap) in panel.chunks_exact_mut(width).zip(taps) {
                row[..cols].copy_from_slice(&turned[tap * width..][..cols]);
                row[cols..].fill(0.0);
            }
        }
    });
}

/// The products, and for each the taps of the kernel that it sums.
fn plan(g: &ConvGeom) -> (ImplicitGemm, Vec<Vec<usize>>) {
    let (channels, from_channels) = (g.c / g.groups, g.k / g.groups);
    let [ys, xs] = [0, 1].map(|axis| taps_by_remainder(g, axis));
    let [(top, padded_h), (left, padded_w)] =
        [(0, &ys, g.h), (1, &xs, g.w)].map(|(axis, taps, size)| reach(taps, size, g.stride[axis]));
    let image = Padded { c: from_channels, h: g.out[0], w: g.out[1], top, left, padded_h, padded_w };
    let block = block_size(g.n, g.h.div_ceil(g.stride[0]) * g.w.div_ceil(g.stride[1]));
    let stride = if image.is_image() { g.k * g.out[0] * g.out[1] } else { image.len() };
    let narrow = is_narrow(g);
    let (mut passes, mut tap_lists, mut packed) = (Vec::new(), Vec::new(), 0);
    for (a, ys) in ys.iter().enumerate().take(g.h) {
        for (b, xs) in xs.iter().enumerate().take(g.w) {
            let pairs = || ys.iter().flat_map(|y| xs.iter().map(move |x| (y, x)));
            let offsets: Vec<usize> = pairs()
                .map(|(y, x)| (y.shift + top) as usize * padded_w + (x.shift + left) as usize)
                .collect();
            let (rows, cols) = ((g.h - a).div_ceil(g.stride[0]), (g.w - b).div_ceil(g.stride[1]));
            passes.push(Pass {
                taps: TapOffsets::new(&offsets, from_channels, padded_h * padded_w),
                windows: grid((block, stride), (rows, padded_w), (cols, 1)),
                grid: OutputGrid {
                    rows,
                    cols,
                    first: a * g.w + b,
                    row_stride: g.stride[0] * g.w,
                    col_stride: g.stride[1],
                },
                first_panel: packed,
            });
            packed += from_channels * offsets.len() * if narrow { channels } else { padded(channels) };
            tap_lists.push(pairs().map(|(y, x)| y.tap * g.kernel[1] + x.tap).collect());
        }
    }
    let (groups, plane) = (g.groups, g.h * g.w);
    (ImplicitGemm { image, passes, groups, block, channels, plane, packed, narrow }, tap_lists)
}

/// A tap that input positions of one remainder meet: input position `remainder + stride * i` takes from output position
/// `i + shift`.
struct MetTap {
    tap: usize,
    shift: isize,
}

/// The taps of an axis that input positions of each remainder modulo the stride meet.
fn taps_by_remainder(g: &ConvGeom, axis: usize) -> Vec<Vec<MetTap>> {
    let (kernel, stride) = (g.kernel[axis], g.stride[axis]);
    (0..stride)
        .map(|a| {
            let distance = |tap| (a + g.padding[axis]) as isize - (tap * g.dilation[axis]) as isize;
            (0..kernel)
                .map(|tap| (tap, distance(tap)))
                .filter(|(_, d)| d.rem_euclid(stride as isize) == 0)
                .map(|(tap, d)| MetTap { tap, shift: d.div_euclid(stride as isize) })
                .collect()
        })
        .collect()
}

/// The padding before the output that all taps of one axis need, and the padded size.
fn reach(taps: &[Vec<MetTap>], size: usize, stride: usize) -> (isize, usize) {
    let shifts = || {
        taps.iter().take(size).enumerate().flat_map(move |(a, taps)| {
            let last = ((size - a).div_ceil(stride) - 1) as isize;
            taps.iter().map(move |t| (t.shift, last + t.shift))
        })
    };
    let low = shifts().map(|s| s.0).min().unwrap_or(0);
    let high = shifts().map(|s| s.1).max().unwrap_or(0);
    (-low, (high - low + 1) as usize)
}
