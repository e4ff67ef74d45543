//! The micro-kernel on bf16 numbers, in plain Rust, and what it demands.
#![allow(unsafe_code)]

use super::{STEP, bf16};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::Offsets;
use crate::kernels::isa::{Bf16Isa, bf16_isa, multiversion};

/// The most rows of a block: two tiles.
pub(crate) const MR: usize = 32;

/// The most columns of a block: two tiles.
pub(crate) const NR: usize = 2 * LANES;

/// Columns of a tile.
const LANES: usize = 16;

/// Numbers of a tile of B.
pub(crate) const TILE: usize = STEP * LANES;

/// The tiles of one step of a panel of `cols` columns.
pub(crate) fn tiles_for(cols: usize) -> usize {
    cols.div_ceil(LANES)
}

/// One call of the micro-kernel:
///
/// ```text
/// c[i][j] += sum over steps s and p < 32 of a[i * rs_a + offset(s) + p] * b[s * rs_b + ..tile of j][p][j]
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Bf16Kernel<'a> {
    /// Where the steps lie in a row of A.
    pub k: Offsets<'a>,
    /// How many numbers of each of the inner steps count, an even number; an empty slice means all of them. What is behind
    /// them meets zeros in B, which tiles multiply as well: there, what is not finite makes a NaN of a sum beside it.
    pub counts: &'a [u8],
    pub a: &'a [bf16],
    /// The distance of two rows of A.
    pub rs_a: usize,
    /// Rows, at most [`MR`].
    pub rows: usize,
    /// Tiles of B: [`tiles_for`] the columns side by side for each step.
    pub b: &'a [bf16],
    /// The distance of the tiles of two steps.
    pub rs_b: usize,
    /// Columns, at most [`NR`].
    pub cols: usize,
    /// Row i of the results is `c[i * rs_c..][..cols]`.
    pub c: DisjointMut<'a>,
    pub rs_c: usize,
    /// Whether to add to `c` instead of overwriting it.
    pub accumulate: bool,
    /// Whether `c` lies in memory rather than in a near cache, and there is time to fetch it.
    #[cfg_attr(any(shanty_f64, not(target_arch = "x86_64")), allow(dead_code))] // AVX512-BF16 asks
    pub is_far: bool,
}

impl Bf16Kernel<'_> {
    /// Computes the block with the best code that the CPU has.
    pub fn run(&self) {
        self.run_by(bf16_isa());
    }

    /// Computes the block with the code of a class that the CPU must have.
    pub fn run_by(&self, isa: Bf16Isa) {
        assert!(isa <= bf16_isa(), "the CPU does not have {isa:?}");
        self.check();
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        match isa {
            Bf16Isa::Amx => return super::amx::run(self),
            Bf16Isa::Avx512 => return super::avx512::run(self),
            Bf16Isa::Portable => {}
        }
        portable(self);
    }

    /// The numbers of inner step `s` that count.
    #[inline(always)]
    pub fn count(&self, s: usize) -> usize {
        self.counts.get(s).map_or(STEP, |&n| STEP.min(usize::from(n)))
    }

    /// What the vector code relies on: no element outside of the slices is named.
    fn check(&self) {
        let steps = self.k.len();
        assert!(
            (1..=NR).contains(&self.cols) && (1..=MR).contains(&self.rows),
            "no micro-kernel has this size"
        );
        assert!(
            (self.rows - 1) * self.rs_c + self.cols <= self.c.len,
            "the results of a micro-kernel leave their slice"
        );
        if steps > 0 {
            debug_assert!(self.k.inner.iter().all(|&i| i as usize <= self.k.max_inner));
            let offset = self.k.max_inner + (self.k.outer - 1) * self.k.stride;
            assert!(
                (self.rows - 1) * self.rs_a + offset + STEP <= self.a.len()
                    && (steps - 1) * self.rs_b + tiles_for(self.cols) * TILE <= self.b.len(),
                "the operands of a micro-kernel leave their slices"
            );
        }
    }
}

fn widen(v: bf16) -> Elem {
    f32::from_bits(u32::from(v.to_bits()) << 16) as Elem
}

multiversion! {
    /// Four rows and one tile's columns at a time, few enough sums for the registers of most processors.
    fn portable(t: &Bf16Kernel<'_>) {
        for first in (0..t.rows).step_by(4) {
            for j in (0..t.cols).step_by(LANES) {
                let mut sums = [[0.0; LANES]; 4];
                let rows = 4.min(t.rows - first);
                let mut b = &t.b[j * STEP..];
                for o in 0..t.k.outer {
                    for (s, &i) in t.k.inner.iter().enumerate() {
                        let at = i as usize + o * t.k.stride;
                        for (p, pairs) in b[..t.count(s) * LANES].chunks_exact(2 * LANES).enumerate() {
                            let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
                            for l in 0..LANES {
                                (even[l], odd[l]) = (widen(pairs[2 * l]), widen(pairs[2 * l + 1]));
                            }
                            for (r, sum) in sums.iter_mut().enumerate().take(rows) {
                                let a = &t.a[(first + r) * t.rs_a + at + 2 * p..][..2];
                                let (x, y) = (widen(a[0]), widen(a[1]));
                                for l in 0..LANES {
                                    sum[l] += x * even[l] + y * odd[l];
                                }
                            }
                        }
                        // The last step has no tiles behind it.
                        if s + 1 < t.k.inner.len() || o + 1 < t.k.outer {
                            b = &b[t.rs_b..];
                        }
                    }
                }
                for (r, sum) in sums.iter().enumerate().take(rows) {
                    let lanes = LANES.min(t.cols - j);
                    // SAFETY: `check` has compared the largest index with the length; the caller owns the block.
                    let c = unsafe { t.c.slice((first + r) * t.rs_c + j, lanes) };
                    c.iter_mut().zip(sum).for_each(|(c, s)| *c = if t.accumulate { *c + s } else { *s });
                }
            }
        }
    }
}
