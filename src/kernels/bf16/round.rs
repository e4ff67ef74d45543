//! Numbers become bf16.
#![allow(unsafe_code)]

use super::bf16;
use crate::base::Elem;

/// The nearest bf16, of two the even one; NaN stays NaN, and what is too small for a normal f32 becomes 0: the bits that
/// VCVTNEPS2BF16 gives.
#[inline(always)]
pub(crate) fn round(v: Elem) -> bf16 {
    let bits = (v as f32).to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let magnitude = bits & 0x7fff_ffff;
    bf16::from_bits(if magnitude > 0x7f80_0000 {
        (bits >> 16 | 0x40) as u16
    } else if magnitude < 0x0080_0000 {
        (bits >> 16 & 0x8000) as u16
    } else {
        nearest as u16
    })
}

/// Rounds each number of `from`.
pub(crate) fn round_into(from: &[Elem], to: &mut [bf16]) {
    assert_eq!(from.len(), to.len(), "two slices of one length");
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    if crate::kernels::isa::bf16_isa() != crate::kernels::isa::Bf16Isa::Portable {
        // SAFETY: the CPU has this class.
        return unsafe { avx512(from, to) };
    }
    portable(from, to);
}

crate::kernels::isa::multiversion! {
    pub(super) fn portable(from: &[Elem], to: &mut [bf16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = round(*from);
        }
    }
}

/// # Safety
/// The CPU must have AVX-512 F, BW, VL and BF16; the slices must be of one length.
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn avx512(from: &[f32], to: &mut [bf16]) {
    use std::arch::x86_64::*;
    for at in (0..from.len()).step_by(16) {
        let mask = (0xffff_u32 >> (16 - 16.min(from.len() - at))) as u16;
        // SAFETY: lanes past the end of the slices are masked; `__m256bh` and `__m256i` are the same bits.
        unsafe {
            let v = _mm512_maskz_loadu_ps(mask, from.as_ptr().add(at));
            let v = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm256_mask_storeu_epi16(to.as_mut_ptr().add(at).cast(), mask, v);
        }
    }
}
