//! Products of operands that are rounded to bf16, around the micro-kernel that multiplies such tiles.
//!
//! Both operands are packed in panels of 32 rows or columns: rounding is part of it, and transposing costs next to
//! nothing beside it. The larger side of C is cut into the blocks that are the tasks; a task packs its own part of the
//! operand on that side, which then stays in its second-level cache, and the panels of the other operand, packed
//! beforehand for all tasks, pass by.
#![allow(unsafe_code)]

use super::matrix::{Mat, MatMut};
use super::microkernel::Offsets;
use super::product::Product;
use crate::kernels::bf16::{
    Bf16Kernel, Bf16Scratch, MR, NR, ReleaseTiles, STEP, TILE, bf16, pack_a, pack_b, packed_b_len, tiles_for,
};
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::scale;
use crate::kernels::par;
use std::ops::Range;

/// Steps of 32 products of one block. A block of 256 rows or columns then is 512 KiB.
const KC: usize = 32 * STEP;

/// Panels of one task at most.
const BLOCK_PANELS: usize = 8;

/// Tasks that a product is cut into at least, where its shape allows: the work of up to 8 threads. It must not depend
/// on the number of threads.
const TASKS: usize = 8;

/// Panels of the other operand after which what follows a product is applied to their part of C.
const FINISH_PANELS: usize = 8;

/// Below so many elements of an operand its packing stays on its thread: they take about 4 µs.
const SERIAL_PACKING: usize = 40_000;

/// Rows or columns of a panel: those of a micro-kernel.
const PANEL: usize = MR;
const _: () = assert!(MR == NR && MR * STEP == 2 * TILE);

/// Whether a product is packed and multiplied faster by one thread than two threads meet, as
/// [`par::SERIAL_FLOPS`] has it for f32.
pub(super) fn is_serial(m: usize, k: usize, n: usize) -> bool {
    m * n * k / 8 + 12 * (m * k + k * n + m * n) < par::SERIAL_FLOPS
}

/// Which operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

/// A product and how it is cut.
pub(super) struct Bf16Product<'a> {
    product: Product<'a>,
    a: Mat<'a>,
    b: Mat<'a>,
    c: DisjointMut<'a>,
    rs_c: usize,
    /// The operand whose panels tasks have for their own.
    own: Side,
    /// Panels of one task.
    block: usize,
}

/// Packed panels of one operand: `k` products of each row or column.
#[derive(Clone, Copy)]
struct Panels<'a> {
    data: &'a [bf16],
    k: usize,
}

/// What a panel of `k` products takes, of either operand.
fn panel_len(k: usize) -> usize {
    k.div_ceil(STEP) * PANEL * STEP
}

impl<'a> Bf16Product<'a> {
    /// Chooses how a product with elements is cut.
    pub fn new(product: Product<'a>, a: Mat<'a>, b: Mat<'a>, c: MatMut<'a>) -> Self {
        let own = if c.rows >= c.cols { Side::A } else { Side::B };
        let panels = c.rows.max(c.cols).div_ceil(PANEL);
        // An even number of equal blocks: two threads take a half each.
        let blocks = panels.div_ceil(BLOCK_PANELS).next_multiple_of(2).max(TASKS);
        let (rs_c, c) = (c.rs, DisjointMut::from(c.data));
        Self { product, a, b, c, rs_c, own, block: panels.div_ceil(blocks) }
    }

    pub fn run(&self, serial: bool) {
        let k = self.a.cols;
        let other = if self.own == Side::A { Side::B } else { Side::A };
        let count = self.lanes(other).div_ceil(PANEL);
        let mut shared = Bf16Scratch::take(count * panel_len(k));
        let alone = serial || k * self.lanes(other) < SERIAL_PACKING;
        par::chunks(panel_len(k), alone, &mut shared, |p, panel| self.pack(other, p, (0, k), panel));
        let shared = Panels { data: &shared, k };
        let blocks = self.lanes(self.own).div_ceil(self.block * PANEL);
        par::tasks(blocks, serial, |block| {
            let _release = (!serial).then_some(ReleaseTiles);
            self.task(block, shared, count);
        });
    }

    /// Rows of A, columns of B.
    fn lanes(&self, side: Side) -> usize {
        match side {
            Side::A => self.a.rows,
            Side::B => self.b.cols,
        }
    }

    /// The rows or columns of panels.
    fn range(&self, side: Side, panels: Range<usize>) -> Range<usize> {
        panels.start * PANEL..(panels.end * PANEL).min(self.lanes(side))
    }

    /// Packs the products `pc` (first, count) of panel `p`.
    fn pack(&self, side: Side, p: usize, pc: (usize, usize), panel: &mut [bf16]) {
        let lanes = self.range(side, p..p + 1);
        let lanes = (lanes.start, lanes.len());
        match side {
            Side::A => pack_a(&self.a, lanes, pc, panel),
            Side::B => {
                let len = packed_b_len(pc.1, lanes.1);
                pack_b(&self.b, self.product.alpha, pc, lanes, &mut panel[..len]);
            }
        }
    }

    /// One block of rows or columns of C.
    fn task(&self, block: usize, shared: Panels<'_>, count: usize) {
        let k = self.a.cols;
        let panels = self.lanes(self.own).div_ceil(PANEL);
        let own = block * self.block..((block + 1) * self.block).min(panels);
        self.scale_old(self.place(own.clone(), 0..count));
        let mut packed = Bf16Scratch::take(own.len() * panel_len(k.min(KC)));
        for pc in (0..k).step_by(KC) {
            let kc = KC.min(k - pc);
            for (p, panel) in own.clone().zip(packed.chunks_exact_mut(panel_len(kc))) {
                self.pack(self.own, p, (pc, kc), panel);
            }
            for first in (0..count).step_by(FINISH_PANELS) {
                let passing = first..(first + FINISH_PANELS).min(count);
                for p in passing.clone() {
                    for q in own.clone() {
                        let mine = Panels { data: &packed[(q - own.start) * panel_len(kc)..], k: kc };
                        let theirs = Panels { data: &shared.data[p * panel_len(k)..], k: shared.k };
                        self.multiply([q, p], (mine, theirs), (pc, kc));
                    }
                }
                if pc + kc == k {
                    let [rows, cols] = self.place(own.clone(), passing);
                    // SAFETY: this task alone has these rows of these columns.
                    unsafe { self.product.finish(self.c, self.rs_c, rows, cols) };
                }
            }
        }
    }

    /// The rows and columns of C where own panels and passing ones meet.
    fn place(&self, own: Range<usize>, passing: Range<usize>) -> [Range<usize>; 2] {
        match self.own {
            Side::A => [self.range(Side::A, own), self.range(Side::B, passing)],
            Side::B => [self.range(Side::A, passing), self.range(Side::B, own)],
        }
    }

    /// The old C times beta, unless that is not read or stays as it is.
    fn scale_old(&self, [rows, cols]: [Range<usize>; 2]) {
        let beta = self.product.beta;
        if beta != 0.0 && beta != 1.0 {
            for i in rows {
                // SAFETY: these rows and columns are this task's alone.
                scale(beta, unsafe { self.c.slice(i * self.rs_c + cols.start, cols.len()) });
            }
        }
    }

    /// Adds the products `pc` (first, count) of an own panel and a passing one, of which `theirs` has all.
    fn multiply(
        &self,
        [own, passing]: [usize; 2],
        (mine, theirs): (Panels<'_>, Panels<'_>),
        (pc, kc): (usize, usize),
    ) {
        let [rows, cols] = self.place(own..own + 1, passing..passing + 1);
        let (at_a, at_b) = (PANEL * STEP, tiles_for(cols.len()) * TILE);
        let step = pc / STEP;
        let (a, b) = match self.own {
            Side::A => (mine.data, &theirs.data[step * at_b..]),
            Side::B => (&theirs.data[step * at_a..], mine.data),
        };
        Bf16Kernel {
            k: Offsets { inner: &[0], max_inner: 0, outer: kc.div_ceil(STEP), stride: at_a },
            a,
            rs_a: STEP,
            rows: rows.len(),
            b,
            rs_b: at_b,
            cols: cols.len(),
            // SAFETY: these rows and columns are this task's alone, and its micro-kernels follow one another.
            c: unsafe { self.c.part(rows.start * self.rs_c + cols.start) },
            rs_c: self.rs_c,
            accumulate: pc > 0 || self.product.beta != 0.0,
        }
        .run();
    }
}
