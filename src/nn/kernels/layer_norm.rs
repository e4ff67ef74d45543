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

/// The sum of `f` over the elements, in lanes.
#[inline(always)]
fn sum(x: &[Elem], f: impl Fn(Elem) -> Elem) -> Elem {
    let mut lanes = [0.0; LANES];
    for chunk in x.chunks(LANES) {
        for (l, v) in lanes.iter_mut().zip(chunk) {
            *l += f(*v);
        }
    }
    lanes.iter().sum()
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
        gamma: Option<&[Elem]>,
        mean: &[Elem],
        rstd: &[Elem],
        dy: &mut [Elem],
        part: &mut [Elem],
    ) {
        let (dgamma, dbeta) = part.split_at_mut(d);
        for (i, (x, dy)) in x.chunks_exact(d).zip(dy.chunks_exact_mut(d)).enumerate() {
            let (m, r) = (mean[i], rstd[i]);
            for (((g, b), d), x) in dgamma.iter_mut().zip(dbeta.iter_mut()).zip(dy.iter()).zip(x) {
                *g += *d * ((*x - m) * r);
                *b += *d;
            }
            if let Some(gamma) = gamma {
                for (d, g) in dy.iter_mut().zip(gamma) {
                    *d *= *g;
                }
            }
            let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
            for (d, x) in dy.chunks(LANES).zip(x.chunks(LANES)) {
                for ((a, b), (d, x)) in a.iter_mut().zip(&mut b).zip(d.iter().zip(x)) {
                    *a += *d;
                    *b += *d * ((*x - m) * r);
                }
            }
            let (a, b) = (a.iter().sum::<Elem>() / d as Elem, b.iter().sum::<Elem>() / d as Elem);
            for (d, x) in dy.iter_mut().zip(x) {
                *d = r * (*d - a - (*x - m) * r * b);
            }
        }
    }
}
