//! Depthwise convolutions of 5 x 5 and 7 x 7 that keep the size of their images, without a copy: eight rows of sixteen
//! pixels at a time, so that a vector of the input, once in a register, serves up to eight sums, and a weight as many.
//!
//! For AVX-512 alone: its loads leave out, by masks, what lies beside the image, and it has the registers.

use super::super::geometry::ConvGeom;
use super::vector::ask_ahead;
use crate::base::Elem;
use crate::kernels::gemm::microkernel::LANES;
use crate::kernels::isa::{Isa, isa};
use std::arch::x86_64::*;

/// Rows of one block.
const ROWS: usize = 8;

/// The planes of one shape.
pub(super) struct Rows {
    size: [usize; 2],
    kernel: usize,
    /// The lanes that see the image, for each sixteen columns and each column of the kernel.
    masks: Vec<[u16; 7]>,
}

impl Rows {
    /// What there is to know beforehand, where the shape is one for this file: a square kernel of 5 or 7 with as much
    /// padding as keeps the size.
    pub fn new(g: &ConvGeom) -> Option<Self> {
        let [kernel, kw] = g.kernel;
        let depthwise = g.groups == g.c && g.groups == g.k;
        let keeps = g.stride == [1, 1] && g.dilation == [1, 1] && g.padding == [kernel / 2; 2];
        if !depthwise || !keeps || kernel != kw || !matches!(kernel, 5 | 7) || isa() != Isa::Avx512 {
            return None;
        }
        let pad = kernel / 2;
        let mask = |col: usize, s: usize| {
            let from = pad.saturating_sub(col + s).min(LANES);
            let to = (g.w + pad).saturating_sub(col + s).min(LANES);
            first(to) & !first(from)
        };
        let masks = (0..g.w).step_by(LANES).map(|col| std::array::from_fn(|s| mask(col, s)));
        Some(Self { size: [g.h, g.w], kernel, masks: masks.collect() })
    }

    /// `y`, a plane: the sum of the taps' weights times what they see of the plane `x`. The gradient of the input is the
    /// same with the weights `backwards`.
    pub fn sums(&self, weights: &[Elem], backwards: bool, x: &[Elem], y: &mut [Elem]) {
        let plane = self.size[0] * self.size[1];
        assert!(x.len() == plane && y.len() == plane && weights.len() == self.kernel * self.kernel);
        let mut turned = [0.0; 49];
        let turned = &mut turned[..weights.len()];
        turned.copy_from_slice(weights);
        if backwards {
            turned.reverse();
        }
        // SAFETY: `new` has seen that the CPU has AVX-512; the lengths are those of the planes and of the kernel.
        unsafe {
            match self.kernel {
                5 => self.sums_of::<5, 12>(turned, x.as_ptr(), y.as_mut_ptr()),
                _ => self.sums_of::<7, 14>(turned, x.as_ptr(), y.as_mut_ptr()),
            }
        }
    }

    /// `SEEN` rows are seen by a block of rows.
    ///
    /// # Safety
    /// The CPU has AVX-512 F; there are K x K weights, and `x` and `y` are whole planes.
    #[target_feature(enable = "avx512f")]
    unsafe fn sums_of<const K: usize, const SEEN: usize>(
        &self,
        weights: &[Elem],
        x: *const Elem,
        y: *mut Elem,
    ) {
        let [h, w] = self.size;
        for row in (0..h).step_by(ROWS) {
            let count = ROWS.min(h - row);
            let mut inside = [0; SEEN];
            (0..SEEN).filter(|j| (row + j).wrapping_sub(K / 2) < h).for_each(|j| inside[j] = u16::MAX);
            for (block, masks) in self.masks.iter().enumerate() {
                let col = block * LANES;
                // The first pixel that the first tap of the first row sees; it may lie before the plane.
                let seen = x.wrapping_add(row * w + col).wrapping_sub(K / 2 * (w + 1));
                let mut acc = [_mm512_setzero_ps(); ROWS];
                for s in 0..K {
                    let mut rows = [_mm512_setzero_ps(); SEEN];
                    for j in 0..SEEN {
                        let at = seen.wrapping_add(j * w + s);
                        if s == 0 {
                            ask_ahead(at);
                        }
                        // SAFETY: the masks leave out what is not in the plane.
                        rows[j] = unsafe { _mm512_maskz_loadu_ps(masks[s] & inside[j], at) };
                    }
                    for t in 0..K {
                        // SAFETY: there are K x K weights.
                        let weight = _mm512_set1_ps(unsafe { *weights.get_unchecked(t * K + s) });
                        for r in 0..ROWS {
                            acc[r] = _mm512_fmadd_ps(rows[r + t], weight, acc[r]);
                        }
                    }
                }
                for (r, acc) in acc.iter().enumerate().take(count) {
                    let at = y.wrapping_add((row + r) * w + col);
                    ask_ahead(at);
                    // SAFETY: the lanes within the row, which is one of the plane.
                    unsafe { _mm512_mask_storeu_ps(at, first((w - col).min(LANES)), *acc) };
                }
            }
        }
    }
}

/// The first `n` lanes.
fn first(n: usize) -> u16 {
    if n >= LANES { u16::MAX } else { (1 << n) - 1 }
}
