//! The forward pass as an implicit product: each pixel of the output sums the (channel, tap)s of its window.

use super::geometry::ConvGeom;
use super::implicit_gemm::{ImplicitGemm, OutputGrid, Pass, block_size, prefers_pixels};
use super::padded::{Padded, TapOffsets, grid};
use crate::base::Elem;
use crate::kernels::gemm::microkernel::NR;
use crate::kernels::gemm::pack::{padded, zero_padding};
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::transpose::transpose;

/// Whether the columns of the micro-kernel should be pixels: then the weight is read as it is, [channel, step].
pub(super) fn is_narrow(g: &ConvGeom) -> bool {
    let steps = g.c / g.groups * g.kernel[0] * g.kernel[1];
    g.stride[1] == 1 && prefers_pixels(g.k / g.groups, g.out, steps)
}

/// Elements of the packed weight.
pub(super) fn packed_len(g: &ConvGeom) -> usize {
    g.groups * padded(g.k / g.groups) * (g.c / g.groups) * g.kernel[0] * g.kernel[1]
}

/// The weight as panels of output channels, for all but [narrow](is_narrow) convolutions.
pub(super) fn pack(g: &ConvGeom, w: &[Elem], packed: &mut [Elem]) {
    let channels = g.k / g.groups;
    let steps = g.c / g.groups * g.kernel[0] * g.kernel[1];
    let serial = g.flops() < SERIAL_FLOPS;
    for (group, packed) in packed.chunks_exact_mut((padded(channels) * steps).max(1)).enumerate() {
        par::chunks((NR * steps).max(1), serial, packed, |p, panel| {
            let cols = NR.min(channels - p * NR);
            let from = &w[(group * channels + p * NR) * steps..];
            transpose(cols, steps, from, steps, 0.0, panel, padded(cols));
            zero_padding(panel, cols);
        });
    }
}

/// `y`, overwritten, by the weight as it is or [packed](pack); `epilogue(at, plane)` is called on each finished output
/// plane with its place in `y`.
pub(super) fn forward(
    g: &ConvGeom,
    x: &[Elem],
    w: &[Elem],
    y: &mut [Elem],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    plan(g, is_narrow(g)).run(x, w, g.flops() < SERIAL_FLOPS, y, epilogue);
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
