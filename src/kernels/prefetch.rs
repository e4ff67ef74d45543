//! Memory that is asked for before a loop comes to it, where a processor does not foresee it by itself: many short
//! pieces far apart.
#![allow(unsafe_code)]

/// The lines of a cache, of 64 bytes, that `n` numbers from `at` on lie in.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lines<T>(at: *const T, n: usize) -> impl Iterator<Item = *const u8> {
    let (at, within) = (at.cast::<u8>(), at.addr() % 64);
    let end = if n == 0 { 0 } else { within + n * size_of::<T>() };
    (0..end).step_by(64).map(move |i| at.wrapping_sub(within).wrapping_add(i))
}

/// Asks for what will be read.
#[inline(always)]
pub(super) fn ask_for<T>(piece: &[T]) {
    ask_to_read(piece.as_ptr(), piece.len());
}

/// Asks for `n` numbers from `at` on, which will be read, and need not be there.
#[inline(always)]
pub(super) fn ask_to_read<T>(at: *const T, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in lines(at, n) {
        // SAFETY: it reads nothing, and any address may be asked for.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, n);
}

/// Asks for `n` numbers from `at` on, which will be written.
#[inline(always)]
pub(super) fn ask_to_write<T>(at: *const T, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in lines(at, n) {
        // SAFETY: it reads and writes nothing, any address may be asked for, and processors that do not know it go on.
        // The intrinsic is a prefetch for reading where the target is not said to have this one; another core would
        // keep its copy, and the store wait for that.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, n);
}
