//! The loops over flat planes: sums of shifted planes, and sums of their products with a gradient.

use crate::base::Elem;
use crate::kernels::gemm::microkernel::LANES;
use crate::kernels::reduce::Lanes;
use crate::kernels::scratch::Scratch;

use super::vector::{Vector, vectorised};

/// The most vectors of one block of sums.
const VECTORS: usize = 4;
/// Elements behind the last one that a loop in whole blocks may read.
pub(super) const SLACK: usize = VECTORS * LANES;
/// Elements after which the lanes of a sum are emptied into f64: 256 additions a lane lose at most a few digits.
const FLUSH: usize = 256 * LANES;

/// The elements that [`sums`] writes for `len`: whole blocks.
pub(super) fn whole(len: usize) -> usize {
    len.next_multiple_of(SLACK)
}

/// Rows of sums of shifted planes.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    /// By how much each step's plane is shifted.
    pub steps: &'a [usize],
    /// [row, step].
    pub weights: &'a [Elem],
    pub x: &'a [Elem],
}

vectorised! {
    /// `y[row * pitch + i] = sum over steps of weights[row, step] * x[steps[step] + i]` for i in 0..len, and on to the end
    /// of a whole block.
    pub(super) fn sums<V>(p: Products<'_>, rows: usize, len: usize, y: &mut [Elem], pitch: usize) {
        let steps = p.steps.len();
        let last = p.steps.iter().max().map_or(0, |s| s + whole(len));
        assert!(last <= p.x.len() && p.weights.len() == rows * steps, "sums of other planes");
        assert!(rows == 0 || (rows - 1) * pitch + whole(len) <= y.len(), "sums leave their slice");
        let mut row = 0;
        while row < rows {
            let (weights, y) = (&p.weights[row * steps..], &mut y[row * pitch..]);
            let own = Products { weights, ..p };
            // SAFETY: seen above.
            row += unsafe {
                match (rows - row, V::SUMS) {
                    (4.., 8) => block::<V, 4, 2>(own, len, y, pitch),
                    (4.., _) => block::<V, 4, 1>(own, len, y, pitch),
                    (2.., 8) => block::<V, 2, 4>(own, len, y, pitch),
                    (2.., _) => block::<V, 2, 2>(own, len, y, pitch),
                    _ => block::<V, 1, 4>(own, len, y, pitch),
                }
            };
        }
    }
}

/// `K` rows in blocks of `N` vectors; returns `K`.
///
/// # Safety
/// The steps leave room for `whole(len)` elements of `x`, `y` has room for that many in each row, and there are weights
/// for `K` rows.
#[inline(always)]
unsafe fn block<V: Vector, const K: usize, const N: usize>(
    p: Products<'_>,
    len: usize,
    y: &mut [Elem],
    pitch: usize,
) -> usize {
    let (steps, x, y) = (p.steps.len(), p.x.as_ptr(), y.as_mut_ptr());
    for i in (0..len).step_by(N * LANES) {
        let mut acc = [[V::splat(0.0); N]; K];
        for (s, step) in p.steps.iter().enumerate() {
            // SAFETY: the caller's promise; blocks divide `whole(len)`.
            let vector = |v| unsafe { V::load(&*x.add(step + i + v * LANES).cast::<[Elem; LANES]>()) };
            let mut x = [V::splat(0.0); N];
            for v in 0..N {
                x[v] = vector(v);
            }
            for k in 0..K {
                // SAFETY: the caller's promise.
                let w = V::splat(unsafe { *p.weights.get_unchecked(k * steps + s) });
                for v in 0..N {
                    acc[k][v] = x[v].mul_add(w, acc[k][v]);
                }
            }
        }
        for k in 0..K {
            for v in 0..N {
                // SAFETY: the caller's promise.
                acc[k][v].store(unsafe { &mut *y.add(k * pitch + i + v * LANES).cast::<[Elem; LANES]>() });
            }
        }
    }
    K
}

/// Sums of products over pixels, one for each (channel, tap), in lanes that are emptied into f64 now and then.
pub(super) struct Dots {
    /// [sum][lane].
    pub lanes: Scratch,
    totals: Vec<f64>,
    held: usize,
}

impl Dots {
    pub fn new(sums: usize) -> Self {
        let mut lanes = Scratch::take(sums * LANES);
        lanes.fill(0.0);
        Self { lanes, totals: vec![0.0; sums], held: 0 }
    }

    pub fn flush_after(&mut self, pixels: usize) {
        self.held += pixels;
        if self.held >= FLUSH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (lanes, _) = self.lanes.as_chunks_mut::<LANES>();
        for (total, lanes) in self.totals.iter_mut().zip(lanes) {
            *total += Lanes(*lanes).sum() as f64;
            *lanes = [0.0; LANES];
        }
        self.held = 0;
    }

    /// `out = beta * out + sums`, without reading `out` for `beta = 0`.
    pub fn finish(mut self, beta: Elem, out: &mut [Elem]) {
        self.flush();
        for (out, total) in out.iter_mut().zip(&self.totals) {
            *out = *total as Elem + if beta == 0.0 { 0.0 } else { beta * *out };
        }
    }
}

vectorised! {
    /// Adds to the lanes of each step the sums of `grad[i] * x[step + i]`. Behind the last of them `grad` holds zeros to
    /// the end of a vector.
    pub(super) fn add_dots<V>(steps: &[usize], len: usize, grad: &[Elem], x: &[Elem], lanes: &mut [Elem]) {
        let whole = len.next_multiple_of(LANES);
        let last = steps.iter().max().map_or(0, |s| s + whole);
        assert!(last <= x.len() && whole <= grad.len() && lanes.len() == steps.len() * LANES, "other planes");
        // Nine sums in registers are a kernel of 3 x 3; with few registers, five are one row of 5 x 5.
        let most = V::SUMS + 1;
        let group = steps.len().div_ceil(steps.len().div_ceil(most).max(1)).max(1);
        let (lanes, _) = lanes.as_chunks_mut::<LANES>();
        for (steps, lanes) in steps.chunks(group).zip(lanes.chunks_mut(group)) {
            macro_rules! pick {
                ($($taps:literal)*) => {
                    match steps.len() {
                        // SAFETY: seen above.
                        $($taps if $taps <= V::SUMS + 1 => unsafe { dots::<V, $taps>(steps, whole, grad, x, lanes) },)*
                        _ => {}
                    }
                };
            }
            pick!(1 2 3 4 5 6 7 8 9);
        }
    }
}

/// # Safety
/// `grad` holds `whole` elements, and so does `x` behind each step.
#[inline(always)]
unsafe fn dots<V: Vector, const T: usize>(
    steps: &[usize],
    whole: usize,
    grad: &[Elem],
    x: &[Elem],
    lanes: &mut [[Elem; LANES]],
) {
    // SAFETY: the caller's promise.
    let load = |from: &[Elem], at: usize| V::load(unsafe { &*from.as_ptr().add(at).cast::<[Elem; LANES]>() });
    let (mut at, mut acc) = ([0; T], [V::splat(0.0); T]);
    for t in 0..T {
        (at[t], acc[t]) = (steps[t], V::load(&lanes[t]));
    }
    for i in (0..whole).step_by(LANES) {
        let grad = load(grad, i);
        for t in 0..T {
            acc[t] = load(x, at[t] + i).mul_add(grad, acc[t]);
        }
    }
    for t in 0..T {
        acc[t].store(&mut lanes[t]);
    }
}
