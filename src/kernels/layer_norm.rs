//! Layer normalisation over the last axis.
#![allow(unsafe_code)]

use super::isa::multiversion;
use super::scratch::Scratch;
use super::tile::Out;
use super::{Elem, par};

/// Rows of one task, and of one partial sum of the parameters' gradients.
const BLOCK: usize = 64;
/// Lanes of a sum over a row.
const LANES: usize = 32;

/// `y[i, ..] = (x[i, ..] - mean) / sqrt(var + eps) * gamma + beta` for rows of `d` elements, biased variance.
/// `mean` and `rstd` (one a row) are results, kept for the backward pass. `gamma` and `beta` default to 1 and 0.
pub fn layer_norm(
    d: usize,
    x: &[Elem],
    gamma: Option<&[Elem]>,
    beta: Option<&[Elem]>,
    eps: Elem,
    y: &mut [Elem],
    mean: &mut [Elem],
    rstd: &mut [Elem],
) {
    assert!(x.len() == y.len() && x.len() == mean.len() * d && rstd.len() == mean.len());
    assert!(gamma.is_none_or(|g| g.len() == d) && beta.is_none_or(|b| b.len() == d));
    if d == 0 {
        mean.fill(0.0);
        return rstd.fill(1.0 / eps.sqrt());
    }
    let (mean, rstd) = (Out::from(mean), Out::from(rstd));
    par::rows(d, BLOCK, y, |i, y| {
        let n = y.len() / d;
        // SAFETY: each block of rows is one task.
        let (mean, rstd) = unsafe { (mean.slice(i, n), rstd.slice(i, n)) };
        forward_rows(d, &x[i * d..][..n * d], gamma, beta, eps, y, mean, rstd);
    });
}

/// `dy` becomes the gradient of `x`; `dgamma` and `dbeta` (length `d`) are overwritten.
pub fn layer_norm_backward(
    d: usize,
    x: &[Elem],
    gamma: Option<&[Elem]>,
    mean: &[Elem],
    rstd: &[Elem],
    dy: &mut [Elem],
    dgamma: &mut [Elem],
    dbeta: &mut [Elem],
) {
    assert!(x.len() == dy.len() && x.len() == mean.len() * d && rstd.len() == mean.len());
    assert!(gamma.is_none_or(|g| g.len() == d) && dgamma.len() == d && dbeta.len() == d);
    dgamma.fill(0.0);
    dbeta.fill(0.0);
    if d == 0 {
        return;
    }
    let blocks = mean.len().div_ceil(BLOCK);
    let mut partials = Scratch::take(blocks * 2 * d);
    let parts = Out::from(&mut partials[..]);
    let mut ones = Scratch::take(if gamma.is_some() { 0 } else { d });
    ones.fill(1.0);
    let gamma = gamma.unwrap_or(&ones);
    par::rows(d, BLOCK, dy, |i, dy| {
        let n = dy.len() / d;
        // SAFETY: each block of rows is one task with a partial sum of its own.
        let part = unsafe { parts.slice(i / BLOCK * 2 * d, 2 * d) };
        part.fill(0.0);
        backward_rows(d, &x[i * d..][..n * d], gamma, &mean[i..][..n], &rstd[i..][..n], dy, part);
    });
    for part in partials.chunks_exact(2 * d) {
        dgamma.iter_mut().zip(&part[..d]).for_each(|(s, v)| *s += v);
        dbeta.iter_mut().zip(&part[d..]).for_each(|(s, v)| *s += v);
    }
}

/// The sum of all lanes, a power of two, pair by pair.
#[inline(always)]
pub(super) fn halve<const N: usize>(mut lanes: [Elem; N]) -> Elem {
    let mut n = N;
    while n > 1 {
        n /= 2;
        for l in 0..n {
            lanes[l] += lanes[l + n];
        }
    }
    lanes[0]
}

/// The sum of `f` over the elements, in lanes.
#[inline(always)]
fn sum(x: &[Elem], f: impl Fn(Elem) -> Elem) -> Elem {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for l in 0..LANES {
            lanes[l] += f(block[l]);
        }
    }
    for (l, v) in lanes.iter_mut().zip(rest) {
        *l += f(*v);
    }
    halve(lanes)
}

multiversion! {
    fn forward_rows(
        d: usize,
        x: &[Elem],
        gamma: Option<&[Elem]>,
        beta: Option<&[Elem]>,
        eps: Elem,
        y: &mut [Elem],
        mean: &mut [Elem],
        rstd: &mut [Elem],
    ) {
        for (i, (x, y)) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).enumerate() {
            let m = sum(x, |v| v) / d as Elem;
            let r = 1.0 / (sum(x, |v| (v - m) * (v - m)) / d as Elem + eps).sqrt();
            (mean[i], rstd[i]) = (m, r);
            match (gamma, beta) {
                (Some(g), Some(b)) => for (((y, x), g), b) in y.iter_mut().zip(x).zip(g).zip(b) {
                    *y = (*x - m) * r * *g + *b;
                },
                _ => for (j, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    *y = (*x - m) * r * gamma.map_or(1.0, |g| g[j]) + beta.map_or(0.0, |b| b[j]);
                },
            }
        }
    }
}

multiversion! {
    /// `part` gathers the gradients of gamma, then of beta.
    fn backward_rows(
        d: usize,
        x: &[Elem],
        gamma: &[Elem],
        mean: &[Elem],
        rstd: &[Elem],
        dy: &mut [Elem],
        part: &mut [Elem],
    ) {
        let (dgamma, dbeta) = part.split_at_mut(d);
        for (i, (x, dy)) in x.chunks_exact(d).zip(dy.chunks_exact_mut(d)).enumerate() {
            let (m, r) = (mean[i], rstd[i]);
            // One walk: the parameters' gradients, dy times gamma, and its two sums.
            let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
            let blocks = d / LANES * LANES;
            let rows = [&x[..blocks], &gamma[..blocks]].map(|s| s.as_chunks::<LANES>().0.iter());
            let [xs, gammas] = rows;
            let grads = dgamma[..blocks].as_chunks_mut::<LANES>().0.iter_mut().zip(dbeta[..blocks].as_chunks_mut::<LANES>().0);
            for (((dy, x), g), (dg, db)) in dy[..blocks].as_chunks_mut::<LANES>().0.iter_mut().zip(xs).zip(gammas).zip(grads) {
                for l in 0..LANES {
                    let xhat = (x[l] - m) * r;
                    dg[l] += dy[l] * xhat;
                    db[l] += dy[l];
                    dy[l] *= g[l];
                    a[l] += dy[l];
                    b[l] += dy[l] * xhat;
                }
            }
            for j in blocks..d {
                let xhat = (x[j] - m) * r;
                dgamma[j] += dy[j] * xhat;
                dbeta[j] += dy[j];
                dy[j] *= gamma[j];
                a[j - blocks] += dy[j];
                b[j - blocks] += dy[j] * xhat;
            }
            let (a, b) = (halve(a) / d as Elem, halve(b) / d as Elem);
            for (d, x) in dy.iter_mut().zip(x) {
                *d = r * (*d - a - (*x - m) * r * b);
            }
        }
    }
}
