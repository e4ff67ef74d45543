//! The micro-kernel by AVX512-BF16.
#![allow(unsafe_code)]

use super::microkernel::{Bf16Kernel, TILE};
use super::tiles_for;
use crate::kernels::prefetch::ask_to_write;
use std::arch::x86_64::*;

/// Rows at a time: with two tiles of columns 24 of the 32 registers hold sums.
const ROWS: usize = 12;

/// Computes a block that has passed its check.
pub(super) fn run(t: &Bf16Kernel<'_>) {
    let parts = t.rows.div_ceil(ROWS);
    let (share, rest) = (t.rows / parts, t.rows % parts);
    let mut first = 0;
    for part in 0..parts {
        let rows = share + usize::from(part < rest);
        macro_rules! pick {
            ($($rows:literal)*) => {
                match (tiles_for(t.cols), rows) {
                    // SAFETY: the caller chose this class because the CPU has it, and `Bf16Kernel::check` has run.
                    $((1, $rows) => unsafe { block::<1, $rows>(t, first) },)*
                    // SAFETY: the same.
                    $((_, $rows) => unsafe { block::<2, $rows>(t, first) },)*
                    _ => {}
                }
            };
        }
        pick!(1 2 3 4 5 6 7 8 9 10 11 12);
        first += rows;
    }
}

/// # Safety
/// The CPU must have AVX-512 F and BF16, and `t` must have passed its check with VECS tiles and rows `first..first + R`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(clippy::needless_range_loop)]
unsafe fn block<const VECS: usize, const R: usize>(t: &Bf16Kernel<'_>, first: usize) {
    let tail = (0xffff_u32 >> (VECS * 16 - t.cols)) as u16;
    let mask = |v: usize| if v + 1 == VECS { tail } else { 0xffff };
    let mut sums = [[_mm512_setzero_ps(); VECS]; R];
    // SAFETY: `Bf16Kernel::check` has compared the largest index of each operand with its length; masked lanes are not
    // accessed.
    unsafe {
        // They come while the sums are found; the stores would wait for each line from memory.
        if t.is_far {
            (0..R).for_each(|i| ask_to_write(t.c.ptr.add((first + i) * t.rs_c), t.cols));
        }
        let mut b = t.b.as_ptr();
        for o in 0..t.k.outer {
            for (s, &inner) in t.k.inner.iter().enumerate() {
                let a = t.a.as_ptr().add(first * t.rs_a + inner as usize + o * t.k.stride);
                for p in (0..t.count(s)).step_by(2) {
                    let mut row = [_mm512_setzero_si512(); VECS];
                    for v in 0..VECS {
                        row[v] = _mm512_loadu_si512(b.add(v * TILE + p * 16).cast());
                    }
                    for i in 0..R {
                        let pair = _mm512_set1_epi32(a.add(i * t.rs_a + p).cast::<i32>().read_unaligned());
                        for v in 0..VECS {
                            sums[i][v] = _mm512_dpbf16_ps(sums[i][v], bh(row[v]), bh(pair));
                        }
                    }
                }
                b = b.wrapping_add(t.rs_b);
            }
        }
        for i in 0..R {
            for v in 0..VECS {
                let c = t.c.ptr.add((first + i) * t.rs_c + v * 16);
                let mut sum = sums[i][v];
                if t.accumulate {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask(v), c));
                }
                _mm512_mask_storeu_ps(c, mask(v), sum);
            }
        }
    }
}

/// The same bits as numbers.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn bh(v: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits, all of which are allowed.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(v) }
}
