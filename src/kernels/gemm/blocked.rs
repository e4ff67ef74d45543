//! The loops around the micro-kernel.
#![allow(unsafe_code)]

use super::matrix::FullMat;
use super::microkernel::{Gather, LANES, MicroKernel, NR, Offsets, balanced_mr};
use super::pack::{pack_panel, padded};
use super::product::Product;
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::scale;
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::prefetch::ask_for;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;
use std::ops::Range;

/// Steps of one block. A panel of KC x NR elements is 128 KiB and MC x KC elements of A are 384 KiB: together half of a
/// second-level cache of 1 MiB. A smaller KC would walk over C more often.
const KC: usize = 1024;

/// Rows of one block, and so of one task: whole micro-kernels of 12 and of 24 rows.
const MC: usize = 96;

/// Tasks that a product is cut into at least, where its shape allows: the work of up to 8 threads. It must not depend
/// on the number of threads.
const TASKS: usize = 8;

/// A column stride of A from which on each step of a row is 1 KiB away, on a line and soon on a page of its own: then a
/// block of A is copied first.
const FAR_STRIDE: usize = 256;

/// A first-level cache keeps addresses of equal remainder by 4 KiB in one set of 8 or 12 lines. Rows whose distance
/// is a multiple of half of that, 512 elements, push each other out of two sets: then a block of A is copied first.
const CONFLICT_STRIDE: usize = 512;

/// Steps that are asked for ahead where they lie on pages of their own, of which no processor foresees the next.
const AHEAD: usize = 8;

/// A product and how it is cut.
pub(super) struct Blocked<'a> {
    product: Product<'a>,
    a: FullMat<'a>,
    b: FullMat<'a>,
    c: DisjointMut<'a>,
    rs_c: usize,
    /// Whether `a` and `b` have exchanged their roles, so that results are transposed on their way to `c`.
    transposed: bool,
    /// Rows of one task, about [`MC`].
    mc: usize,
    /// Panels of one task: NC / NR in BLIS's terms.
    panels: usize,
}

/// How micro-kernels address a block of A: in place, or in a copy where its strides do not suit the cache.
struct AccessA {
    copied: bool,
    rs: usize,
    cs: usize,
    rows: Vec<u32>,
    steps: Vec<u32>,
}

/// Elements that packing `b` moves, weighted: a transposed operand costs three times as much.
fn packing_cost(b: FullMat<'_>) -> usize {
    b.rows * b.cols * if b.cs == 1 { 1 } else { 3 }
}

impl<'a> Blocked<'a> {
    /// Chooses roles and block sizes for a result with elements.
    pub fn new(product: Product<'a>, a: FullMat<'a>, b: FullMat<'a>, c: &'a mut [Elem], rs_c: usize) -> Self {
        let (m, n, k) = (a.rows, b.cols, a.cols);
        // Multiplications on whole vectors, and what packing and transposing cost beside them.
        let multiplications = |cols: usize, rows: usize| padded(cols) * rows * k;
        let straight = multiplications(n, m) + 2 * packing_cost(b);
        let exchanged = multiplications(m, n) + 2 * packing_cost(a.t()) + 8 * m * n;
        let transposed = exchanged < straight;
        let (a, b) = if transposed { (b.t(), a.t()) } else { (a, b) };
        // An even number of equal chunks: two threads take a half each.
        let chunks = if a.rows <= MC * 4 / 3 { 1 } else { a.rows.div_ceil(MC).next_multiple_of(2) };
        let mc = a.rows.div_ceil(chunks);
        let count = b.cols.div_ceil(NR);
        let groups = TASKS.div_ceil(a.rows.div_ceil(mc)).min(count);
        let c = DisjointMut::from(c);
        Self { product, a, b, c, rs_c, transposed, mc, panels: count.div_ceil(groups) }
    }

    /// Loops 5 and 3: a task for each block of MC rows and each group of panels.
    pub fn run(&self, serial: bool) {
        let k = self.b.rows;
        let panels = self.b.cols.div_ceil(NR);
        let (row_blocks, groups) = (self.a.rows.div_ceil(self.mc), panels.div_ceil(self.panels));
        // Several tasks that share panels get them packed beforehand; a lone one packs its own while they are hot.
        let shared = row_blocks > 1;
        let mut packed = Scratch::take(if shared { panels * NR * k } else { 0 });
        if shared {
            let serial = serial || k * self.b.cols < SERIAL_FLOPS / 8;
            par::chunks((NR * k).max(1), serial, &mut packed, |p, panel| self.pack(p, (0, k), panel));
        }
        // Block of rows after block of rows: a thread that takes half of the tasks reads, or writes, half of a
        // weight. What two threads have read costs three times as much to update as what one has.
        let access = self.access_a();
        par::tasks(row_blocks * groups, serial, |i| self.task(i / groups, i % groups, &packed, &access));
    }

    /// The columns of panel `p`.
    fn panel_cols(&self, p: usize) -> usize {
        NR.min(self.b.cols - p * NR)
    }

    /// Packs the steps `pc` (first, count) of panel `p`.
    fn pack(&self, p: usize, pc: (usize, usize), panel: &mut [Elem]) {
        pack_panel(&self.b, self.product.alpha, pc, (p * NR, self.panel_cols(p)), panel);
    }

    /// The addresses within a block of A, which are the same for all tasks.
    fn access_a(&self) -> AccessA {
        let kc = KC.min(self.b.rows);
        let far_steps = self.a.rs == 1 && self.a.cs > FAR_STRIDE;
        let conflicting_rows = self.a.cs == 1 && self.a.rs.is_multiple_of(CONFLICT_STRIDE);
        // A copy pays once several panels walk over it.
        let copied = (far_steps || conflicting_rows) && self.panels > 1;
        let (rs, cs) = match (copied, far_steps) {
            (false, _) => (self.a.rs, self.a.cs),
            (true, true) => (1, self.mc),
            (true, false) => (kc + LANES, 1),
        };
        AccessA {
            copied,
            rs,
            cs,
            rows: (0..self.mc).map(|i| (i * rs) as u32).collect(),
            steps: (0..kc).map(|p| (p * cs) as u32).collect(),
        }
    }

    /// Copies `rows` rows of the block of A that starts at `from`, `kc` steps of each.
    fn copy_a(&self, access: &AccessA, from: &[Elem], (rows, kc): (usize, usize), copy: &mut [Elem]) {
        if access.rs == 1 {
            for (p, copy) in copy.chunks_exact_mut(access.cs).take(kc).enumerate() {
                if let Some(piece) = from.get((p + AHEAD) * self.a.cs..).and_then(|ahead| ahead.get(..rows)) {
                    ask_for(piece);
                }
                copy[..rows].copy_from_slice(&from[p * self.a.cs..][..rows]);
            }
        } else {
            for (i, copy) in copy.chunks_exact_mut(access.rs).take(rows).enumerate() {
                copy[..kc].copy_from_slice(&from[i * self.a.rs..][..kc]);
            }
        }
    }

    /// One block of rows of C in one group of panels.
    fn task(&self, row_block: usize, group: usize, packed: &[Elem], access: &AccessA) {
        let (first_row, k) = (row_block * self.mc, self.b.rows);
        let rows = self.mc.min(self.a.rows - first_row);
        let panels = group * self.panels..((group + 1) * self.panels).min(self.b.cols.div_ceil(NR));
        let kc_max = KC.min(k);
        // A single micro-kernel a panel reads B once: then packing it would only cost.
        let unpacked = self.b.cs == 1
            && self.b.cols.is_multiple_of(LANES)
            && self.product.alpha == 1.0
            && packed.is_empty()
            && rows <= super::microkernel::max_mr(NR);
        let mut own_panel = Scratch::take(if packed.is_empty() && !unpacked { kc_max * NR } else { 0 });
        let mut sums = Scratch::take(if self.transposed { rows * NR * panels.len() } else { 0 });
        let sums = DisjointMut::from(&mut sums[..]);
        let copy_len = if access.copied { self.mc * access.rs.max(kc_max) } else { 0 };
        let mut copy = Scratch::take(copy_len);
        // Loop 4, over blocks of KC steps.
        for pc in (0..k.max(1)).step_by(kc_max.max(1)) {
            let kc = kc_max.min(k - pc);
            let from = self.a.data.get(first_row * self.a.rs + pc * self.a.cs..).unwrap_or_default();
            if access.copied {
                self.copy_a(access, from, (rows, kc), &mut copy);
            }
            // Loop 2, over panels of NR columns.
            for p in panels.clone() {
                let cols = self.panel_cols(p);
                let width = padded(cols);
                let (b, rs_b) = if unpacked {
                    (self.b.data.get(pc * self.b.rs + p * NR..).unwrap_or_default(), self.b.rs)
                } else if packed.is_empty() {
                    self.pack(p, (pc, kc), &mut own_panel);
                    (&own_panel[..], width)
                } else {
                    (&packed[p * NR * k + pc * width..], width)
                };
                // SAFETY: this task alone writes its rows of its panels' columns (or, transposed, its sums).
                let (c, rs_c) = unsafe {
                    match self.transposed {
                        true => (sums.part((p - panels.start) * rows * NR), width),
                        false => (self.c.part(first_row * self.rs_c + p * NR), self.rs_c),
                    }
                };
                let beta = if self.transposed { 0.0 } else { self.product.beta };
                if pc == 0 && beta != 0.0 && beta != 1.0 {
                    // SAFETY: these rows and columns are this task's alone.
                    (0..rows).for_each(|i| scale(beta, unsafe { c.slice(i * rs_c, cols) }));
                }
                // Loop 1, over MR rows.
                let mr = balanced_mr(rows, width);
                for (i, a_rows) in access.rows[..rows].chunks(mr).enumerate() {
                    MicroKernel {
                        k: Offsets::flat(&access.steps[..kc], kc.saturating_sub(1) * access.cs),
                        gather: Gather::A { rs_b },
                        a: if access.copied { &copy } else { from },
                        a_rows,
                        b,
                        nr: cols,
                        // SAFETY: these rows are this task's alone, and its micro-kernels follow one another.
                        c: unsafe { c.part(i * mr * rs_c) },
                        rs_c,
                        accumulate: pc > 0 || beta != 0.0,
                    }
                    .run();
                }
            }
        }
        // SAFETY: this task alone writes these rows of these columns (or, transposed, these columns of these rows).
        unsafe { self.finish(first_row..first_row + rows, panels, sums) };
    }

    /// Brings the results of a task to their places and applies what follows the product, while they are in the cache.
    ///
    /// # Safety
    /// No other thread may touch these rows of these panels' columns, or, transposed, these columns of these rows.
    unsafe fn finish(&self, rows: Range<usize>, panels: Range<usize>, sums: DisjointMut<'_>) {
        if self.transposed {
            for p in panels.clone() {
                let width = padded(self.panel_cols(p));
                // SAFETY: the sums are the caller's own, and the caller promises the rest.
                unsafe {
                    let sums = sums.slice((p - panels.start) * rows.len() * NR, rows.len() * width);
                    self.store_transposed(p, rows.clone(), sums);
                }
            }
        } else {
            let cols = panels.start * NR..(panels.end * NR).min(self.b.cols);
            // SAFETY: the caller's promise.
            unsafe { self.product.finish(self.c, self.rs_c, rows, cols) };
        }
    }

    /// Adds the sums of panel `p`, a row of the panel for each of `rows`, to as many columns of C: its rows are the
    /// panel's columns.
    ///
    /// # Safety
    /// No other thread may touch these columns of these rows.
    unsafe fn store_transposed(&self, p: usize, rows: Range<usize>, sums: &[Elem]) {
        let (cols, width, beta) = (self.panel_cols(p), padded(self.panel_cols(p)), self.product.beta);
        let mut block = [0.0; LANES * LANES];
        for r in (0..rows.len()).step_by(LANES) {
            let across = LANES.min(rows.len() - r);
            for l in (0..cols).step_by(LANES) {
                let down = LANES.min(cols - l);
                transpose(across, down, &sums[r * width + l..], width, 0.0, &mut block, LANES);
                for i in 0..down {
                    let at = (p * NR + l + i) * self.rs_c + rows.start + r;
                    // SAFETY: the caller's promise.
                    let c = unsafe { self.c.slice(at, across) };
                    for (c, s) in c.iter_mut().zip(&block[i * LANES..]) {
                        *c = if beta == 0.0 { *s } else { beta * *c + s };
                    }
                }
            }
        }
        for i in p * NR..p * NR + cols {
            // SAFETY: the caller's promise.
            unsafe {
                let c = self.c.slice(i * self.rs_c + rows.start, rows.len());
                self.product.follow(c, [i, rows.start], self.rs_c);
            }
        }
    }
}
