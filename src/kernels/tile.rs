//! The one inner loop of matrix products and convolutions.
//!
//! A tile is a block of results `out[j][l] += sum over steps of x[base[j] + offset(step)] * w[step][l]`: one operand is
//! read as vectors of lanes l, the other one element at a time, from anywhere. That freedom makes the same loop a
//!
//! - matrix product: a step is the inner index, `base` the rows of `a`, lanes the columns of `b`;
//! - convolution (and its gradient to the input): a step is a (channel, tap), `base` the output pixels in the padded image, lanes the output
//!   channels: implicit GEMM, with no im2col matrix anywhere;
//! - convolution to few channels: a step is a (channel, tap), lanes are pixels that lie side by side, `base` the output channels;
//! - weight gradient: a step is an output pixel, `base` the (channel, tap)s, lanes the output channels.

#![allow(unsafe_code)]

use super::Elem;
use std::marker::PhantomData;

/// Lanes of one vector; panels of `w` are padded to a multiple of it.
pub(super) const LANES: usize = 16;
/// The most vectors of a tile.
pub(super) const MAX_VECS: usize = 2;

/// The most rows of a tile that is `vecs` vectors wide: 24 vectors of sums stay in registers.
pub(super) const fn max_rows(vecs: usize) -> usize {
    24 / vecs
}

/// The offsets of the steps: `inner[i] + o * stride`, for o in 0..outer, i in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps<'a> {
    pub inner: &'a [u32],
    pub outer: usize,
    pub stride: usize,
}

impl Steps<'_> {
    pub fn len(&self) -> usize {
        self.inner.len() * self.outer
    }
}

/// Where results go: a slice that other threads may be writing to elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Out<'a> {
    pub ptr: *mut Elem,
    pub len: usize,
    owner: PhantomData<&'a mut [Elem]>,
}

// SAFETY: it stands for a `&mut [Elem]`, which may go to another thread; `part` demands that no two overlap in what they touch.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a> From<&'a mut [Elem]> for Out<'a> {
    fn from(s: &'a mut [Elem]) -> Self {
        Self { ptr: s.as_mut_ptr(), len: s.len(), owner: PhantomData }
    }
}

impl<'a> Out<'a> {
    /// What lies from `at` on.
    ///
    /// # Safety
    /// While the result is in use, nothing else may touch the elements that are read or written through it.
    pub unsafe fn part(self, at: usize) -> Out<'a> {
        assert!(at <= self.len, "a part begins behind the end");
        // SAFETY: `at` is within the slice that `self` stands for.
        Out { ptr: unsafe { self.ptr.add(at) }, len: self.len - at, owner: PhantomData }
    }

    /// `len` elements from `at` on.
    ///
    /// # Safety
    /// While the slice lives, nothing else may touch its elements.
    pub unsafe fn slice(self, at: usize, len: usize) -> &'a mut [Elem] {
        assert!(at <= self.len && len <= self.len - at, "a slice ends behind the end");
        // SAFETY: within the slice that `self` stands for; the caller keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(at), len) }
    }
}

/// Which operand the steps' offsets address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Single elements from anywhere, `x[base[j] + offset(step)]`; vectors from a panel, `w[step * this..]`.
    Panel(usize),
    /// Vectors from anywhere, `w[offset(step)..]`; single elements one after another, `x[base[j] + step]`.
    Map,
}

/// One tile: `out[j * out_step..][..lanes]` are the results.
pub(super) struct Tile<'a> {
    pub steps: Steps<'a>,
    /// The largest offset in `steps.inner`.
    pub max_inner: usize,
    pub x: &'a [Elem],
    pub base: &'a [u32],
    pub w: &'a [Elem],
    pub order: Order,
    pub lanes: usize,
    pub out: Out<'a>,
    pub out_step: usize,
    /// Add to `out` instead of overwriting it.
    pub add: bool,
}

impl Tile<'_> {
    /// Computes the tile with the best code there is.
    pub fn run(self) {
        self.check();
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        match super::isa::isa() {
            super::isa::Isa::Avx512 => return super::tile_x86::avx512(self),
            super::isa::Isa::Avx2 => return super::tile_x86::avx2(self),
            super::isa::Isa::Portable => {}
        }
        self.portable();
    }

    /// What the vector code relies on: no element outside the slices is named.
    fn check(&self) {
        let (rows, steps) = (self.base.len(), self.steps.len());
        let vecs = self.lanes.div_ceil(LANES);
        assert!((1..=MAX_VECS).contains(&vecs) && (1..=max_rows(vecs)).contains(&rows), "no such tile");
        assert!(
            (rows - 1) * self.out_step + self.lanes <= self.out.len,
            "a tile's results leave their slice"
        );
        if steps > 0 {
            let base = self.base.iter().max().map_or(0, |&b| b as usize);
            debug_assert!(self.steps.inner.iter().all(|&i| i as usize <= self.max_inner));
            let offset = self.max_inner + (self.steps.outer - 1) * self.steps.stride;
            let (x, w) = match self.order {
                Order::Panel(step) => (offset, (steps - 1) * step),
                Order::Map => (steps - 1, offset),
            };
            assert!(
                base + x < self.x.len() && w + self.lanes <= self.w.len(),
                "a tile's operands leave their slices"
            );
        }
    }

    /// The plain twin: four rows at a time, so that the sums of a vector stay in registers.
    pub fn portable(self) {
        for (group, base) in self.base.chunks(4).enumerate() {
            for l0 in (0..self.lanes).step_by(LANES) {
                let lanes = LANES.min(self.lanes - l0);
                let mut sums = [[0.0; LANES]; 4];
                let mut step = 0;
                for o in 0..self.steps.outer {
                    for &i in self.steps.inner {
                        let offset = i as usize + o * self.steps.stride;
                        let (x, w) = match self.order {
                            Order::Panel(size) => (offset, step * size),
                            Order::Map => (step, offset),
                        };
                        let row = &self.w[w + l0..][..lanes];
                        for (sum, &b) in sums.iter_mut().zip(base) {
                            let x = self.x[b as usize + x];
                            sum.iter_mut().zip(row).for_each(|(s, w)| *s += w * x);
                        }
                        step += 1;
                    }
                }
                for (j, sum) in sums.iter().enumerate().take(base.len()) {
                    // SAFETY: `check` has compared the largest index with the length; the tile owns its results.
                    let out = unsafe { self.out.slice((group * 4 + j) * self.out_step + l0, lanes) };
                    out.iter_mut().zip(sum).for_each(|(o, s)| *o = if self.add { *o + s } else { *s });
                }
            }
        }
    }
}
