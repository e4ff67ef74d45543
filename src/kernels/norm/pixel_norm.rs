//! Layer normalisation over the channels of images whose channels come first: [n, c, pixels]. The lanes of a vector are
//! pixels, which lie side by side.
#![allow(unsafe_code)]

use super::layer_norm::{LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::isa::multiversion;
use crate::kernels::par;
use crate::kernels::reduce::Lanes;
use crate::kernels::scratch::Scratch;

/// Pixels that are walked together: their rows of 96 channels are 24 KiB and stay in a first-level cache.
const TILE: usize = 64;
/// Tiles of one task, and of one partial sum of the parameters' gradients.
const TILES: usize = 16;

/// Calls `f` with the number of each task, its image and its first pixel; in parallel where there are many elements.
fn each_task(n: usize, c: usize, pixels: usize, f: impl Fn(usize, usize, usize) + Sync + Send) {
    let tasks = pixels.div_ceil(TILE * TILES);
    par::count(n * tasks, n * c * pixels, |i| f(i, i / tasks, i % tasks * TILE * TILES));
}

/// `y[i, .., p] = (x[i, .., p] - mean) / sqrt(var + eps) * gamma + beta` with the mean and the biased variance of the `c`
/// channels of each pixel. `stats`, one a pixel, are results, kept for the backward pass.
pub fn pixel_norm(
    [n, c, pixels]: [usize; 3],
    x: &[Elem],
    affine: LayerNormAffine<'_>,
    eps: Elem,
    y: &mut [Elem],
    stats: LayerNormStatsMut<'_>,
) {
    assert!(x.len() == n * c * pixels && y.len() == x.len());
    assert!(stats.mean.len() == n * pixels && stats.rstd.len() == n * pixels);
    assert!(affine.gamma.is_none_or(|g| g.len() == c) && affine.beta.is_none_or(|b| b.len() == c));
    let [y, mean, rstd] = [y, stats.mean, stats.rstd].map(DisjointMut::from);
    each_task(n, c, pixels, |_, image, first| {
        for at in (first..pixels.min(first + TILE * TILES)).step_by(TILE) {
            let width = TILE.min(pixels - at);
            // SAFETY: each task has its own pixels, and a tile's of all channels go to these slices alone.
            let [mean, rstd] = [mean, rstd].map(|s| unsafe { s.slice(image * pixels + at, width) });
            let place = Place { pixels, at: image * c * pixels + at };
            forward_tile(c, place, x, affine, eps, y, LayerNormStatsMut { mean, rstd });
        }
    });
}

/// The backward pass of [`pixel_norm`].
pub fn pixel_norm_backward(
    [n, c, pixels]: [usize; 3],
    x: &[Elem],
    gamma: Option<&[Elem]>,
    stats: LayerNormStats<'_>,
    grads: LayerNormGrads<'_>,
) {
    let LayerNormGrads { dy, dgamma, dbeta } = grads;
    assert!(x.len() == n * c * pixels && dy.len() == x.len());
    assert!(stats.mean.len() == n * pixels && stats.rstd.len() == n * pixels);
    assert!(gamma.is_none_or(|g| g.len() == c) && dgamma.len() == c && dbeta.len() == c);
    let tasks = n * pixels.div_ceil(TILE * TILES);
    let mut partials = Scratch::take(tasks * 2 * c);
    partials.fill(0.0);
    let (dy, parts) = (DisjointMut::from(dy), DisjointMut::from(&mut partials[..]));
    each_task(n, c, pixels, |task, image, first| {
        // SAFETY: each task has its own sums.
        let part = unsafe { parts.slice(task * 2 * c, 2 * c) };
        for at in (first..pixels.min(first + TILE * TILES)).step_by(TILE) {
            let width = TILE.min(pixels - at);
            let [mean, rstd] = [stats.mean, stats.rstd].map(|s| &s[image * pixels + at..][..width]);
            let place = Place { pixels, at: image * c * pixels + at };
            backward_tile(place, x, gamma, LayerNormStats { mean, rstd }, dy, part);
        }
    });
    for (channel, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
        let sum = |at: usize| partials.iter().skip(at).step_by(2 * c).map(|v| *v as f64).sum::<f64>();
        (*dgamma, *dbeta) = (sum(channel) as Elem, sum(c + channel) as Elem);
    }
}

/// Where a tile lies: its pixels of channel i from `at + i * pixels` on.
#[derive(Clone, Copy)]
struct Place {
    pixels: usize,
    at: usize,
}

multiversion! {
    fn forward_tile(
        c: usize,
        place: Place,
        x: &[Elem],
        affine: LayerNormAffine<'_>,
        eps: Elem,
        y: DisjointMut<'_>,
        stats: LayerNormStatsMut<'_>,
    ) {
        let width = stats.mean.len();
        let row = |i: usize| &x[place.at + i * place.pixels..][..width];
        let LayerNormStatsMut { mean, rstd } = stats;
        let mut sums = [0.0; TILE];
        for i in 0..c {
            for (s, x) in sums.iter_mut().zip(row(i)) {
                *s += *x;
            }
        }
        for (m, s) in mean.iter_mut().zip(&sums) {
            *m = *s / c as Elem;
        }
        sums = [0.0; TILE];
        for i in 0..c {
            for ((s, x), m) in sums.iter_mut().zip(row(i)).zip(&*mean) {
                *s += (*x - *m) * (*x - *m);
            }
        }
        for (r, s) in rstd.iter_mut().zip(&sums) {
            *r = 1.0 / (*s / c as Elem + eps).sqrt();
        }
        for i in 0..c {
            let (g, b) = (affine.gamma.map_or(1.0, |g| g[i]), affine.beta.map_or(0.0, |b| b[i]));
            // SAFETY: the caller has these pixels for itself.
            let y = unsafe { y.slice(place.at + i * place.pixels, width) };
            for (((y, x), m), r) in y.iter_mut().zip(row(i)).zip(&*mean).zip(&*rstd) {
                *y = (*x - *m) * *r * g + b;
            }
        }
    }
}

multiversion! {
    /// `part` gathers the gradients of gamma, then of beta.
    fn backward_tile(
        place: Place,
        x: &[Elem],
        gamma: Option<&[Elem]>,
        stats: LayerNormStats<'_>,
        dy: DisjointMut<'_>,
        part: &mut [Elem],
    ) {
        let (c, width) = (part.len() / 2, stats.mean.len());
        let (dgamma, dbeta) = part.split_at_mut(c);
        let row = |i: usize| &x[place.at + i * place.pixels..][..width];
        // SAFETY: the caller has these pixels for itself, and one row is in use at a time.
        let grads = |i: usize| unsafe { dy.slice(place.at + i * place.pixels, width) };
        // All of one length, so that the loops need not ask whether an element is there.
        let (mean, rstd) = (&stats.mean[..width], &stats.rstd[..width]);
        let (mut a, mut b) = ([0.0; TILE], [0.0; TILE]);
        let (a, b) = (&mut a[..width], &mut b[..width]);
        for i in 0..c {
            let g = gamma.map_or(1.0, |g| g[i]);
            let (mut all, mut all_x) = ([0.0; TILE], [0.0; TILE]);
            let (sum, sum_x) = (&mut all[..width], &mut all_x[..width]);
            let (x, dy) = (row(i), grads(i));
            for j in 0..width {
                let d = dy[j];
                let xhat = (x[j] - mean[j]) * rstd[j];
                sum[j] = d;
                sum_x[j] = d * xhat;
                a[j] += d * g;
                b[j] += d * g * xhat;
            }
            dgamma[i] += Lanes(all_x).sum();
            dbeta[i] += Lanes(all).sum();
        }
        for i in 0..c {
            let g = gamma.map_or(1.0, |g| g[i]);
            let (x, dy) = (row(i), grads(i));
            for j in 0..width {
                let xhat = (x[j] - mean[j]) * rstd[j];
                dy[j] = rstd[j] * (dy[j] * g - a[j] / c as Elem - xhat * (b[j] / c as Elem));
            }
        }
    }
}
