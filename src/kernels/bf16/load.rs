//! Vectors of elements, or of bf16 numbers, as elements.
#![allow(unsafe_code)]

use crate::kernels::number::Number;
use std::arch::x86_64::*;

/// 16 numbers `stride` apart, as elements, of which those of `mask`, the first ones, exist; the others are zeros.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VL, and the numbers of `mask` may be read.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(crate) unsafe fn load<X: Number>(from: *const X, stride: usize, mask: u16) -> __m512 {
    // SAFETY: lanes that are masked are not accessed, and the others exist; numbers of two bytes are bf16.
    unsafe {
        if size_of::<X>() == 2 {
            let numbers = if stride == 1 {
                _mm256_maskz_loadu_epi16(mask, from.cast())
            } else {
                let mut each = [0_i16; 16];
                for (i, number) in each.iter_mut().enumerate().take(mask.count_ones() as usize) {
                    *number = from.cast::<i16>().add(i * stride).read();
                }
                _mm256_loadu_si256(each.as_ptr().cast())
            };
            return _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(numbers)));
        }
        let from = from.cast::<f32>();
        if stride == 1 {
            return _mm512_maskz_loadu_ps(mask, from);
        }
        let ids = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let ids = _mm512_mullo_epi32(ids, _mm512_set1_epi32(stride as i32));
        _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask, ids, from)
    }
}
