//! How a matrix product is cut into tiles: which operand becomes the vectors, packing, and tasks.
#![allow(unsafe_code)]

use super::conv_product::{SERIAL_FLOPS, clear_padding, even_rows};
use super::isa::multiversion;
use super::scratch::Scratch;
use super::tile::{LANES, MAX_VECS, Order, Out, Steps, Tile, max_rows};
use super::transpose::transpose;
use super::{Act, Bias, Elem, Mat, MatMut, act_inplace, gelu, scale};
use rayon::prelude::*;

/// Lanes of a panel.
const PANEL: usize = LANES * MAX_VECS;
/// Steps that stay in cache together with a panel of them.
const BLOCK: usize = 1024;
/// Rows of one task.
const ROWS: usize = 96;
/// Distance of two steps from which on they are far apart.
const FAR: usize = 256;
/// Rows whose distance is a multiple of this compete for a few lines of a first-level cache.
const CLASH: usize = 512;
/// Tasks that a product is cut into at least, where its shape allows.
const TASKS: usize = 8;

/// The product as the tiles see it: `out(r, l) += x(r, k) * w(k, l)`. `w` gives the vectors: the right operand, or, turned, the left.
struct Plan<'a> {
    x: Mat<'a>,
    w: Mat<'a>,
    turned: bool,
    alpha: Elem,
    beta: Elem,
    out: Out<'a>,
    rs: usize,
    bias: Bias<'a>,
    last: Last<'a>,
    /// Rows of one task and panels of one task.
    rows: usize,
    panels: usize,
}

/// How the tiles walk through `x`: where it lies, or through a copy of a task's rows, where its steps lie far apart, or its rows fall on the same
/// lines of the cache, and several panels walk there.
struct Walk {
    gather: bool,
    /// Distance of two rows and of two steps.
    row: usize,
    step: usize,
    base: Vec<u32>,
    offsets: Vec<u32>,
}

/// What happens to a result after the bias; slices and parts lie as `c` does.
#[derive(Clone, Copy)]
pub(super) enum Last<'a> {
    /// The activation.
    Act(Act),
    /// The sum with this.
    Add(&'a [Elem]),
    /// The product with this, element by element.
    Mul(&'a [Elem]),
    /// GELU, whose slope is written here.
    Gelu(Out<'a>),
}

/// Elements that packing `w` moves, weighted: a transposed operand costs three times as much.
fn packing(w: Mat<'_>) -> usize {
    w.rows * w.cols * if w.cs == 1 { 1 } else { 3 }
}

/// `c = last(alpha * a * b + beta * c + bias)`, shapes checked by the caller.
pub(super) fn product(
    alpha: Elem,
    a: Mat<'_>,
    b: Mat<'_>,
    beta: Elem,
    c: MatMut<'_>,
    bias: Bias<'_>,
    last: Last<'_>,
) {
    let serial = 2 * c.rows * c.cols * a.cols < SERIAL_FLOPS;
    if let Some(plan) = Plan::new(alpha, a, b, beta, c, bias, last) {
        plan.run(serial);
    }
}

/// `c = alpha * a * b + beta * c` on this thread: a small product inside a task.
pub(super) fn product_here(alpha: Elem, a: Mat<'_>, b: Mat<'_>, beta: Elem, c: MatMut<'_>) {
    debug_assert!(a.rows == c.rows && b.rows == a.cols && b.cols == c.cols);
    if let Some(plan) = Plan::new(alpha, a, b, beta, c, Bias::None, Last::Act(Act::Identity)) {
        plan.run(true);
    }
}

impl<'a> Plan<'a> {
    /// `None` for a result without elements.
    fn new(
        alpha: Elem,
        a: Mat<'a>,
        b: Mat<'a>,
        beta: Elem,
        c: MatMut<'a>,
        bias: Bias<'a>,
        last: Last<'a>,
    ) -> Option<Self> {
        let (m, n, k) = (c.rows, c.cols, a.cols);
        if m == 0 || n == 0 {
            return None;
        }
        // Multiplications on whole vectors, and what packing and turning cost beside them.
        let vectors = |lanes: usize, rows: usize| lanes.div_ceil(LANES) * LANES * rows * k;
        let straight = vectors(n, m) + 2 * packing(b);
        let turned = vectors(m, n) + 2 * packing(a.t()) + 8 * m * n < straight;
        let (x, w) = if turned { (b.t(), a.t()) } else { (a, b) };
        // An even number of equal chunks: two threads take a half each.
        let chunks = if x.rows <= ROWS * 4 / 3 { 1 } else { x.rows.div_ceil(ROWS).next_multiple_of(2) };
        let rows = x.rows.div_ceil(chunks);
        let count = w.cols.div_ceil(PANEL);
        let groups = TASKS.div_ceil(x.rows.div_ceil(rows)).min(count);
        let rs = c.rs;
        Some(Self {
            x,
            w,
            turned,
            alpha,
            beta,
            out: Out::from(c.data),
            rs,
            bias,
            last,
            rows,
            panels: count.div_ceil(groups),
        })
    }

    fn run(&self, serial: bool) {
        let (row_chunks, groups) =
            (self.x.rows.div_ceil(self.rows), self.w.cols.div_ceil(PANEL).div_ceil(self.panels));
        let k = self.w.rows;
        // Several tasks that share panels get them packed beforehand; a lone one packs its own while they are hot.
        let shared = row_chunks > 1;
        let mut packed = Scratch::take(if shared { self.w.cols.div_ceil(PANEL) * PANEL * k } else { 0 });
        if shared {
            let fill = |(p, dst): (usize, &mut [Elem])| self.pack(p, 0, k, dst);
            if serial || k * self.w.cols < SERIAL_FLOPS / 8 {
                packed.chunks_mut((PANEL * k).max(1)).enumerate().for_each(fill);
            } else {
                packed.par_chunks_mut((PANEL * k).max(1)).enumerate().for_each(fill);
            }
        }
        // Row chunk after row chunk: a thread that takes half of the tasks reads, or writes, half of a weight. What two threads have read
        // costs three times as much to update as what one has.
        let walk = self.walk();
        let one = |i: usize| self.task(i / groups, i % groups, &packed, &walk);
        if serial {
            (0..row_chunks * groups).for_each(one);
        } else {
            (0..row_chunks * groups).into_par_iter().with_max_len(1).for_each(one);
        }
    }

    fn lanes(&self, panel: usize) -> usize {
        PANEL.min(self.w.cols - panel * PANEL)
    }

    /// Writes steps k0..k0 + steps of a panel to `dst`, `alpha` included, step after step.
    fn pack(&self, panel: usize, k0: usize, steps: usize, dst: &mut [Elem]) {
        let (w, lanes) = (&self.w, self.lanes(panel));
        let width = lanes.div_ceil(LANES) * LANES;
        let dst = &mut dst[..steps * width];
        let at = k0 * w.rs + panel * PANEL * w.cs;
        if steps == 0 {
            return;
        }
        if w.cs == 1 {
            for (s, dst) in dst.chunks_exact_mut(width).enumerate() {
                dst[..lanes].copy_from_slice(&w.data[at + s * w.rs..][..lanes]);
            }
        } else if w.rs == 1 {
            transpose(lanes, steps, &w.data[at..], w.cs, 0.0, dst, width);
        } else {
            for (s, dst) in dst.chunks_exact_mut(width).enumerate() {
                dst[..lanes].iter_mut().enumerate().for_each(|(l, d)| *d = w.data[at + s * w.rs + l * w.cs]);
            }
        }
        clear_padding(dst, lanes);
        if self.alpha != 1.0 {
            scale(self.alpha, dst);
        }
    }

    /// The same for all tasks, so laid out once.
    fn walk(&self) -> Walk {
        let block = BLOCK.min(self.w.rows);
        let by_step = self.x.rs == 1 && self.x.cs > FAR;
        let by_row = self.x.cs == 1 && self.x.rs.is_multiple_of(CLASH);
        let gather = (by_step || by_row) && self.panels > 1;
        let (row, step) = match (gather, by_step) {
            (false, _) => (self.x.rs, self.x.cs),
            (true, true) => (1, self.rows),
            (true, false) => (block + LANES, 1),
        };
        Walk {
            gather,
            step,
            row,
            offsets: (0..block).map(|s| (s * step) as u32).collect(),
            base: (0..self.rows).map(|j| (j * row) as u32).collect(),
        }
    }

    /// Row chunk `r` of panel group `g`.
    fn task(&self, r: usize, g: usize, packed: &[Elem], walk: &Walk) {
        let (r0, k) = (r * self.rows, self.w.rows);
        let rows = self.rows.min(self.x.rows - r0);
        let panels = g * self.panels..((g + 1) * self.panels).min(self.w.cols.div_ceil(PANEL));
        let block = BLOCK.min(k);
        let direct = self.w.cs == 1 && self.alpha == 1.0 && packed.is_empty() && rows <= max_rows(MAX_VECS);
        let mut own = Scratch::take(if packed.is_empty() && !direct { block * PANEL } else { 0 });
        let mut sums = Scratch::take(if self.turned { rows * PANEL * panels.len() } else { 0 });
        let sums = Out::from(&mut sums[..]);
        let &Walk { gather, step: x_step, row: x_row, .. } = walk;
        let mut near = Scratch::take(if gather { self.rows * x_row.max(block) } else { 0 });
        for k0 in (0..k.max(1)).step_by(block.max(1)) {
            let steps = block.min(k - k0);
            let from = self.x.data.get(r0 * self.x.rs + k0 * self.x.cs..).unwrap_or_default();
            if gather && x_row == 1 {
                for (s, near) in near.chunks_exact_mut(x_step).take(steps).enumerate() {
                    near[..rows].copy_from_slice(&from[s * self.x.cs..][..rows]);
                }
            } else if gather {
                for (j, near) in near.chunks_exact_mut(x_row).take(rows).enumerate() {
                    near[..steps].copy_from_slice(&from[j * self.x.rs..][..steps]);
                }
            }
            for p in panels.clone() {
                let lanes = self.lanes(p);
                let width = lanes.div_ceil(LANES) * LANES;
                let (w, w_step) = if direct {
                    (self.w.data.get(k0 * self.w.rs + p * PANEL..).unwrap_or_default(), self.w.rs)
                } else if packed.is_empty() {
                    self.pack(p, k0, steps, &mut own);
                    (&own[..], width)
                } else {
                    (&packed[p * PANEL * k + k0 * width..], width)
                };
                // SAFETY: this task alone writes its rows of its panels' columns (or, turned, its sums).
                let (place, step) = unsafe {
                    match self.turned {
                        true => (sums.part((p - panels.start) * rows * PANEL), width),
                        false => (self.out.part(r0 * self.rs + p * PANEL), self.rs),
                    }
                };
                let add = k0 > 0 || !self.turned && self.beta != 0.0;
                if add && k0 == 0 && self.beta != 1.0 {
                    // SAFETY: as above.
                    (0..rows).for_each(|j| scale(self.beta, unsafe { place.slice(j * step, lanes) }));
                }
                let tile_rows = even_rows(rows, max_rows(width / LANES));
                for (i, base) in walk.base[..rows].chunks(tile_rows).enumerate() {
                    Tile {
                        steps: Steps { inner: &walk.offsets[..steps], outer: 1, stride: 0 },
                        max_inner: steps.saturating_sub(1) * x_step,
                        x: if gather { &near } else { from },
                        base,
                        w,
                        order: Order::Panel(w_step),
                        lanes,
                        // SAFETY: as above; the tiles of a task follow one another.
                        out: unsafe { place.part(i * tile_rows * step) },
                        out_step: step,
                        add,
                    }
                    .run();
                }
            }
        }
        // SAFETY: as above, for these rows of these columns (or, turned, these columns of these rows).
        unsafe {
            if self.turned {
                for p in panels {
                    let lanes = self.lanes(p);
                    let width = lanes.div_ceil(LANES) * LANES;
                    let sums = sums.slice((p - g * self.panels) * rows * PANEL, rows * width);
                    self.turn(rows, lanes, sums, width, p * PANEL * self.rs + r0);
                }
            } else if !matches!((self.bias, self.last), (Bias::None, Last::Act(Act::Identity))) {
                let from = panels.start * PANEL;
                let cols = (panels.end * PANEL).min(self.w.cols) - from;
                for j in r0..r0 + rows {
                    self.finish(self.out.slice(j * self.rs + from, cols), j, from);
                }
            }
        }
    }

    /// Turns sums of [row][lane] into rows of `c` that start at `c0`, 16 x 16 elements at a time.
    ///
    /// # Safety
    /// No other thread may touch these `lanes` rows of `rows` elements.
    unsafe fn turn(&self, rows: usize, lanes: usize, sums: &[Elem], width: usize, c0: usize) {
        let mut block = [0.0; LANES * LANES];
        for r in (0..rows).step_by(LANES) {
            let cols = LANES.min(rows - r);
            for l in (0..lanes).step_by(LANES) {
                let height = LANES.min(lanes - l);
                transpose(cols, height, &sums[r * width + l..], width, 0.0, &mut block, LANES);
                for i in 0..height {
                    // SAFETY: the caller's promise.
                    let row = unsafe { self.out.slice(c0 + (l + i) * self.rs + r, cols) };
                    for (c, s) in row.iter_mut().zip(&block[i * LANES..]) {
                        *c = if self.beta == 0.0 { *s } else { self.beta * *c + s };
                    }
                }
            }
        }
        for l in 0..lanes {
            // SAFETY: the caller's promise.
            unsafe {
                let row = self.out.slice(c0 + l * self.rs, rows);
                self.finish(row, c0 / self.rs + l, c0 % self.rs);
            }
        }
    }

    /// Bias and what comes last of a piece of row `i` of `c` that starts at column `j`.
    ///
    /// # Safety
    /// No other thread may touch this piece.
    unsafe fn finish(&self, row: &mut [Elem], i: usize, j: usize) {
        let at = i * self.rs + j;
        match (self.bias, self.last) {
            (Bias::Cols(bias), Last::Gelu(slope)) => {
                // SAFETY: the slope lies as `c` does, of which the caller has this piece alone.
                return gelu::with_slope(&bias[j..], row, unsafe { slope.slice(at, row.len()) });
            }
            (Bias::None, _) => {}
            (Bias::Cols(bias), _) => plus(&bias[j..], row),
            (Bias::Rows(bias), _) => row.iter_mut().for_each(|c| *c += bias[i]),
        }
        match self.last {
            Last::Act(Act::Identity) | Last::Gelu(_) => {}
            Last::Act(act) => act_inplace(act, row),
            Last::Add(more) => plus(&more[at..], row),
            Last::Mul(factor) => times(&factor[at..], row),
        }
    }
}

multiversion! {
    fn plus(more: &[Elem], row: &mut [Elem]) {
        for (c, m) in row.iter_mut().zip(more) {
            *c += *m;
        }
    }
}

multiversion! {
    fn times(factor: &[Elem], row: &mut [Elem]) {
        for (c, f) in row.iter_mut().zip(factor) {
            *c *= *f;
        }
    }
}
