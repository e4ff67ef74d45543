//! Products of bf16 numbers with sums in [`Elem`]: the micro-kernel and the layouts of its operands, which matrix
//! products and convolutions share.
//!
//! A step is 32 products for each sum. A row of A has the 32 numbers of a step side by side, 64 bytes, wherever they
//! lie: in a copy ([`pack_a`]), or in an image with its channels last, where a tap is an offset. B is packed in tiles of
//! 32 products and 16 columns, 1 KiB, in the order that the instructions want ([`pack_b`]): pairs of products one below
//! the other, `[16 pairs][16 columns][2]`; the tiles of a panel of up to [`NR`] columns lie side by side, step after
//! step. Packing rounds and, where it has to, transposes: there is no pass that only converts.
//!
//! - `microkernel`: a block of up to 32 x 32 sums in plain Rust, and what it demands; `avx512`: by AVX512-BF16, two
//!   products a lane; `amx`: by AMX-BF16, 512 sums an instruction.
//! - `round`: numbers become bf16; `load`: vectors of them; `pack`: the layouts.
//!
//! The instructions round operands and sums to nearest, read what is too small for a normal number as 0 and write it as
//! 0; rounding to bf16 does so in plain Rust as well, sums do not. The order of the sums differs between the three, and so
//! may their last bits.

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
pub(super) mod amx;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod avx512;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod load;
mod microkernel;
mod pack;
mod round;

use crate::base::Elem;
use crate::kernels::scratch::Scratch;
pub(crate) use half::bf16;
use std::ops::{Deref, DerefMut};

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
pub(crate) use load::load;
pub(crate) use microkernel::{Bf16Kernel, MR, NR, TILE, tiles_for};
pub(crate) use pack::{pack_a, pack_b, packed_a_len};
pub(crate) use round::round;

/// Products of one step.
pub(crate) const STEP: usize = 32;

/// Gives the tile registers of this thread free when it is dropped. A task that runs micro-kernels ends with it; one
/// that does not stays correct, but the system saves 8 KiB more whenever it takes the thread off its processor.
pub(crate) struct ReleaseTiles;

impl Drop for ReleaseTiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        amx::release();
    }
}

/// Working memory of bf16 numbers, on a cache line. Its contents are stale.
pub(crate) struct Bf16Scratch {
    elements: Scratch,
    len: usize,
}

impl Bf16Scratch {
    /// A buffer of `len` numbers.
    pub fn take(len: usize) -> Self {
        Self { elements: Scratch::take(len.div_ceil(size_of::<Elem>() / size_of::<bf16>())), len }
    }
}

#[allow(unsafe_code)]
impl Deref for Bf16Scratch {
    type Target = [bf16];
    fn deref(&self) -> &[bf16] {
        // SAFETY: any bits are a bf16, which is smaller and less aligned than the elements; `take` has counted them.
        unsafe { std::slice::from_raw_parts(self.elements.as_ptr().cast(), self.len) }
    }
}

#[allow(unsafe_code)]
impl DerefMut for Bf16Scratch {
    fn deref_mut(&mut self) -> &mut [bf16] {
        // SAFETY: as in `deref`; any bits of bf16 are elements as well, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.elements.as_mut_ptr().cast(), self.len) }
    }
}
