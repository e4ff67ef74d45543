//! The micro-kernel: the one innermost loop of matrix products and convolutions.
//!
//! It computes a block of MR x NR elements of C, which stays in registers while one operand is read as vectors of a row
//! of B and the other one element at a time from anywhere:
//!
//! ```text
//! c[i][j] += sum over steps p of a[a_rows[i] + offset(p)] * b[p][j]
//! ```
//!
//! Because the elements of A may lie anywhere, the same loop is a
//!
//! - **matrix product**: a step is the inner index, a row is a row of A, a column is a column of B;
//! - **convolution**, and its gradient to the input: a step is a (channel, tap), a row is an output pixel in the padded
//!   image, a column is an output channel. This is an implicit product: no im2col matrix is ever written;
//! - **convolution to few channels**: a step is a (channel, tap), a row is an output channel, and the columns are
//!   pixels that lie side by side;
//! - **weight gradient**: a step is an output pixel, a row is a (channel, tap), a column is an output channel.
#![allow(unsafe_code)]

use super::pack::padded;
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::prefetch::ask_to_write;

/// Elements of one vector: an AVX-512 register of f32. Panels of B are padded to a multiple of it.
pub(crate) const LANES: usize = 16;

/// The most columns of a micro-kernel's block: two vectors. Each broadcast element of A then feeds two
/// multiply-additions, so that loads do not hold up the arithmetic.
pub(crate) const NR: usize = 2 * LANES;

/// Registers that hold sums, of the 32 of AVX-512: the others hold a row of B and a broadcast element, and leave the
/// compiler some for addresses. 8 would do to hide the latency of the additions (4 cycles, 2 units).
const SUM_REGISTERS: usize = 24;

/// The most rows of a block that is `nr` columns wide: 12 with two vectors, 24 with one.
pub(crate) const fn max_mr(nr: usize) -> usize {
    SUM_REGISTERS / nr.div_ceil(LANES)
}

/// The rows of each block when `rows` rows are shared out evenly among as few blocks as `nr` columns allow.
pub(crate) fn balanced_mr(rows: usize, nr: usize) -> usize {
    rows.div_ceil(rows.div_ceil(max_mr(nr)).max(1)).max(1)
}

/// Where the steps lie: at `inner[i] + o * stride`, for o in 0..outer and i in order.
///
/// A table of all steps of a convolution would not fit a first-level cache. The taps of one channel do, and the
/// channels repeat them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets<'a> {
    pub inner: &'a [u32],
    /// The largest of `inner`.
    pub max_inner: usize,
    pub outer: usize,
    pub stride: usize,
}

impl<'a> Offsets<'a> {
    /// The offsets of one table.
    pub fn flat(inner: &'a [u32], max_inner: usize) -> Self {
        Self { inner, max_inner, outer: 1, stride: 0 }
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.inner.len() * self.outer
    }
}

/// Which operand is gathered, that is addressed by the offsets of the steps; the other one lies in their order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gather {
    /// Elements of A, at `a[a_rows[i] + offset(p)]`. B is a panel whose rows, `b[p * rs_b..]`, lie `rs_b` apart and are
    /// whole vectors: what is beyond the columns is read, and its sums are dropped.
    A { rs_b: usize },
    /// Rows of B, at `b[offset(p)..]`. The elements of A lie one behind the other, at `a[a_rows[i] + p]`.
    B,
}

/// One call of the micro-kernel.
pub(crate) struct MicroKernel<'a> {
    pub k: Offsets<'a>,
    pub gather: Gather,
    pub a: &'a [Elem],
    /// Where each row of A begins; their number is MR.
    pub a_rows: &'a [u32],
    pub b: &'a [Elem],
    /// Columns, at most [`NR`].
    pub nr: usize,
    /// Row i of the results is `c[i * rs_c..][..nr]`.
    pub c: DisjointMut<'a>,
    pub rs_c: usize,
    /// Whether to add to `c` instead of overwriting it.
    pub accumulate: bool,
}

impl MicroKernel<'_> {
    /// Computes the block with the best code that the CPU has.
    pub fn run(self) {
        self.check();
        // The lines of the results come while the sums are found; the stores would wait for each from memory.
        (0..self.a_rows.len()).for_each(|i| ask_to_write(self.c.ptr.wrapping_add(i * self.rs_c), self.nr));
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        match crate::kernels::isa::isa() {
            crate::kernels::isa::Isa::Avx512 => return super::microkernel_x86::avx512(self),
            crate::kernels::isa::Isa::Avx2 => return super::microkernel_x86::avx2(self),
            crate::kernels::isa::Isa::Portable => {}
        }
        self.portable();
    }

    /// What the vector code relies on: no element outside of the slices is named.
    fn check(&self) {
        let (mr, steps) = (self.a_rows.len(), self.k.len());
        assert!(
            (1..=NR).contains(&self.nr) && (1..=max_mr(self.nr)).contains(&mr),
            "no micro-kernel has this size"
        );
        assert!(
            (mr - 1) * self.rs_c + self.nr <= self.c.len,
            "the results of a micro-kernel leave their slice"
        );
        if steps > 0 {
            let row = self.a_rows.iter().max().map_or(0, |&b| b as usize);
            debug_assert!(self.k.inner.iter().all(|&i| i as usize <= self.k.max_inner));
            let offset = self.k.max_inner + (self.k.outer - 1) * self.k.stride;
            let (a, b) = match self.gather {
                Gather::A { rs_b } => (offset, (steps - 1) * rs_b + padded(self.nr)),
                Gather::B => (steps - 1, offset + self.nr),
            };
            assert!(
                row + a < self.a.len() && b <= self.b.len(),
                "the operands of a micro-kernel leave their slices"
            );
        }
    }

    /// Plain Rust: four rows and one vector at a time, few enough sums for the registers of most processors.
    pub fn portable(self) {
        for (group, a_rows) in self.a_rows.chunks(4).enumerate() {
            for j in (0..self.nr).step_by(LANES) {
                let lanes = LANES.min(self.nr - j);
                let mut sums = [[0.0; LANES]; 4];
                let mut step = 0;
                for o in 0..self.k.outer {
                    for &i in self.k.inner {
                        let offset = i as usize + o * self.k.stride;
                        let (a, b) = match self.gather {
                            Gather::A { rs_b } => (offset, step * rs_b),
                            Gather::B => (step, offset),
                        };
                        let row = &self.b[b + j..][..lanes];
                        for (sum, &first) in sums.iter_mut().zip(a_rows) {
                            let a = self.a[first as usize + a];
                            sum.iter_mut().zip(row).for_each(|(s, b)| *s += b * a);
                        }
                        step += 1;
                    }
                }
                for (i, sum) in sums.iter().enumerate().take(a_rows.len()) {
                    // SAFETY: `check` has compared the largest index with the length; the caller owns the block.
                    let c = unsafe { self.c.slice((group * 4 + i) * self.rs_c + j, lanes) };
                    c.iter_mut().zip(sum).for_each(|(c, s)| *c = if self.accumulate { *c + s } else { *s });
                }
            }
        }
    }
}
