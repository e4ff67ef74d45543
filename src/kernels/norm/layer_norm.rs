//! Layer normalisation over the last axis.
#![allow(unsafe_code)]

use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::isa::multiversion;
use crate::kernels::number::{Number, NumbersMut};
use crate::kernels::par;
use crate::kernels::reduce::Lanes;
use crate::kernels::scratch::Scratch;

/// Rows of one task, and of one partial sum of the parameters' gradients: rows of 192 elements are then 48 KiB.
pub(super) const BLOCK: usize = 64;
/// Lanes of a sum over a row: two AVX-512 registers, so that additions do not wait for each other.
pub(super) const LANES: usize = 32;

/// What happens to normalised values: `* gamma + beta`, one number for each place of a row, 1 and 0 where there are
/// none.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayerNormAffine<'a> {
    /// The factors.
    pub gamma: Option<&'a [Elem]>,
    /// What is added.
    pub beta: Option<&'a [Elem]>,
}

/// What the backward pass needs of each row.
#[derive(Debug, Clone, Copy)]
pub struct LayerNormStats<'a> {
    /// One mean a row.
    pub mean: &'a [Elem],
    /// One over the standard deviation, one a row.
    pub rstd: &'a [Elem],
}

/// [`LayerNormStats`] that the forward pass computes.
#[derive(Debug)]
pub struct LayerNormStatsMut<'a> {
    /// One mean a row.
    pub mean: &'a mut [Elem],
    /// One over the standard deviation, one a row.
    pub rstd: &'a mut [Elem],
}

/// The gradients of a layer norm.
#[derive(Debug)]
pub struct LayerNormGrads<'a> {
    /// The gradient of the output on entry, of the input on return.
    pub dy: &'a mut [Elem],
    /// Overwritten.
    pub dgamma: &'a mut [Elem],
    /// Overwritten.
    pub dbeta: &'a mut [Elem],
}

/// `y[i, ..] = (x[i, ..] - mean) / sqrt(var + eps) * gamma + beta` for rows of `d` elements, with the biased variance.
/// `stats` are results, kept for the backward pass.
pub fn layer_norm<'a>(
    d: usize,
    x: &[Elem],
    affine: LayerNormAffine<'_>,
    eps: Elem,
    y: impl Into<NumbersMut<'a>>,
    stats: LayerNormStatsMut<'_>,
) {
    match y.into() {
        NumbersMut::Full(y) => forward(d, x, affine, eps, y, stats),
        NumbersMut::Half(y) => forward(d, x, affine, eps, y, stats),
    }
}

fn forward<Y: Number>(
    d: usize,
    x: &[Elem],
    affine: LayerNormAffine<'_>,
    eps: Elem,
    y: &mut [Y],
    stats: LayerNormStatsMut<'_>,
) {
    let LayerNormStatsMut { mean, rstd } = stats;
    assert!(x.len() == y.len() && x.len() == mean.len() * d && rstd.len() == mean.len());
    assert!(affine.gamma.is_none_or(|g| g.len() == d) && affine.beta.is_none_or(|b| b.len() == d));
    if d == 0 {
        mean.fill(0.0);
        return rstd.fill(1.0 / eps.sqrt());
    }
    let (mean, rstd) = (DisjointMut::from(mean), DisjointMut::from(rstd));
    par::rows(d, BLOCK, y, |i, y| {
        let n = y.len() / d;
        // SAFETY: each block of rows is one task.
        let stats = unsafe { LayerNormStatsMut { mean: mean.slice(i, n), rstd: rstd.slice(i, n) } };
        forward_rows(d, &x[i * d..][..n * d], affine, eps, y, stats);
    });
}

/// The backward pass of [`layer_norm`].
pub fn layer_norm_backward(
    d: usize,
    x: &[Elem],
    gamma: Option<&[Elem]>,
    stats: LayerNormStats<'_>,
    grads: LayerNormGrads<'_>,
) {
    let LayerNormStats { mean, rstd } = stats;
    let LayerNormGrads { dy, dgamma, dbeta } = grads;
    assert!(x.len() == dy.len() && x.len() == mean.len() * d && rstd.len() == mean.len());
    assert!(gamma.is_none_or(|g| g.len() == d) && dgamma.len() == d && dbeta.len() == d);
    dgamma.fill(0.0);
    dbeta.fill(0.0);
    if d == 0 {
        return;
    }
    let blocks = mean.len().div_ceil(BLOCK);
    let mut partials = Scratch::take(blocks * 2 * d);
    let parts = DisjointMut::from(&mut partials[..]);
    let mut ones = Scratch::take(if gamma.is_some() { 0 } else { d });
    ones.fill(1.0);
    let gamma = gamma.unwrap_or(&ones);
    par::rows(d, BLOCK, dy, |i, dy| {
        let n = dy.len() / d;
        // SAFETY: each block of rows is one task with a partial sum of its own.
        let part = unsafe { parts.slice(i / BLOCK * 2 * d, 2 * d) };
        part.fill(0.0);
        let stats = LayerNormStats { mean: &mean[i..][..n], rstd: &rstd[i..][..n] };
        backward_rows(d, &x[i * d..][..n * d], gamma, stats, dy, part);
    });
    for part in partials.chunks_exact(2 * d) {
        dgamma.iter_mut().zip(&part[..d]).for_each(|(s, v)| *s += v);
        dbeta.iter_mut().zip(&part[d..]).for_each(|(s, v)| *s += v);
    }
}

/// The sum of `f` over the elements, in lanes.
#[inline(always)]
pub(super) fn sum(x: &[Elem], f: impl Fn(Elem) -> Elem) -> Elem {
    let mut lanes = Lanes::<LANES>::ZERO;
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for l in 0..LANES {
            lanes.0[l] += f(block[l]);
        }
    }
    for (l, v) in lanes.0.iter_mut().zip(rest) {
        *l += f(*v);
    }
    lanes.sum()
}

multiversion! {
    fn forward_rows<Y: Number>(
        d: usize,
        x: &[Elem],
        affine: LayerNormAffine<'_>,
        eps: Elem,
        y: &mut [Y],
        stats: LayerNormStatsMut<'_>,
    ) {
        for (i, (x, y)) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).enumerate() {
            let m = sum(x, |v| v) / d as Elem;
            let r = 1.0 / (sum(x, |v| (v - m) * (v - m)) / d as Elem + eps).sqrt();
            (stats.mean[i], stats.rstd[i]) = (m, r);
            match (affine.gamma, affine.beta) {
                (Some(g), Some(b)) => for (((y, x), g), b) in y.iter_mut().zip(x).zip(g).zip(b) {
                    *y = Y::of((*x - m) * r * *g + *b);
                },
                _ => for (j, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    let g = affine.gamma.map_or(1.0, |g| g[j]);
                    *y = Y::of((*x - m) * r * g + affine.beta.map_or(0.0, |b| b[j]));
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
        stats: LayerNormStats<'_>,
        dy: &mut [Elem],
        part: &mut [Elem],
    ) {
        let (dgamma, dbeta) = part.split_at_mut(d);
        for (i, (x, dy)) in x.chunks_exact(d).zip(dy.chunks_exact_mut(d)).enumerate() {
            let (m, r) = (stats.mean[i], stats.rstd[i]);
            // One walk: the parameters' gradients, dy times gamma, and its two sums.
            let (mut a, mut b) = (Lanes::<LANES>::ZERO, Lanes::<LANES>::ZERO);
            let blocks = d / LANES * LANES;
            let [xs, gammas] = [&x[..blocks], &gamma[..blocks]].map(|s| s.as_chunks::<LANES>().0.iter());
            let grads = dgamma[..blocks].as_chunks_mut::<LANES>().0.iter_mut();
            let grads = grads.zip(dbeta[..blocks].as_chunks_mut::<LANES>().0);
            let dys = dy[..blocks].as_chunks_mut::<LANES>().0.iter_mut();
            for (((dy, x), g), (dg, db)) in dys.zip(xs).zip(gammas).zip(grads) {
                for l in 0..LANES {
                    let xhat = (x[l] - m) * r;
                    dg[l] += dy[l] * xhat;
                    db[l] += dy[l];
                    dy[l] *= g[l];
                    a.0[l] += dy[l];
                    b.0[l] += dy[l] * xhat;
                }
            }
            for j in blocks..d {
                let xhat = (x[j] - m) * r;
                dgamma[j] += dy[j] * xhat;
                dbeta[j] += dy[j];
                dy[j] *= gamma[j];
                a.0[j - blocks] += dy[j];
                b.0[j - blocks] += dy[j] * xhat;
            }
            let (a, b) = (a.sum() / d as Elem, b.sum() / d as Elem);
            for (d, x) in dy.iter_mut().zip(x) {
                *d = r * (*d - a - (*x - m) * r * b);
            }
        }
    }
}
