//! Memory that is asked for before a loop comes to it, where a processor does not foresee it by itself: many short
//! pieces far apart.
#![allow(unsafe_code)]

use crate::base::Elem;

/// Elements of a cache line.
const LINE: usize = 64 / size_of::<Elem>();

/// Asks for what will be read.
#[inline(always)]
pub(super) fn ask_for(piece: &[Elem]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..piece.len()).step_by(LINE) {
        // SAFETY: it reads nothing, and any address may be asked for.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(piece.as_ptr().wrapping_add(at).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (piece, LINE);
}

/// Asks for `n` elements from `at` on, which will be written.
#[inline(always)]
pub(super) fn ask_to_write(at: *const Elem, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in (0..n + LINE - 1).step_by(LINE) {
        // SAFETY: it reads and writes nothing, any address may be asked for, and processors that do not know it go on.
        // The intrinsic is a prefetch for reading where the target is not said to have this one; another core would
        // keep its copy, and the store wait for that.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) at.wrapping_add(i), options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, n);
}
