//! The tile in AVX-512 and AVX2.
#![allow(unsafe_code)]

use super::tile::{LANES, Order, Tile};
use std::arch::asm;
use std::arch::x86_64::*;

/// The tile in 512-bit vectors: 24 of the 32 registers hold sums.
pub(super) fn avx512(t: Tile<'_>) {
    macro_rules! pick {
        ($($vecs:literal: $($rows:literal)*;)*) => {
            match (t.lanes.div_ceil(LANES), t.base.len(), t.order) {
                // SAFETY: the caller chose this class because the CPU has it, and `Tile::check` has run.
                $($(($vecs, $rows, Order::Panel(step)) => unsafe { tile512::<$vecs, $rows, false>(t, step) },)*)*
                // SAFETY: as above.
                $($(($vecs, $rows, Order::Map) => unsafe { tile512::<$vecs, $rows, true>(t, 0) },)*)*
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
/// The CPU must have AVX-512 F, and `t` must have passed its check with VECS vectors and ROWS rows, in the order MAP or with panels of
/// `size`.
#[target_feature(enable = "avx512f")]
#[allow(clippy::needless_range_loop)]
unsafe fn tile512<const VECS: usize, const ROWS: usize, const MAP: bool>(t: Tile<'_>, size: usize) {
    let tail: __mmask16 = (0xffff_u32 >> (VECS * LANES - t.lanes)) as u16;
    let mask = |v: usize| if v + 1 == VECS { tail } else { 0xffff };
    let mut sums = [[_mm512_setzero_ps(); VECS]; ROWS];
    let mut x = [t.x.as_ptr(); ROWS];
    let w = t.w.as_ptr();
    let (mut panel, mut step) = (0, 0);
    // SAFETY: `Tile::check` has compared the largest index of each operand with its length; masked lanes are not accessed.
    unsafe {
        for j in 0..ROWS {
            x[j] = x[j].add(t.base[j] as usize);
        }
        for o in 0..t.steps.outer {
            let shift = o * t.steps.stride;
            for &i in t.steps.inner {
                let offset = i as usize + shift;
                let (at, from) = if MAP { (step, offset) } else { (offset, panel) };
                let mut row = [_mm512_setzero_ps(); VECS];
                for v in 0..VECS {
                    row[v] = _mm512_maskz_loadu_ps(mask(v), w.add(from + v * LANES));
                }
                for j in 0..ROWS {
                    if VECS == 2 {
                        // Left to itself the compiler loads all ROWS elements first and then runs out of registers.
                        let (low, high) = sums[j].split_at_mut(1);
                        asm!(
                            "vbroadcastss {b}, dword ptr [{x} + 4 * {at}]",
                            "vfmadd231ps {s0}, {w0}, {b}",
                            "vfmadd231ps {s1}, {w1}, {b}",
                            b = out(zmm_reg) _, x = in(reg) x[j], at = in(reg) at,
                            s0 = inout(zmm_reg) low[0], w0 = in(zmm_reg) row[0],
                            s1 = inout(zmm_reg) high[0], w1 = in(zmm_reg) row[VECS - 1],
                            options(nostack, preserves_flags, readonly),
                        );
                    } else {
                        let b = _mm512_set1_ps(*x[j].add(at));
                        sums[j][0] = _mm512_fmadd_ps(row[0], b, sums[j][0]);
                    }
                }
                panel += size;
                step += 1;
            }
        }
        for j in 0..ROWS {
            for v in 0..VECS {
                let out = t.out.ptr.add(j * t.out_step + v * LANES);
                let mut sum = sums[j][v];
                if t.add {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask(v), out));
                }
                _mm512_mask_storeu_ps(out, mask(v), sum);
            }
        }
    }
}

/// The tile in 256-bit vectors: one vector of lanes (two registers) and up to six rows at a time.
pub(super) fn avx2(mut t: Tile<'_>) {
    for v in 0..t.lanes.div_ceil(LANES) {
        for j in (0..t.base.len()).step_by(6) {
            // SAFETY: the caller chose this class because the CPU has it, and `Tile::check` has run.
            unsafe {
                match t.base.len() - j {
                    1 => tile256::<1>(&mut t, j, v),
                    2 => tile256::<2>(&mut t, j, v),
                    3 => tile256::<3>(&mut t, j, v),
                    4 => tile256::<4>(&mut t, j, v),
                    5 => tile256::<5>(&mut t, j, v),
                    _ => tile256::<6>(&mut t, j, v),
                }
            }
        }
    }
}

/// # Safety
/// The CPU must have AVX2 and FMA, `t` must have passed its check and have row `j + ROWS - 1` and vector `v`.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile256<const ROWS: usize>(t: &mut Tile<'_>, j: usize, v: usize) {
    let lanes = LANES.min(t.lanes - v * LANES) as i32;
    let ids = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mask = [
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), ids),
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes - 8), ids),
    ];
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    let mut x = [t.x.as_ptr(); ROWS];
    let w = t.w.as_ptr().wrapping_add(v * LANES);
    let mut step = 0;
    // SAFETY: `Tile::check` has compared the largest index of each operand with its length; masked lanes are not accessed.
    unsafe {
        for (r, x) in x.iter_mut().enumerate() {
            *x = x.add(t.base[j + r] as usize);
        }
        for o in 0..t.steps.outer {
            for &i in t.steps.inner {
                let offset = i as usize + o * t.steps.stride;
                let (at, w) = match t.order {
                    Order::Panel(size) => (offset, w.wrapping_add(step * size)),
                    Order::Map => (step, w.wrapping_add(offset)),
                };
                let row = [_mm256_maskload_ps(w, mask[0]), _mm256_maskload_ps(w.wrapping_add(8), mask[1])];
                for r in 0..ROWS {
                    let b = _mm256_set1_ps(*x[r].add(at));
                    sums[r][0] = _mm256_fmadd_ps(row[0], b, sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(row[1], b, sums[r][1]);
                }
                step += 1;
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            for h in 0..2 {
                let out = t.out.ptr.wrapping_add((j + r) * t.out_step + v * LANES + h * 8);
                let old = if t.add { _mm256_maskload_ps(out, mask[h]) } else { _mm256_setzero_ps() };
                _mm256_maskstore_ps(out, mask[h], _mm256_add_ps(sum[h], old));
            }
        }
    }
}
