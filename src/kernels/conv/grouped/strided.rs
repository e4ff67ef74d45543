//! Depthwise convolutions of stride 2, without a copy: of two vectors of a row that lie side by side, the even pixels are
//! what one column of the kernel sees and the odd ones what the next column does.
//!
//! For AVX-512 alone: its loads leave out, by masks, what lies beside the image.

use super::super::geometry::ConvGeom;
use super::vector::ask_ahead;
use crate::base::Elem;
use crate::kernels::gemm::microkernel::LANES;
use crate::kernels::isa::{Isa, isa};
use std::arch::x86_64::*;

/// The planes of one shape.
pub(super) struct Strided {
    size: [usize; 2],
    out: [usize; 2],
    kernel: usize,
    padding: [usize; 2],
    /// The lanes that see the image: for each sixteen columns of the output and each two of the kernel, two vectors.
    masks: Vec<[[u16; 2]; 3]>,
}

impl Strided {
    /// What there is to know beforehand, where the shape is one for this file: a square kernel of 3 or 5.
    pub fn new(g: &ConvGeom) -> Option<Self> {
        let depthwise = g.groups == g.c && g.groups == g.k;
        let fits = g.stride == [2, 2] && g.dilation == [1, 1] && matches!(g.kernel, [3, 3] | [5, 5]);
        if !depthwise || !fits || isa() != Isa::Avx512 {
            return None;
        }
        let mask = |seen: usize| {
            let from = g.padding[1].saturating_sub(seen).min(LANES);
            let to = (g.w + g.padding[1]).saturating_sub(seen).min(LANES);
            first(to) & !first(from)
        };
        let pair = |col: usize, p: usize| [0, LANES].map(|more| mask(2 * col + 2 * p + more));
        let masks = (0..g.out[1]).step_by(LANES).map(|col| std::array::from_fn(|p| pair(col, p)));
        let (size, kernel) = ([g.h, g.w], g.kernel[0]);
        Some(Self { size, out: g.out, kernel, padding: g.padding, masks: masks.collect() })
    }

    /// `y`, a plane of the output: the sum of the taps' weights times what they see of the plane `x`.
    pub fn sums(&self, weights: &[Elem], x: &[Elem], y: &mut [Elem]) {
        let ([h, w], [out_h, out_w]) = (self.size, self.out);
        assert!(x.len() == h * w && y.len() == out_h * out_w && weights.len() == self.kernel * self.kernel);
        // SAFETY: `new` has seen that the CPU has AVX-512; the lengths are those of the planes and of the kernel.
        unsafe {
            match self.kernel {
                3 => self.sums_of::<3>(weights, x.as_ptr(), y.as_mut_ptr()),
                _ => self.sums_of::<5>(weights, x.as_ptr(), y.as_mut_ptr()),
            }
        }
    }

    /// # Safety
    /// The CPU has AVX-512 F; there are K x K weights, and `x` and `y` are whole planes.
    #[target_feature(enable = "avx512f")]
    unsafe fn sums_of<const K: usize>(&self, weights: &[Elem], x: *const Elem, y: *mut Elem) {
        let ([h, w], [out_h, out_w]) = (self.size, self.out);
        let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        let odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
        let mut taps = [[_mm512_setzero_ps(); K]; K];
        for t in 0..K {
            for s in 0..K {
                taps[t][s] = _mm512_set1_ps(weights[t * K + s]);
            }
        }
        for row in 0..out_h {
            for (block, masks) in self.masks.iter().enumerate() {
                let mut acc = _mm512_setzero_ps();
                for t in 0..K {
                    let seen = (2 * row + t).wrapping_sub(self.padding[0]);
                    if seen >= h {
                        continue;
                    }
                    // The first pixel that the first tap sees; it may lie before the row.
                    let at = x.wrapping_add(seen * w + 2 * block * LANES).wrapping_sub(self.padding[1]);
                    ask_ahead(at);
                    for s in (0..K).step_by(2) {
                        let [a, b] = masks[s / 2];
                        // SAFETY: the masks leave out what is not in the row, which is one of the plane.
                        let (a, b) = unsafe {
                            let at = at.wrapping_add(s);
                            (_mm512_maskz_loadu_ps(a, at), _mm512_maskz_loadu_ps(b, at.wrapping_add(LANES)))
                        };
                        acc = _mm512_fmadd_ps(_mm512_permutex2var_ps(a, even, b), taps[t][s], acc);
                        if s + 1 < K {
                            acc = _mm512_fmadd_ps(_mm512_permutex2var_ps(a, odd, b), taps[t][s + 1], acc);
                        }
                    }
                }
                let col = block * LANES;
                let at = y.wrapping_add(row * out_w + col);
                ask_ahead(at);
                // SAFETY: the lanes within the row, which is one of the plane.
                unsafe { _mm512_mask_storeu_ps(at, first((out_w - col).min(LANES)), acc) };
            }
        }
    }
}

/// The first `n` lanes.
fn first(n: usize) -> u16 {
    if n >= LANES { u16::MAX } else { (1 << n) - 1 }
}
