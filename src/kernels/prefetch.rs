//! Memory that is asked for before a loop comes to it, where a processor does not foresee it by itself: many short
//! pieces far apart.
#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for what will be read.
#[inline(always)]
pub(super) fn ask_for<T>(piece: &[T]) {
    ask_to_read(piece.as_ptr(), piece.len());
}

/// Asks for `n` numbers from `at` on, which will be read, and need not be there.
#[inline(always)]
pub(super) fn ask_to_read<T>(at: *const T, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in (0..n * size_of::<T>()).step_by(LINE) {
        // SAFETY: it reads nothing, and any address may be asked for.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(i));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, n, LINE);
}

/// Asks for `n` numbers from `at` on, which will be written.
#[inline(always)]
pub(super) fn ask_to_write<T>(at: *const T, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in (0..n * size_of::<T>() + LINE - 1).step_by(LINE) {
        // SAFETY: it reads and writes nothing, any address may be asked for, and processors that do not know it go on.
        // The intrinsic is a prefetch for reading where the target is not said to have this one; another core would
        // keep its copy, and the store wait for that.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) at.cast::<u8>().wrapping_add(i), options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, n);
}
