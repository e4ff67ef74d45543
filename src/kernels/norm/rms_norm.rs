//! RMS normalisation of rows: layer norm without a mean and without an offset.
#![allow(unsafe_code)]

use super::layer_norm::{BLOCK, LANES, sum};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::isa::multiversion;
use crate::kernels::par;
use crate::kernels::reduce::Lanes;
use crate::kernels::scratch::Scratch;

/// `y[i, ..] = x[i, ..] / sqrt(mean of squares + eps) * gamma` for rows of `d` elements. `rrms`, one over the root of
/// each row, is a result that is kept for the backward pass.
pub fn rms_norm(d: usize, x: &[Elem], gamma: Option<&[Elem]>, eps: Elem, y: &mut [Elem], rrms: &mut [Elem]) {
    assert!(x.len() == y.len() && x.len() == rrms.len() * d && gamma.is_none_or(|g| g.len() == d));
    if d == 0 {
        return;
    }
    let roots = DisjointMut::from(rrms);
    par::rows(d, BLOCK, y, |i, y| {
        let n = y.len() / d;
        // SAFETY: each block of rows is one task.
        forward_rows(d, &x[i * d..][..n * d], gamma, eps, y, unsafe { roots.slice(i, n) });
    });
}

/// The gradients of an RMS norm.
#[derive(Debug)]
pub struct RmsNormGrads<'a> {
    /// The gradient of the output on entry, of the input on return.
    pub dy: &'a mut [Elem],
    /// Overwritten.
    pub dgamma: &'a mut [Elem],
}

/// The backward pass of [`rms_norm`].
pub fn rms_norm_backward(
    d: usize,
    x: &[Elem],
    gamma: Option<&[Elem]>,
    rrms: &[Elem],
    grads: RmsNormGrads<'_>,
) {
    let RmsNormGrads { dy, dgamma } = grads;
    assert!(x.len() == dy.len() && x.len() == rrms.len() * d);
    assert!(gamma.is_none_or(|g| g.len() == d) && dgamma.len() == d);
    dgamma.fill(0.0);
    if d == 0 {
        return;
    }
    let mut partials = Scratch::take(rrms.len().div_ceil(BLOCK) * d);
    let parts = DisjointMut::from(&mut partials[..]);
    let mut ones = Scratch::take(if gamma.is_some() { 0 } else { d });
    ones.fill(1.0);
    let gamma = gamma.unwrap_or(&ones);
    par::rows(d, BLOCK, dy, |i, dy| {
        let n = dy.len() / d;
        // SAFETY: each block of rows is one task with a partial sum of its own.
        let part = unsafe { parts.slice(i / BLOCK * d, d) };
        part.fill(0.0);
        backward_rows(d, &x[i * d..][..n * d], gamma, &rrms[i..][..n], dy, part);
    });
    for part in partials.chunks_exact(d) {
        dgamma.iter_mut().zip(part).for_each(|(s, v)| *s += v);
    }
}

multiversion! {
    fn forward_rows(
        d: usize,
        x: &[Elem],
        gamma: Option<&[Elem]>,
        eps: Elem,
        y: &mut [Elem],
        rrms: &mut [Elem],
    ) {
        for ((x, y), root) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(rrms) {
            let r = 1.0 / (sum(x, |v| v * v) / d as Elem + eps).sqrt();
            *root = r;
            match gamma {
                Some(gamma) => for ((y, x), g) in y.iter_mut().zip(x).zip(gamma) {
                    *y = *x * r * *g;
                },
                None => for (y, x) in y.iter_mut().zip(x) {
                    *y = *x * r;
                },
            }
        }
    }
}

multiversion! {
    fn backward_rows(d: usize, x: &[Elem], gamma: &[Elem], rrms: &[Elem], dy: &mut [Elem], dgamma: &mut [Elem]) {
        let blocks = d / LANES * LANES;
        for ((x, dy), r) in x.chunks_exact(d).zip(dy.chunks_exact_mut(d)).zip(rrms) {
            // One walk: gamma's gradient, dy times gamma, and its sum with the normalised values.
            let mut total = Lanes::<LANES>::ZERO;
            let [xs, gammas] = [&x[..blocks], &gamma[..blocks]].map(|s| s.as_chunks::<LANES>().0.iter());
            let dys = dy[..blocks].as_chunks_mut::<LANES>().0.iter_mut();
            let grads = dgamma[..blocks].as_chunks_mut::<LANES>().0.iter_mut();
            for (((dy, x), g), dg) in dys.zip(xs).zip(gammas).zip(grads) {
                for l in 0..LANES {
                    let xhat = x[l] * *r;
                    dg[l] += dy[l] * xhat;
                    dy[l] *= g[l];
                    total.0[l] += dy[l] * xhat;
                }
            }
            for j in blocks..d {
                let xhat = x[j] * *r;
                dgamma[j] += dy[j] * xhat;
                dy[j] *= gamma[j];
                total.0[j - blocks] += dy[j] * xhat;
            }
            let mean = total.sum() / d as Elem;
            for (d, x) in dy.iter_mut().zip(x) {
                *d = *r * (*d - *x * *r * mean);
            }
        }
    }
}
