//! The micro-kernel in AVX-512 and AVX2.
#![allow(unsafe_code)]

use super::microkernel::{Gather, LANES, MicroKernel};
use std::arch::asm;
use std::arch::x86_64::*;

/// The micro-kernel in 512-bit vectors, compiled for each number of vectors and rows, so that all sums are registers.
pub(super) fn avx512(t: MicroKernel<'_>) {
    macro_rules! pick {
        ($($vecs:literal: $($rows:literal)*;)*) => {
            match (t.nr.div_ceil(LANES), t.a_rows.len(), t.gather) {
                // SAFETY: the caller chose this class because the CPU has it, and `MicroKernel::check` has run.
                $($(($vecs, $rows, Gather::A { rs_b }) => unsafe { block512::<$vecs, $rows, false>(t, rs_b) },)*)*
                // SAFETY: the CPU has this class, and `MicroKernel::check` has run.
                $($(($vecs, $rows, Gather::B) => unsafe { block512::<$vecs, $rows, true>(t, 0) },)*)*
                _ => t.portable(),
            }
        };
    }
    pick! {
        1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24;
        2: 1 2 3 4 5 6 7 8 9 10 11 12;
    }
}

/// # Safety
/// The CPU must have AVX-512 F, and `t` must have passed its check with VECS vectors and MR rows; it must gather B,
/// or A with rows of B that lie `rs_b` apart.
#[target_feature(enable = "avx512f")]
#[allow(clippy::needless_range_loop)]
unsafe fn block512<const VECS: usize, const MR: usize, const GATHER_B: bool>(
    t: MicroKernel<'_>,
    rs_b: usize,
) {
    let tail: __mmask16 = (0xffff_u32 >> (VECS * LANES - t.nr)) as u16;
    let mask = |v: usize| if v + 1 == VECS { tail } else { 0xffff };
    let mut sums = [[_mm512_setzero_ps(); VECS]; MR];
    let mut a = [t.a.as_ptr(); MR];
    let b = t.b.as_ptr();
    let (mut row_of_b, mut step) = (0, 0);
    // SAFETY: `MicroKernel::check` has compared the largest index of each operand with its length; masked lanes are not
    // accessed.
    unsafe {
        for i in 0..MR {
            a[i] = a[i].add(t.a_rows[i] as usize);
        }
        // The k loop: one rank-1 update of the block a step.
        for o in 0..t.k.outer {
            let shift = o * t.k.stride;
            for &inner in t.k.inner {
                let offset = inner as usize + shift;
                let (at, from) = if GATHER_B { (step, offset) } else { (offset, row_of_b) };
                let mut row = [_mm512_setzero_ps(); VECS];
                for v in 0..VECS {
                    // A mask takes a multiplier's turn; panels are padded and need none.
                    let mask = if GATHER_B { mask(v) } else { 0xffff };
                    row[v] = _mm512_maskz_loadu_ps(mask, b.add(from + v * LANES));
                }
                for i in 0..MR {
                    if VECS == 2 {
                        // Left to itself the compiler loads all MR elements first and then runs out of registers.
                        let (low, high) = sums[i].split_at_mut(1);
                        asm!(
                            "vbroadcastss {e}, dword ptr [{a} + 4 * {at}]",
                            "vfmadd231ps {s0}, {b0}, {e}",
                            "vfmadd231ps {s1}, {b1}, {e}",
                            e = out(zmm_reg) _, a = in(reg) a[i], at = in(reg) at,
                            s0 = inout(zmm_reg) low[0], b0 = in(zmm_reg) row[0],
                            s1 = inout(zmm_reg) high[0], b1 = in(zmm_reg) row[VECS - 1],
                            options(nostack, preserves_flags, readonly),
                        );
                    } else {
                        let e = _mm512_set1_ps(*a[i].add(at));
                        sums[i][0] = _mm512_fmadd_ps(row[0], e, sums[i][0]);
                    }
                }
                row_of_b += rs_b;
                step += 1;
            }
        }
        for i in 0..MR {
            for v in 0..VECS {
                let c = t.c.ptr.add(i * t.rs_c + v * LANES);
                let mut sum = sums[i][v];
                if t.accumulate {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask(v), c));
                }
                _mm512_mask_storeu_ps(c, mask(v), sum);
            }
        }
    }
}

/// The micro-kernel in 256-bit vectors: one vector of lanes, which is two registers, and up to six rows at a time, so
/// that 12 of the 16 registers hold sums.
pub(super) fn avx2(mut t: MicroKernel<'_>) {
    for v in 0..t.nr.div_ceil(LANES) {
        for i in (0..t.a_rows.len()).step_by(6) {
            // SAFETY: the caller chose this class because the CPU has it, and `MicroKernel::check` has run.
            unsafe {
                match t.a_rows.len() - i {
                    1 => block256::<1>(&mut t, i, v),
                    2 => block256::<2>(&mut t, i, v),
                    3 => block256::<3>(&mut t, i, v),
                    4 => block256::<4>(&mut t, i, v),
                    5 => block256::<5>(&mut t, i, v),
                    _ => block256::<6>(&mut t, i, v),
                }
            }
        }
    }
}

/// # Safety
/// The CPU must have AVX2 and FMA; `t` must have passed its check and have row `i + MR - 1` and vector `v`.
#[target_feature(enable = "avx2,fma")]
unsafe fn block256<const MR: usize>(t: &mut MicroKernel<'_>, i: usize, v: usize) {
    let lanes = LANES.min(t.nr - v * LANES) as i32;
    let ids = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mask = [
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), ids),
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes - 8), ids),
    ];
    let mut sums = [[_mm256_setzero_ps(); 2]; MR];
    let mut a = [t.a.as_ptr(); MR];
    let b = t.b.as_ptr().wrapping_add(v * LANES);
    let mut step = 0;
    // SAFETY: `MicroKernel::check` has compared the largest index of each operand with its length; masked lanes are not
    // accessed.
    unsafe {
        for (r, a) in a.iter_mut().enumerate() {
            *a = a.add(t.a_rows[i + r] as usize);
        }
        for o in 0..t.k.outer {
            for &inner in t.k.inner {
                let offset = inner as usize + o * t.k.stride;
                let (at, b) = match t.gather {
                    Gather::A { rs_b } => (offset, b.wrapping_add(step * rs_b)),
                    Gather::B => (step, b.wrapping_add(offset)),
                };
                let row = [_mm256_maskload_ps(b, mask[0]), _mm256_maskload_ps(b.wrapping_add(8), mask[1])];
                for r in 0..MR {
                    let e = _mm256_set1_ps(*a[r].add(at));
                    sums[r][0] = _mm256_fmadd_ps(row[0], e, sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(row[1], e, sums[r][1]);
                }
                step += 1;
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            for h in 0..2 {
                let c = t.c.ptr.wrapping_add((i + r) * t.rs_c + v * LANES + h * 8);
                let old = if t.accumulate { _mm256_maskload_ps(c, mask[h]) } else { _mm256_setzero_ps() };
                _mm256_maskstore_ps(c, mask[h], _mm256_add_ps(sum[h], old));
            }
        }
    }
}
