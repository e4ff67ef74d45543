//! Group normalisation: the channels of a group in one sample share mean and variance. With a channel a group it is
//! instance normalisation.
//!
//! A group lies in one piece, so its sums are those of a batch norm's channel that has one plane (`channel`).
#![allow(unsafe_code)]

use super::batch_norm::{BnShape, ChannelMap, Planes};
use super::channel::{apply, center_squares, sum_grads, sums};
use super::layer_norm::{LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::isa::multiversion;
use crate::kernels::par;
use crate::kernels::scratch::Scratch;

/// The shape of a group-normalised tensor: [n, c, inner], the channels in `groups` groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupNormShape {
    /// Samples.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Groups, which divide the channels.
    pub groups: usize,
    /// Elements of a channel in one sample.
    pub inner: usize,
}

impl GroupNormShape {
    fn len(&self) -> usize {
        self.n * self.c * self.inner
    }

    /// Means and variances: one a sample and group.
    pub fn rows(&self) -> usize {
        self.n * self.groups
    }

    fn channels(&self) -> usize {
        self.c / self.groups
    }

    /// Elements that share one mean.
    pub fn count(&self) -> usize {
        self.channels() * self.inner
    }

    /// The groups as channels of one sample.
    fn as_groups(&self) -> BnShape {
        BnShape { n: 1, c: self.rows(), inner: self.count() }
    }

    /// The channels of all samples as channels of one.
    fn as_channels(&self) -> BnShape {
        BnShape { n: 1, c: self.n * self.c, inner: self.inner }
    }
}

/// `y = (x - mean) / sqrt(var + eps) * gamma + beta` with the mean and the biased variance of each group, and one gamma
/// and beta a channel. `stats` are results, kept for the backward pass.
pub fn group_norm(
    s: GroupNormShape,
    x: &[Elem],
    affine: LayerNormAffine<'_>,
    eps: Elem,
    y: &mut [Elem],
    stats: LayerNormStatsMut<'_>,
) {
    assert!(x.len() == s.len() && y.len() == s.len(), "slices do not fit {s:?}");
    assert!(stats.mean.len() == s.rows() && stats.rstd.len() == s.rows(), "statistics do not fit {s:?}");
    let [y, mean, rstd] = [y, stats.mean, stats.rstd].map(DisjointMut::from);
    let count = s.count().max(1) as f64;
    par::count(s.rows(), s.len(), |row| {
        let m = (sums(s.as_groups(), row, x) / count) as Elem;
        let var = center_squares(s.as_groups(), row, x, m) / count;
        let r = 1.0 / (var as Elem + eps).sqrt();
        // SAFETY: each task writes its own group.
        unsafe { (mean.slice(row, 1)[0], rstd.slice(row, 1)[0]) = (m, r) }
        for i in 0..s.channels() {
            let plane = row * s.channels() + i;
            let c = plane % s.c;
            let map = ChannelMap {
                mean: m,
                scale: r * affine.gamma.map_or(1.0, |g| g[c]),
                shift: affine.beta.map_or(0.0, |b| b[c]),
            };
            apply(s.as_channels(), plane, map, x, None, None, y);
        }
    });
}

multiversion! {
    /// `dy = scale * dy - offset - (x - mean) * slope`.
    fn input_grad(scale: Elem, offset: Elem, slope: Elem, mean: Elem, x: &[Elem], dy: &mut [Elem]) {
        for (d, x) in dy.iter_mut().zip(x) {
            *d = scale * *d - offset - (*x - mean) * slope;
        }
    }
}

/// The backward pass of [`group_norm`].
pub fn group_norm_backward(
    s: GroupNormShape,
    x: &[Elem],
    gamma: Option<&[Elem]>,
    stats: LayerNormStats<'_>,
    grads: LayerNormGrads<'_>,
) {
    let LayerNormGrads { dy, dgamma, dbeta } = grads;
    assert!(x.len() == s.len() && dy.len() == s.len(), "slices do not fit {s:?}");
    assert!(stats.mean.len() == s.rows() && stats.rstd.len() == s.rows(), "statistics do not fit {s:?}");
    assert!(dgamma.len() == s.c && dbeta.len() == s.c && gamma.is_none_or(|g| g.len() == s.c));
    // Of each channel of each sample: the sums of dy and of dy times the normalised values.
    let mut partials = Scratch::take(2 * s.n * s.c);
    let (dy, sums) = (DisjointMut::from(dy), DisjointMut::from(&mut partials[..]));
    let count = s.count().max(1) as Elem;
    par::count(s.rows(), s.len(), |row| {
        let (mean, rstd, first) = (stats.mean[row], stats.rstd[row], row * s.channels());
        // SAFETY: each task has the sums of its own group.
        let sums = unsafe { sums.slice(2 * first, 2 * s.channels()) };
        let factor = |i: usize| gamma.map_or(1.0, |g| g[(first + i) % s.c]);
        let (mut a, mut b) = (0.0, 0.0);
        for (i, sums) in sums.chunks_exact_mut(2).enumerate() {
            let planes = Planes { dy, masked: None };
            let (sum, sum_x) =
                sum_grads(s.as_channels(), first + i, x, None::<(&[Elem], Elem)>, mean, planes);
            (sums[0], sums[1]) = (sum as Elem, (sum_x * rstd as f64) as Elem);
            a += factor(i) * sums[0];
            b += factor(i) * sums[1];
        }
        let (offset, slope) = (rstd * a / count, rstd * rstd * b / count);
        for i in 0..s.channels() {
            let at = (first + i) * s.inner;
            // SAFETY: each task has its own group.
            let dy = unsafe { dy.slice(at, s.inner) };
            input_grad(rstd * factor(i), offset, slope, mean, &x[at..][..s.inner], dy);
        }
    });
    for c in 0..s.c {
        let sum = |which: usize| (0..s.n).map(|n| partials[2 * (n * s.c + c) + which] as f64).sum::<f64>();
        (dbeta[c], dgamma[c]) = (sum(0) as Elem, sum(1) as Elem);
    }
}
