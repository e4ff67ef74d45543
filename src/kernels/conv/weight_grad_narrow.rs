//! The gradient of the weight of a convolution to few channels: the lanes of a vector are pixels that lie side by side.
//!
//! Vectors of output channels would be mostly empty. Here a sum is a vector over pixels, kept from image to image,
//! and its lanes are added at the end. This is for AVX-512 alone: elsewhere vectors are short enough for the few
//! channels.
#![allow(unsafe_code)]

use super::geometry::ConvGeom;
use super::padded::Padded;
use crate::base::Elem;
use crate::kernels::gemm::microkernel::LANES;
use crate::kernels::isa::{Isa, isa};
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use std::arch::x86_64::*;

/// Chunks of images, each with sums of its own: the work of up to 8 threads.
const CHUNKS: usize = 8;
/// Output channels of one block.
const CHANNELS: usize = 3;
/// Taps side by side of one block: its 3 x 5 sums, three gradients and a vector of pixels stay in registers, and five
/// is a common kernel width.
const TAPS: usize = 5;

/// Where the rows of padded images and gradients lie.
struct Rows {
    /// The distance of two rows of the gradient, padded to whole vectors.
    pitch: usize,
    image: Padded,
}

/// The most output channels: with more, a product over packed panels loads less.
const MAX_CHANNELS: usize = LANES;

/// Whether vectors of pixels waste no more than vectors of channels, and an image has enough of them (16) for sums to
/// stay in registers.
pub(super) fn fits(g: &ConvGeom) -> bool {
    let [oh, ow] = g.out;
    let pitch = ow.next_multiple_of(LANES);
    isa() == Isa::Avx512
        && g.groups == 1
        && g.k <= MAX_CHANNELS
        && g.kernel[1] >= 3
        && g.stride == [1, 1]
        && g.k * pitch <= g.k.next_multiple_of(LANES) * ow
        && oh * pitch >= 16 * LANES
}

/// `dw = beta * dw + gradient`; the geometry [`fits`].
pub(super) fn backward_weight(g: &ConvGeom, x: &[Elem], dy: &[Elem], beta: Elem, dw: &mut [Elem]) {
    let [oh, ow] = g.out;
    let pitch = ow.next_multiple_of(LANES);
    assert!(fits(g), "a shape for another kernel");
    // A vector may begin at any tap of the last pixels.
    let padded_w = pitch + (g.kernel[1] - 1) * g.dilation[1];
    let rows = Rows { pitch, image: Padded { padded_w, ..Padded::input(g) } };
    let images = g.n.div_ceil(CHUNKS).max(1);
    let mut sums = Scratch::take(g.n.div_ceil(images) * dw.len() * LANES);
    sums.fill(0.0);
    par::chunks(dw.len() * LANES, false, &mut sums, |i, sums| {
        let (mut local_x, mut local_dy) = (Scratch::take(rows.image.len()), Scratch::take(g.k * oh * pitch));
        let (image, grad) = (g.c * g.h * g.w, g.k * oh * ow);
        for n in i * images..g.n.min((i + 1) * images) {
            rows.image.fill(&x[n * image..][..image], false, &mut local_x);
            for (local, dy) in local_dy.chunks_exact_mut(pitch).zip(dy[n * grad..][..grad].chunks_exact(ow)) {
                local[..ow].copy_from_slice(dy);
                local[ow..].fill(0.0);
            }
            // SAFETY: `fits` has seen that the CPU has AVX-512.
            unsafe { add_image(g, &rows, &local_x, &local_dy, sums) };
        }
    });
    for (i, dw) in dw.iter_mut().enumerate() {
        let chunks = sums.chunks_exact(LANES).skip(i).step_by(g.w_len());
        let sum: f64 = chunks.flatten().map(|&v| v as f64).sum();
        *dw = if beta == 0.0 { 0.0 } else { beta * *dw } + sum as Elem;
    }
}

/// Adds the products of one image to the sums, [k, c, tap, lane].
///
/// # Safety
/// The CPU has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn add_image(g: &ConvGeom, rows: &Rows, x: &[Elem], dy: &[Elem], sums: &mut [Elem]) {
    let [kh, kw] = g.kernel;
    assert!(x.len() == rows.image.len() && dy.len() == g.k * g.out[0] * rows.pitch);
    assert!(sums.len() == g.w_len() * LANES);
    for c in 0..g.c {
        for r in 0..kh {
            let first = (c * rows.image.padded_h + r * g.dilation[0]) * rows.image.padded_w;
            for k in (0..g.k).step_by(CHANNELS) {
                for s in (0..kw).step_by(TAPS) {
                    let at = Block {
                        x: first + s * g.dilation[1],
                        dy: k * g.out[0] * rows.pitch,
                        sums: (((k * g.c + c) * kh + r) * kw + s) * LANES,
                    };
                    macro_rules! pick {
                        ($($channels:literal: $($taps:literal)*;)*) => {
                            match ((g.k - k).min(CHANNELS), (kw - s).min(TAPS)) {
                                // SAFETY: channels k.. and taps s.. exist, and a padded row holds a whole vector
                                // behind any tap.
                                $($(($channels, $taps) => unsafe { block::<$channels, $taps>(g, rows, at, x, dy, sums) },)*)*
                                _ => {}
                            }
                        };
                    }
                    pick! {
                        1: 1 2 3 4 5;
                        2: 1 2 3 4 5;
                        3: 1 2 3 4 5;
                    }
                }
            }
        }
    }
}

/// Where the first elements of a block of `K` channels and `S` taps lie.
#[derive(Clone, Copy)]
struct Block {
    x: usize,
    dy: usize,
    sums: usize,
}

/// # Safety
/// The CPU has AVX-512 F; `at` and the K x S sums, rows and taps behind it lie within the slices.
#[target_feature(enable = "avx512f")]
unsafe fn block<const K: usize, const S: usize>(
    g: &ConvGeom,
    rows: &Rows,
    at: Block,
    x: &[Elem],
    dy: &[Elem],
    sums: &mut [Elem],
) {
    let (pitch, plane, taps) = (rows.pitch, g.out[0] * rows.pitch, g.c * g.kernel[0] * g.kernel[1]);
    let mut acc = [[_mm512_setzero_ps(); S]; K];
    // SAFETY: the caller's promise; rows are `pitch` (or the padded width) apart and a multiple of LANES long.
    unsafe {
        let (x, dy) = (x.as_ptr().add(at.x), dy.as_ptr().add(at.dy));
        for y in 0..g.out[0] {
            for v in (0..pitch).step_by(LANES) {
                let mut d = [_mm512_setzero_ps(); K];
                for k in 0..K {
                    d[k] = _mm512_loadu_ps(dy.add(k * plane + y * pitch + v));
                }
                for s in 0..S {
                    let x = _mm512_loadu_ps(x.add(y * rows.image.padded_w + v + s * g.dilation[1]));
                    for k in 0..K {
                        acc[k][s] = _mm512_fmadd_ps(d[k], x, acc[k][s]);
                    }
                }
            }
        }
        let sums = sums.as_mut_ptr().add(at.sums);
        for k in 0..K {
            for s in 0..S {
                let sum = sums.add((k * taps + s) * LANES);
                _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), acc[k][s]));
            }
        }
    }
}
