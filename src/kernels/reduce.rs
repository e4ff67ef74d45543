//! Sums in a fixed order.

use super::elementwise::scale;
use super::isa::multiversion;
use super::number::{Number, Numbers, widen};
use super::par;
use super::scratch::Scratch;
use crate::base::Elem;
use rayon::prelude::*;

/// Elements that one partial sum covers: 128 KiB, enough work for a task.
const PART: usize = 1 << 15;
/// Up to this many elements the sums of a matrix are taken on one thread.
const SERIAL: usize = 1 << 16;
/// Parts that the rows of a matrix are summed in at most.
const MOST_PARTS: usize = 16;
/// Rows that are added at a time.
const ROWS: usize = 8;

/// The partial sums of a vector loop. Loops with a remainder keep them in memory, where a vector that straddles two
/// cache lines costs a third of the loop's time; so they begin on one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Lanes<const N: usize>(pub [Elem; N]);

impl<const N: usize> Lanes<N> {
    /// All lanes zero.
    pub const ZERO: Self = Self([0.0; N]);

    /// The sum of the lanes, of which there are a power of two, half by half.
    #[inline(always)]
    pub fn sum(self) -> Elem {
        let (mut lanes, mut n) = (self.0, N);
        while n > 1 {
            n /= 2;
            for l in 0..n {
                lanes[l] += lanes[l + n];
            }
        }
        lanes[0]
    }
}

multiversion! {
    /// The sum, in f32 over 64 lanes within a block of 4096 and in f64 over the blocks.
    pub(super) fn sum_part(x: &[Elem]) -> f64 {
        if x.len() < 64 {
            return x.iter().map(|&v| v as f64).sum();
        }
        let mut total = 0.0;
        for block in x.chunks(4096) {
            let mut lanes = [0.0; 64];
            let mut chunks = block.chunks_exact(64);
            for chunk in &mut chunks {
                for l in 0..64 {
                    lanes[l] += chunk[l];
                }
            }
            for (l, v) in lanes.iter_mut().zip(chunks.remainder()) {
                *l += *v;
            }
            for half in [32, 16, 8] {
                for l in 0..half {
                    lanes[l] += lanes[l + half];
                }
            }
            total += lanes[..8].iter().map(|&l| l as f64).sum::<f64>();
        }
        total
    }
}

multiversion! {
    fn dot_part(x: &[Elem], y: &[Elem]) -> f64 {
        let mut lanes = [0.0f64; 32];
        let (mut a, mut b) = (x.chunks_exact(32), y.chunks_exact(32));
        for (a, b) in (&mut a).zip(&mut b) {
            for l in 0..32 {
                lanes[l] += a[l] as f64 * b[l] as f64;
            }
        }
        for (a, b) in a.remainder().iter().zip(b.remainder()) {
            lanes[0] += *a as f64 * *b as f64;
        }
        lanes.iter().sum()
    }
}

/// The sum of all elements' squares, in f64, in parts of fixed size.
pub fn sum_squares(x: &[Elem]) -> f64 {
    dot(x, x)
}

/// The inner product, in f64, in parts of fixed size.
pub fn dot(x: &[Elem], y: &[Elem]) -> f64 {
    assert_eq!(x.len(), y.len());
    if x.len() <= PART {
        return dot_part(x, y);
    }
    if par::left_out(false) {
        return 0.0;
    }
    let parts: Vec<f64> = x.par_chunks(PART).zip(y.par_chunks(PART)).map(|(x, y)| dot_part(x, y)).collect();
    parts.iter().sum()
}

multiversion! {
    /// Adds the rows of `x` to `out`, so many at a time, while the sums of 64 columns stay in registers.
    fn add_rows<X: Number>(x: &[X], out: &mut [Elem]) {
        let n = out.len();
        let mut blocks = x.chunks_exact(ROWS * n);
        for rows in &mut blocks {
            let mut pieces = out.chunks_exact_mut(64);
            let rest = n / 64 * 64;
            for (first, out) in (0..rest).step_by(64).zip(&mut pieces) {
                let mut sums = [0.0; 64];
                for i in 0..ROWS {
                    let row = &rows[i * n + first..][..64];
                    for l in 0..64 {
                        sums[l] += row[l].wide();
                    }
                }
                for l in 0..64 {
                    out[l] += sums[l];
                }
            }
            for (j, out) in pieces.into_remainder().iter_mut().enumerate() {
                *out += (0..ROWS).map(|i| rows[i * n + rest + j].wide()).sum::<Elem>();
            }
        }
        for row in blocks.remainder().chunks_exact(n) {
            for (o, v) in out.iter_mut().zip(row) {
                *o += v.wide();
            }
        }
    }
}

/// `out[j] = beta * out[j] + sum over i of x[i, j]` for an `out.len()`-column matrix: the bias gradient of a linear
/// layer.
pub fn col_sums<'a>(x: impl Into<Numbers<'a>>, beta: Elem, out: &mut [Elem]) {
    match x.into() {
        Numbers::Full(x) => col_sums_of(x, beta, out),
        Numbers::Half(x) => col_sums_of(x, beta, out),
    }
}

fn col_sums_of<X: Number>(x: &[X], beta: Elem, out: &mut [Elem]) {
    assert!(if out.is_empty() { x.is_empty() } else { x.len().is_multiple_of(out.len()) });
    scale_or_zero(beta, out);
    let cols = out.len();
    if x.is_empty() {
        return;
    }
    if x.len() <= SERIAL {
        return add_rows(x, out);
    }
    if par::left_out(false) {
        return;
    }
    if cols >= SERIAL {
        // Few rows: their pieces are long.
        return out.par_chunks_mut(PART).enumerate().for_each(|(i, out)| {
            x.chunks_exact(cols).for_each(|row| add_rows(&row[i * PART..][..out.len()], out));
        });
    }
    // Whole rows, so that the processor foresees what is read: pieces of rows are far apart, and each of them waited.
    let all = x.len() / cols;
    let rows = all.div_ceil(MOST_PARTS).next_multiple_of(ROWS).max(SERIAL / cols);
    let mut sums = Scratch::take(all.div_ceil(rows) * cols);
    sums.fill(0.0);
    x.par_chunks(rows * cols).zip(sums.par_chunks_mut(cols)).for_each(|(x, sums)| add_rows(x, sums));
    add_rows(&sums, out);
}

/// `out[i] = beta * out[i] + sum over j of x[i, j]` for an `out.len()`-row matrix.
pub fn row_sums(x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(if out.is_empty() { x.is_empty() } else { x.len().is_multiple_of(out.len()) });
    let cols = x.len() / out.len().max(1);
    scale_or_zero(beta, out);
    let one = |(i, o): (usize, &mut Elem)| *o += sum_part(&x[i * cols..][..cols]) as Elem;
    if x.len() <= SERIAL {
        out.iter_mut().enumerate().for_each(one);
    } else if !par::left_out(false) {
        out.par_iter_mut().with_min_len(16).enumerate().for_each(one);
    }
}

/// `out[c] = beta * out[c] + sum over n and i of x[n, c, i]`: the bias gradient of a convolution.
pub fn channel_sums<'a>(
    n: usize,
    c: usize,
    inner: usize,
    x: impl Into<Numbers<'a>>,
    beta: Elem,
    out: &mut [Elem],
) {
    match x.into() {
        Numbers::Full(x) => sums_of(n, c, inner, x, beta, out),
        Numbers::Half(half) => {
            let mut x = Scratch::take(half.len());
            widen(half, &mut x);
            sums_of(n, c, inner, &x, beta, out);
        }
    }
}

fn sums_of(n: usize, c: usize, inner: usize, x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(x.len() == n * c * inner && out.len() == c);
    if inner == 1 {
        return col_sums(x, beta, out);
    }
    scale_or_zero(beta, out);
    let plane = |p: usize| sum_part(&x[p * inner..][..inner]);
    if x.len() <= SERIAL {
        for (i, o) in out.iter_mut().enumerate() {
            *o += (0..n).map(|n| plane(n * c + i)).sum::<f64>() as Elem;
        }
    } else if !par::left_out(false) {
        // Planes in the order of memory: so each thread reads images that it wrote itself, and not a channel of all.
        let mut planes = Scratch::take(n * c * (size_of::<f64>() / size_of::<Elem>()));
        let planes: &mut [f64] = bytemuck::cast_slice_mut(&mut planes);
        planes.par_iter_mut().enumerate().for_each(|(p, sum)| *sum = plane(p));
        for (i, o) in out.iter_mut().enumerate() {
            *o += planes.iter().skip(i).step_by(c).sum::<f64>() as Elem;
        }
    }
}

/// `beta * out`, without reading `out` for `beta = 0`.
pub(super) fn scale_or_zero(beta: Elem, out: &mut [Elem]) {
    if beta == 0.0 {
        out.fill(0.0);
    } else {
        scale(beta, out);
    }
}
