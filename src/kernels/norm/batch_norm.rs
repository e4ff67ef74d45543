//! Batch normalisation, with the residual addition and the ReLU that follow it.
//!
//! One task a channel: its planes are read from memory once and come from the cache in the later walks.
#![allow(unsafe_code)]

use super::channel::{apply, center_squares, gather, gather_own, input_grad, scatter, sum_grads, sums};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::par;
use crate::kernels::scratch::Scratch;

/// Planes of fewer elements are gathered before they are walked: 64 elements are four cache lines, and shorter pieces
/// far apart are hardly prefetched.
const SMALL_PLANE: usize = 64;

/// The shape of a batch-normalised tensor: [n, c, inner], inner = height times width (1 for features).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BnShape {
    /// Samples.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Elements of a channel in one sample.
    pub inner: usize,
}

impl BnShape {
    fn len(&self) -> usize {
        self.n * self.c * self.inner
    }

    /// Elements that share one mean.
    pub fn count(&self) -> usize {
        self.n * self.inner
    }

    /// Whether a channel lies in many small pieces.
    fn is_scattered(&self) -> bool {
        self.n > 1 && (1..SMALL_PLANE).contains(&self.inner)
    }

    /// One of the channels, its planes gathered side by side.
    fn gathered(&self) -> Self {
        Self { n: 1, c: 1, inner: self.count() }
    }

    /// Where the planes of channel `c` start.
    pub(super) fn planes(&self, c: usize) -> impl Iterator<Item = usize> + use<> {
        let s = *self;
        (0..s.n).map(move |n| (n * s.c + c) * s.inner)
    }
}

/// The mean and the biased variance of each channel, of a batch or running.
#[derive(Debug, Clone, Copy)]
pub struct Moments<'a> {
    /// One mean a channel.
    pub mean: &'a [Elem],
    /// One variance a channel.
    pub var: &'a [Elem],
}

/// [`Moments`] that a kernel computes.
#[derive(Debug)]
pub struct MomentsMut<'a> {
    /// One mean a channel.
    pub mean: &'a mut [Elem],
    /// One variance a channel.
    pub var: &'a mut [Elem],
}

/// What happens to normalised values: `* gamma + beta`, one number a channel each, 1 and 0 where there are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct BnAffine<'a> {
    /// The factors.
    pub gamma: Option<&'a [Elem]>,
    /// What is added.
    pub beta: Option<&'a [Elem]>,
    /// Added to the variance, against division by zero.
    pub eps: Elem,
}

/// What follows the normalisation in the same walk.
#[derive(Debug, Clone, Copy, Default)]
pub struct BnEpilogue<'a> {
    /// Added first; of the shape of the input.
    pub residual: Option<&'a [Elem]>,
    /// The most that a ReLU at the end lets through: infinity, or 6 of a ReLU6; none is there if absent.
    pub relu: Option<Elem>,
}

/// What the backward pass needs from the forward pass.
#[derive(Debug, Clone, Copy)]
pub struct BnSaved<'a> {
    /// The input.
    pub x: &'a [Elem],
    /// The output if the forward pass had the ReLU, and the most that it let through: where the output is not between 0
    /// and that, no gradient passes.
    pub y: Option<(&'a [Elem], Elem)>,
    /// The factors, if there were any.
    pub gamma: Option<&'a [Elem]>,
    /// The mean and variance that were used.
    pub moments: Moments<'a>,
    /// What was added to the variance.
    pub eps: Elem,
}

/// The gradients of a batch norm.
#[derive(Debug)]
pub struct BnGrads<'a> {
    /// The gradient of the output on entry, of the input on return.
    pub dy: &'a mut [Elem],
    /// Overwritten: the sum of dy * xhat of each channel.
    pub dgamma: &'a mut [Elem],
    /// Overwritten: the sum of dy of each channel.
    pub dbeta: &'a mut [Elem],
    /// Overwritten where the forward pass had a residual: `dy` as the ReLU lets it pass.
    pub dresidual: Option<&'a mut [Elem]>,
}

/// The mean and biased variance of a channel; 0 and 0 for an empty one.
fn moments(s: BnShape, c: usize, x: &[Elem]) -> (Elem, Elem) {
    if s.is_scattered() {
        return moments(s.gathered(), 0, &gather(s, c, x));
    }
    let count = s.count().max(1) as f64;
    let mean = (sums(s, c, x) / count) as Elem;
    (mean, (center_squares(s, c, x, mean) / count) as Elem)
}

/// What happens to one channel: `(x - mean) * scale + shift`.
#[derive(Clone, Copy)]
pub(super) struct ChannelMap {
    pub mean: Elem,
    pub scale: Elem,
    pub shift: Elem,
}

impl BnAffine<'_> {
    fn of_channel(&self, c: usize, mean: Elem, var: Elem) -> ChannelMap {
        let scale = self.gamma.map_or(1.0, |g| g[c]) / (var + self.eps).sqrt();
        ChannelMap { mean, scale, shift: self.beta.map_or(0.0, |b| b[c]) }
    }
}

fn check_forward(s: BnShape, x: &[Elem], epilogue: BnEpilogue<'_>, y: &[Elem], moments: Moments<'_>) {
    assert!(x.len() == s.len() && y.len() == s.len(), "slices do not fit {s:?}");
    assert!(moments.mean.len() == s.c && moments.var.len() == s.c, "moments do not fit {s:?}");
    assert!(epilogue.residual.is_none_or(|r| r.len() == s.len()), "the residual does not fit {s:?}");
}

/// `y = relu?((x - mean) / sqrt(var + eps) * gamma + beta + residual)` with given, that is running, moments.
pub fn bn_apply(
    s: BnShape,
    x: &[Elem],
    moments: Moments<'_>,
    affine: BnAffine<'_>,
    epilogue: BnEpilogue<'_>,
    y: &mut [Elem],
) {
    check_forward(s, x, epilogue, y, moments);
    let y = DisjointMut::from(y);
    par::count(s.c, s.len(), |c| {
        apply(s, c, affine.of_channel(c, moments.mean[c], moments.var[c]), x, epilogue, y);
    });
}

/// [`bn_apply`] with the moments of the batch: the training forward pass. `moments` are results, kept for the
/// backward pass and the running statistics. An empty channel has mean and variance 0.
pub fn bn_train(
    s: BnShape,
    x: &[Elem],
    affine: BnAffine<'_>,
    epilogue: BnEpilogue<'_>,
    y: &mut [Elem],
    moments: MomentsMut<'_>,
) {
    check_forward(s, x, epilogue, y, Moments { mean: moments.mean, var: moments.var });
    let (y, mean, var) =
        (DisjointMut::from(y), DisjointMut::from(moments.mean), DisjointMut::from(moments.var));
    let set_moments = |c: usize, x: &[Elem], s: BnShape, at: usize| {
        let (m, v) = self::moments(s, at, x);
        // SAFETY: each task writes its own channel.
        unsafe { (mean.slice(c, 1)[0], var.slice(c, 1)[0]) = (m, v) }
        affine.of_channel(c, m, v)
    };
    par::count(s.c, s.len(), |c| {
        if !s.is_scattered() {
            let map = set_moments(c, x, s, c);
            return apply(s, c, map, x, epilogue, y);
        }
        let (x, residual) = (gather(s, c, x), epilogue.residual.map(|r| gather(s, c, r)));
        let mut local_y = Scratch::take(s.count());
        let map = set_moments(c, &x, s.gathered(), 0);
        let epilogue = BnEpilogue { residual: residual.as_deref(), ..epilogue };
        apply(s.gathered(), 0, map, &x, epilogue, DisjointMut::from(&mut local_y[..]));
        scatter(s, c, &local_y, y);
    });
}

/// How many values share a mean, and of each channel their sum and the sum of their squares: what several processes add
/// up to the moments of all their batches, in double precision so that a large mean does not cancel.
pub fn bn_sums(s: BnShape, x: &[Elem]) -> Vec<f64> {
    assert!(x.len() == s.len(), "slices do not fit {s:?}");
    let count = s.count() as f64;
    let mut all = vec![count; 1 + 2 * s.c];
    for c in 0..s.c {
        let sum = sums(s, c, x);
        let mean = (sum / count.max(1.0)) as Elem;
        let centred = center_squares(s, c, x, mean);
        let mean = f64::from(mean);
        (all[1 + c], all[1 + s.c + c]) = (sum, centred + mean * (2.0 * sum - count * mean));
    }
    all
}

/// The moments of [`bn_sums`], which may be those of several processes.
pub fn bn_moments(sums: &[f64], moments: MomentsMut<'_>) {
    let (count, c) = (sums[0].max(1.0), moments.mean.len());
    for k in 0..c {
        let mean = sums[1 + k] / count;
        moments.mean[k] = mean as Elem;
        moments.var[k] = (sums[1 + c + k] / count - mean * mean).max(0.0) as Elem;
    }
}

/// Turns the gradient of [`bn_apply`] into that of [`bn_train`]: takes off what comes through the moments of `count`
/// values, with `dgamma` and `dbeta` summed over all of them.
pub fn bn_through_moments(
    s: BnShape,
    saved: BnSaved<'_>,
    (dgamma, dbeta): (&[f64], &[f64]),
    count: f64,
    dx: &mut [Elem],
) {
    for c in 0..s.c {
        let (mean, var) = (saved.moments.mean[c], saved.moments.var[c] + saved.eps);
        let rstd = 1.0 / f64::from(var).sqrt();
        let scale = saved.gamma.map_or(1.0, |g| f64::from(g[c])) * rstd / count;
        let (offset, slope) = ((scale * dbeta[c]) as Elem, (scale * rstd * dgamma[c]) as Elem);
        for at in s.planes(c) {
            let plane = dx[at..at + s.inner].iter_mut().zip(&saved.x[at..at + s.inner]);
            plane.for_each(|(dx, x)| *dx -= offset + (x - mean) * slope);
        }
    }
}

/// The gradient of one channel: `scale * (dy - offset - (x - mean) * slope)`.
#[derive(Clone, Copy)]
pub(super) struct ChannelGrad {
    pub scale: Elem,
    pub mean: Elem,
    pub offset: Elem,
    pub slope: Elem,
}

/// The backward pass of [`bn_train`].
pub fn bn_backward(s: BnShape, saved: BnSaved<'_>, grads: BnGrads<'_>) {
    backward(s, saved, grads, true);
}

/// The backward pass of [`bn_apply`]: the moments are constants.
pub fn bn_eval_backward(s: BnShape, saved: BnSaved<'_>, grads: BnGrads<'_>) {
    backward(s, saved, grads, false);
}

/// Sums and gradient, channel by channel; with `of_batch` the moments depend on `x`.
fn backward(s: BnShape, saved: BnSaved<'_>, grads: BnGrads<'_>, of_batch: bool) {
    check_backward(s, &saved, &grads);
    let (dy, dgamma, dbeta) =
        (DisjointMut::from(grads.dy), DisjointMut::from(grads.dgamma), DisjointMut::from(grads.dbeta));
    let dresidual = grads.dresidual.map(DisjointMut::from);
    // Sums and gradient of channel `c`, which is channel `at` of the shape `s` of `x`, `y` and the planes of gradients.
    let channel =
        |c: usize, (s, at): (BnShape, usize), x: &[Elem], y: Option<(&[Elem], Elem)>, planes: Planes<'_>| {
            let (mean, var) = (saved.moments.mean[c], saved.moments.var[c] + saved.eps);
            let (sum, sum_x) = sum_grads(s, at, x, y, mean, planes);
            let (sum, sum_xhat) = (sum as Elem, (sum_x / (var as f64).sqrt()) as Elem);
            // SAFETY: each task writes its own channel.
            unsafe { (dgamma.slice(c, 1)[0], dbeta.slice(c, 1)[0]) = (sum_xhat, sum) }
            let (rstd, count) = (1.0 / var.sqrt(), s.count().max(1) as Elem);
            let (dgamma, dbeta) = if of_batch { (sum_xhat, sum) } else { (0.0, 0.0) };
            let grad = ChannelGrad {
                scale: saved.gamma.map_or(1.0, |g| g[c]) * rstd,
                mean,
                offset: dbeta / count,
                slope: rstd * dgamma / count,
            };
            input_grad(s, at, grad, x, planes);
        };
    par::count(s.c, s.len(), |c| {
        if !s.is_scattered() {
            return channel(c, (s, c), saved.x, saved.y, Planes { dy, masked: dresidual });
        }
        let (x, y) = (gather(s, c, saved.x), saved.y.map(|(y, most)| (gather(s, c, y), most)));
        let mut local_dy = gather_own(s, c, dy);
        let mut masked = Scratch::take(if dresidual.is_some() { s.count() } else { 0 });
        let planes = Planes {
            dy: DisjointMut::from(&mut local_dy[..]),
            masked: dresidual.map(|_| DisjointMut::from(&mut masked[..])),
        };
        channel(c, (s.gathered(), 0), &x, y.as_ref().map(|(y, most)| (&y[..], *most)), planes);
        scatter(s, c, &local_dy, dy);
        if let Some(dr) = dresidual {
            scatter(s, c, &masked, dr);
        }
    });
}

/// The gradients that a channel's walks read and write.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    /// The gradient of the output, which becomes that of the input.
    pub dy: DisjointMut<'a>,
    /// Where `dy` goes as the ReLU lets it pass, if the residual wants it; else it stays in `dy`.
    pub masked: Option<DisjointMut<'a>>,
}

fn check_backward(s: BnShape, saved: &BnSaved<'_>, grads: &BnGrads<'_>) {
    assert!(
        saved.x.len() == s.len()
            && grads.dy.len() == s.len()
            && saved.y.is_none_or(|(y, _)| y.len() == s.len()),
        "slices do not fit {s:?}"
    );
    assert!(saved.moments.mean.len() == s.c && saved.moments.var.len() == s.c, "moments do not fit {s:?}");
    assert!(grads.dgamma.len() == s.c && grads.dbeta.len() == s.c, "gradients do not fit {s:?}");
    assert!(grads.dresidual.as_ref().is_none_or(|r| r.len() == s.len()), "the residual does not fit {s:?}");
}
