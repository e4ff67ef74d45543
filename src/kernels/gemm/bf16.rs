//! Products of operands that are rounded to bf16, around the micro-kernel that multiplies such tiles.
//!
//! Both operands are packed in panels of 32 rows or columns: rounding is part of it, and transposing costs next to
//! nothing beside it. The larger side of C is cut into the blocks that are the tasks; a task packs its own part of the
//! operand on that side, which then stays in its second-level cache, and the panels of the other operand, packed
//! beforehand for all tasks, pass by.
#![allow(unsafe_code)]

use super::epilogue::{Bias, EpilogueOp};
use super::matrix::{Mat, MatMut};
use super::microkernel::Offsets;
use super::product::Product;
use crate::kernels::bf16::{
    Bf16Kernel, Bf16Scratch, MR, NR, ReleaseTiles, STEP, TILE, bf16, pack_a, pack_b, packed_a_len, tiles_for,
};
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::{Act, scale};
use crate::kernels::number::{Number, Numbers, NumbersMut};
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use std::ops::Range;

/// Products of one walk: a task's own block of 256 rows or columns then is 512 KiB, and leaves room in a second-level
/// cache for the panels that pass by.
pub(super) const KC: usize = 32 * STEP;

/// Panels of one task at most.
const BLOCK_PANELS: usize = 8;

/// Panels of B that one panel of A meets before the next one: their columns of C lie side by side, 2 KiB of each row,
/// which the processor asks for ahead.
const GROUP: usize = 16;

/// Tasks that a product is cut into at least, where its shape allows: the work of up to 8 threads. It must not depend
/// on the number of threads.
const TASKS: usize = 8;

/// Below so many elements of an operand its packing stays on its thread: they take about 4 µs.
const SERIAL_PACKING: usize = 40_000;

/// Steps of one task that packs some products of all panels.
const PACK_STEPS: usize = 4;

/// From so many products on there is time to ask for the results' lines.
const LONG: usize = 4 * STEP;

/// Rows or columns of a panel: those of a micro-kernel.
const PANEL: usize = MR;
const _: () = assert!(MR == NR && MR * STEP == 2 * TILE, "panels of either operand take the same");

/// Whether a product is packed and multiplied faster by one thread than two threads meet, as
/// [`par::SERIAL_FLOPS`] has it for f32.
pub(super) fn is_serial(m: usize, k: usize, n: usize) -> bool {
    m * n * k / 8 + 12 * (m * k + k * n + m * n) < par::SERIAL_FLOPS
}

/// B packed for several products with it.
pub(super) fn pack_right(b: Mat<'_>) -> Bf16Scratch {
    let mut packed = Bf16Scratch::take(b.cols.div_ceil(PANEL) * packed_a_len(b.rows));
    let a = Mat { data: Numbers::Full(&[]), rows: 0, cols: b.rows, rs: 0, cs: 1 };
    let to = MatMut { data: NumbersMut::Full(&mut []), rows: 0, cols: b.cols, rs: b.cols };
    let nothing = Product::new(1.0, 0.0, Bias::None, EpilogueOp::Act(Act::Identity));
    Bf16Product::new(nothing, a, b, None, to).pack_all(Side::B, false, &mut packed);
    packed
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
    /// All panels of B, if they are packed already.
    packed_b: Option<&'a [bf16]>,
    c: Target<'a>,
    rs_c: usize,
    /// The operand whose panels tasks have for their own.
    own: Side,
    /// Panels of one task.
    block: usize,
}

impl<'a> Bf16Product<'a> {
    /// Chooses how a product with elements is cut.
    pub fn new(
        product: Product<'a>,
        a: Mat<'a>,
        b: Mat<'a>,
        packed_b: Option<&'a [bf16]>,
        c: MatMut<'a>,
    ) -> Self {
        let own = if c.rows >= c.cols { Side::A } else { Side::B };
        let panels = c.rows.max(c.cols).div_ceil(PANEL);
        // An even number of equal blocks: two threads take a half each.
        let blocks = panels.div_ceil(BLOCK_PANELS).next_multiple_of(2).max(TASKS);
        let (rs_c, c) = (c.rs, Target::from(c.data));
        Self { product, a, b, packed_b, c, rs_c, own, block: panels.div_ceil(blocks) }
    }

    pub fn run(&self, serial: bool) {
        let other = self.other();
        let count = self.lanes(other).div_ceil(PANEL);
        let packed = self.packed_b.filter(|_| other == Side::B);
        let len = if packed.is_none() { count * packed_a_len(self.a.cols) } else { 0 };
        let mut copy = Bf16Scratch::take(len);
        if packed.is_none() {
            self.pack_all(other, serial, &mut copy);
        }
        let shared = packed.unwrap_or(&copy);
        let blocks = self.lanes(self.own).div_ceil(self.block * PANEL);
        par::tasks(blocks, serial, |block| {
            let _release = (!serial).then_some(ReleaseTiles);
            self.task(block, shared, count);
        });
    }

    fn other(&self) -> Side {
        if self.own == Side::A { Side::B } else { Side::A }
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

    /// Packs all panels of an operand.
    fn pack_all(&self, side: Side, serial: bool, to: &mut [bf16]) {
        let (k, count) = (self.a.cols, self.lanes(side).div_ceil(PANEL));
        let serial = serial || k * self.lanes(side) < SERIAL_PACKING;
        let to = DisjointMut::from(to);
        // A task reads what lies side by side: panels, or some products of all of them.
        let (panels, products) =
            if self.products_are_adjacent(side) { (1, k) } else { (count, PACK_STEPS * STEP) };
        let cuts = k.div_ceil(products);
        par::tasks(count.div_ceil(panels) * cuts, serial, |task| {
            let (p, pc) = (task / cuts * panels, task % cuts * products);
            self.pack_block(side, p..p + panels, (pc, products.min(k - pc)), |p| {
                // SAFETY: this task alone has these products of these panels.
                unsafe { to.part(p * packed_a_len(k) + self.step_len(side, p) * (pc / STEP)) }
            });
        });
    }

    /// Whether the products of a row or column lie side by side.
    fn products_are_adjacent(&self, side: Side) -> bool {
        match side {
            Side::A => self.a.cs == 1,
            Side::B => self.b.rs == 1,
        }
    }

    /// What one step of panel `p` takes.
    fn step_len(&self, side: Side, p: usize) -> usize {
        match side {
            Side::A => PANEL * STEP,
            Side::B => tiles_for(self.range(side, p..p + 1).len()) * TILE,
        }
    }

    /// Packs the products `pc` (first, count) of `panels` to the places that `to` gives.
    fn pack_block<'b>(
        &self,
        side: Side,
        panels: Range<usize>,
        (pc, kc): (usize, usize),
        to: impl Fn(usize) -> DisjointMut<'b, bf16>,
    ) {
        // Panel after panel, or all panels step after step: in the order of the memory.
        let steps = if self.products_are_adjacent(side) { kc.div_ceil(STEP) } else { 1 };
        for first in (0..kc).step_by(steps * STEP) {
            for p in panels.clone() {
                let len = self.step_len(side, p);
                // SAFETY: the caller hands over what belongs to these panels.
                let panel = unsafe { to(p).slice(first / STEP * len, steps * len) };
                self.pack(side, p, (pc + first, (steps * STEP).min(kc - first)), panel);
            }
        }
    }

    /// Packs the products `pc` (first, count) of panel `p`.
    fn pack(&self, side: Side, p: usize, pc: (usize, usize), panel: &mut [bf16]) {
        let lanes = self.range(side, p..p + 1);
        let lanes = (lanes.start, lanes.len());
        match side {
            Side::A => pack_a(&self.a, lanes, pc, panel),
            Side::B => pack_b(&self.b, self.product.alpha, pc, lanes, panel),
        }
    }

    /// One block of rows or columns of C.
    fn task(&self, block: usize, shared: &[bf16], count: usize) {
        let k = self.a.cols;
        let panels = self.lanes(self.own).div_ceil(PANEL);
        let own = block * self.block..((block + 1) * self.block).min(panels);
        // Where B is packed already, panels have all products.
        let packed = self.packed_b.filter(|_| self.own == Side::B);
        let slot = packed_a_len(if packed.is_some() { k } else { KC.min(k) });
        let mut copy = Bf16Scratch::take(if packed.is_none() { own.len() * slot } else { 0 });
        for pc in (0..k).step_by(KC) {
            let kc = KC.min(k - pc);
            if packed.is_none() {
                let to = DisjointMut::from(&mut copy[..]);
                // SAFETY: they are this task's own.
                self.pack_block(self.own, own.clone(), (pc, kc), |p| unsafe {
                    to.part((p - own.start) * slot)
                });
            }
            let mine = |q: usize| match packed {
                Some(all) => &all[q * slot + pc / STEP * self.step_len(self.own, q)..],
                None => &copy[(q - own.start) * slot..],
            };
            let passing =
                |p: usize| &shared[p * packed_a_len(k) + pc / STEP * self.step_len(self.other(), p)..];
            match self.own {
                Side::A => {
                    for first in (0..count).step_by(GROUP) {
                        let cols = first..(first + GROUP).min(count);
                        self.block([own.clone(), cols], mine, passing, (pc, kc));
                    }
                }
                Side::B => self.block([0..count, own.clone()], passing, mine, (pc, kc)),
            }
        }
    }

    /// The products `pc` (first, count) where panels of A and of B meet: `a` and `b` give what begins with the first.
    /// After the last ones follows what follows the product. What is written in bf16 has all its products at once, and
    /// its sums in working memory.
    fn block<'b>(
        &self,
        [rows, cols]: [Range<usize>; 2],
        a: impl Fn(usize) -> &'b [bf16],
        b: impl Fn(usize) -> &'b [bf16],
        (pc, kc): (usize, usize),
    ) {
        let beta = if pc == 0 { self.product.beta } else { 1.0 };
        let across = self.range(Side::B, cols.clone());
        let half = matches!(self.c, Target::Half(_));
        let mut local = half.then(|| Scratch::take(PANEL * across.len()));
        for p in rows {
            let (a, down) = (a(p), self.range(Side::A, p..p + 1));
            let (c, rs_c) = match self.c {
                // SAFETY: these rows of these columns are this task's alone.
                Target::Full(c) => (unsafe { c.part(down.start * self.rs_c + across.start) }, self.rs_c),
                Target::Half(_) => {
                    (DisjointMut::from(local.as_deref_mut().unwrap_or_default()), across.len())
                }
            };
            if beta != 0.0 && beta != 1.0 {
                for i in 0..down.len() {
                    // SAFETY: the same.
                    scale(beta, unsafe { c.slice(i * rs_c, across.len()) });
                }
            }
            for q in cols.clone() {
                let range = self.range(Side::B, q..q + 1);
                Bf16Kernel {
                    counts: &[],
                    k: Offsets { inner: &[0], max_inner: 0, outer: kc.div_ceil(STEP), stride: PANEL * STEP },
                    a,
                    rs_a: STEP,
                    rows: down.len(),
                    b: b(q),
                    rs_b: self.step_len(Side::B, q),
                    cols: range.len(),
                    // SAFETY: the same; the micro-kernels of a task follow one another.
                    c: unsafe { c.part(range.start - across.start) },
                    rs_c,
                    accumulate: beta != 0.0,
                    is_far: !half && kc >= LONG,
                }
                .run();
            }
            if pc + kc == self.a.cols && (half || !self.product.op.is_nothing(&self.product.bias)) {
                for (i, row) in down.enumerate() {
                    // SAFETY: the same.
                    unsafe {
                        let sums = c.slice(i * rs_c, across.len());
                        self.product.follow(sums, [row, across.start], self.rs_c);
                        if let Target::Half(half) = self.c {
                            bf16::write(sums, half.slice(row * self.rs_c + across.start, across.len()));
                        }
                    }
                }
            }
        }
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
enum Target<'a> {
    Full(DisjointMut<'a>),
    Half(DisjointMut<'a, bf16>),
}

impl<'a> From<NumbersMut<'a>> for Target<'a> {
    fn from(c: NumbersMut<'a>) -> Self {
        match c {
            NumbersMut::Full(c) => Self::Full(DisjointMut::from(c)),
            NumbersMut::Half(c) => Self::Half(DisjointMut::from(c)),
        }
    }
}
