//! Vectors of sixteen numbers: one register of AVX-512, two of AVX2, or an array.
//!
//! The loops of this folder keep many vectors in registers at once, which compilers do not do reliably with arrays.

use crate::base::Elem;
use crate::kernels::gemm::microkernel::LANES;

/// Elements by which memory is asked for ahead: 2 KiB.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 512;

/// Asks for the memory some way behind `at`, which the loop comes to next. The loops read several rows and write one,
/// with little work for each number, and processors do not foresee that by themselves: it makes them up to three times
/// as fast.
#[inline(always)]
pub(super) fn ask_ahead(at: *const Elem) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it reads nothing, and any address may be asked for.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Sixteen numbers. Only [`vectorised`] names the types, after it has asked which instructions the CPU has.
pub(super) trait Vector: Copy {
    /// Vectors that sums should be kept in: with fewer, additions wait for each other, with more, registers run out.
    const SUMS: usize;

    fn splat(v: Elem) -> Self;
    fn load(from: &[Elem; LANES]) -> Self;
    fn store(self, to: &mut [Elem; LANES]);
    /// `self * b + c`.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Elements 0, 2, … of two vectors, one behind the other.
    fn evens(self, next: Self) -> Self;
    /// The elements of both by turns, one vector behind the other.
    fn interleave(self, odd: Self) -> [Self; 2];
}

impl Vector for [Elem; LANES] {
    const SUMS: usize = 4;

    #[inline(always)]
    fn splat(v: Elem) -> Self {
        [v; LANES]
    }
    #[inline(always)]
    fn load(from: &[Elem; LANES]) -> Self {
        *from
    }
    #[inline(always)]
    fn store(self, to: &mut [Elem; LANES]) {
        *to = self;
    }
    #[inline(always)]
    fn mul_add(mut self, b: Self, c: Self) -> Self {
        for l in 0..LANES {
            self[l] = self[l] * b[l] + c[l];
        }
        self
    }
    #[inline(always)]
    fn evens(self, next: Self) -> Self {
        std::array::from_fn(|l| if l < LANES / 2 { self[2 * l] } else { next[2 * l - LANES] })
    }
    #[inline(always)]
    fn interleave(self, odd: Self) -> [Self; 2] {
        [0, LANES / 2].map(|first| {
            std::array::from_fn(|l| if l % 2 == 0 { self[first + l / 2] } else { odd[first + l / 2] })
        })
    }
}

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod x86 {
    use super::{LANES, Vector};
    use std::arch::x86_64::*;

    impl Vector for __m512 {
        const SUMS: usize = 8;

        #[inline(always)]
        fn splat(v: f32) -> Self {
            // SAFETY: `vectorised` has seen that the CPU has AVX-512 F.
            unsafe { _mm512_set1_ps(v) }
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: as in `splat`; the array is as long as a vector.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: as in `load`.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self) }
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }
        #[inline(always)]
        fn evens(self, next: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe {
                let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                _mm512_permutex2var_ps(self, even, next)
            }
        }
        #[inline(always)]
        fn interleave(self, odd: Self) -> [Self; 2] {
            // SAFETY: as in `splat`.
            unsafe {
                let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
                [_mm512_permutex2var_ps(self, low, odd), _mm512_permutex2var_ps(self, high, odd)]
            }
        }
    }

    impl Vector for [__m256; 2] {
        const SUMS: usize = 4;

        #[inline(always)]
        fn splat(v: f32) -> Self {
            // SAFETY: `vectorised` has seen that the CPU has AVX2 and FMA.
            unsafe { [_mm256_set1_ps(v); 2] }
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: as in `splat`; the array is as long as two registers.
            unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(LANES / 2))] }
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: as in `load`.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(LANES / 2), self[1]);
            }
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { [_mm256_fmadd_ps(self[0], b[0], c[0]), _mm256_fmadd_ps(self[1], b[1], c[1])] }
        }
        #[inline(always)]
        fn evens(self, next: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { [evens_of(self), evens_of(next)] }
        }
        #[inline(always)]
        fn interleave(self, odd: Self) -> [Self; 2] {
            // SAFETY: as in `splat`.
            unsafe { [by_turns(self[0], odd[0]), by_turns(self[1], odd[1])] }
        }
    }

    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn evens_of([a, b]: [__m256; 2]) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(pairs))
        }
    }

    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn by_turns(even: __m256, odd: __m256) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
            [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
        }
    }
}

/// Compiles a function once for each kind of [`Vector`] and picks the best that the CPU has at each call.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$v:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body<$v: $crate::kernels::conv::grouped::vector::Vector>($($arg: $ty),*) $body
            #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $ty),*) { body::<std::arch::x86_64::__m512>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { body::<[std::arch::x86_64::__m256; 2]>($($arg),*) }
                match $crate::kernels::isa::isa() {
                    // SAFETY: `isa` returns this class only if the CPU has the features.
                    $crate::kernels::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `isa` returns this class only if the CPU has the features.
                    $crate::kernels::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::isa::Isa::Portable => {}
                }
            }
            body::<[$crate::base::Elem; $crate::kernels::gemm::microkernel::LANES]>($($arg),*)
        }
    };
}
pub(super) use vectorised;
