//! The forward pass as an implicit product: each pixel of the output sums the (channel, tap)s of its window.

use super::geometry::ConvGeom;
use super::implicit_gemm::{ImplicitGemm, OutputGrid, Pass, block_size, prefers_pixels};
use super::padded::{Padded, TapOffsets, grid};
use crate::base::Elem;
use crate::kernels::gemm::microkernel::NR;
use crate::kernels::gemm::pack::{padded, zero_padding};
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// `y`, overwritten; `epilogue(at, plane)` is called on each finished output plane with its place in `y`.
pub(super) fn forward(
    g: &ConvGeom,
    x: &[Elem],
    w: &[Elem],
    y: &mut [Elem],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    let (channels_in, channels) = (g.c / g.groups, g.k / g.groups);
    let steps = channels_in * g.kernel[0] * g.kernel[1];
    let narrow = g.stride[1] == 1 && prefers_pixels(channels, g.out, steps);
    let plan = plan(g, narrow);
    let serial = g.flops() < SERIAL_FLOPS;
    if narrow {
        // The weight is [channel, step] already.
        return plan.run(x, w, serial, y, epilogue);
    }
    let mut weights = Scratch::take(g.groups * plan.packed);
    for group in 0..g.groups {
        let weights = &mut weights[group * plan.packed..][..plan.packed];
        par::chunks((NR * steps).max(1), serial, weights, |p, panel| {
            let cols = NR.min(channels - p * NR);
            let from = &w[(group * channels + p * NR) * steps..];
            transpose(cols, steps, from, steps, 0.0, panel, padded(cols));
            zero_padding(panel, cols);
        });
    }
    plan.run(x, &weights, serial, y, epilogue);
}

fn plan(g: &ConvGeom, narrow: bool) -> ImplicitGemm {
    let ([out_h, out_w], channels) = (g.out, g.k / g.groups);
    let image = Padded::input(g);
    let block = block_size(g.n, out_h * out_w);
    let stride = if image.is_image() { g.c * g.h * g.w } else { image.len() };
    let taps: Vec<usize> = (0..g.kernel[0])
        .flat_map(|r| (0..g.kernel[1]).map(move |s| r * g.dilation[0] * image.padded_w + s * g.dilation[1]))
        .collect();
    let pass = Pass {
        taps: TapOffsets::new(&taps, image.c, image.padded_h * image.padded_w),
        windows: grid((block, stride), (out_h, g.stride[0] * image.padded_w), (out_w, g.stride[1])),
        grid: OutputGrid { rows: out_h, cols: out_w, first: 0, row_stride: out_w, col_stride: 1 },
        first_panel: 0,
    };
    let packed = taps.len() * image.c * if narrow { channels } else { padded(channels) };
    ImplicitGemm {
        image,
        passes: vec![pass],
        groups: g.groups,
        block,
        channels,
        plane: out_h * out_w,
        packed,
        narrow,
    }
}
