//! Batch normalisation, with the residual addition and the ReLU that follow it.
//!
//! One task a channel: its planes are read from memory once and come from the cache in the later walks.
#![allow(unsafe_code)]

use super::channel::{apply, center_squares, gather, gather_own, input_grad, scatter, sum_grads, sums};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::number::{Number, Numbers, NumbersMut};
use crate::kernels::par;
use crate::kernels::scratch::Scratch;

/// Planes of fewer elements are gathered before they are walked: 64 elements are four cache lines, and shorter pieces
/// far apart are hardly prefetched.
const SMALL_PLANE: usize = 64;

/// Elements of a plane that are asked for ahead, at most: those of four tensors in f32 take 16 KiB of a first-level
/// cache.
const ASKED: usize = 1024;

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

    /// The plane of the same channel in the sample behind, of which a first walk asks for [`ahead`](Self::ahead)
    /// elements. Behind the last sample there is none, which asking does not mind.
    pub(super) fn next<X>(&self, x: *const X, at: usize) -> *const X {
        x.wrapping_add(at + self.c * self.inner)
    }

    /// Planes lie far apart, and a processor does not foresee one before it is well within it. Scattered ones are too
    /// many for it.
    pub(super) fn ahead(&self) -> usize {
        if self.n == 1 || self.is_scattered() { 0 } else { self.inner.min(ASKED) }
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
    /// Added first; of the shape of the input, and stored as that is.
    pub residual: Option<Numbers<'a>>,
    /// The most that a ReLU at the end lets through: infinity, or 6 of a ReLU6; none is there if absent.
    pub relu: Option<Elem>,
}

/// What the backward pass needs from the forward pass.
#[derive(Debug, Clone, Copy)]
pub struct BnSaved<'a> {
    /// The input.
    pub x: Numbers<'a>,
    /// The output if the forward pass had the ReLU, and the most that it let through: where the output is not between 0
    /// and that, no gradient passes.
    pub y: Option<(Numbers<'a>, Elem)>,
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
    /// The gradient of the output on entry, of the input on return; stored as that is.
    pub dy: NumbersMut<'a>,
    /// Overwritten: the sum of dy * xhat of each channel.
    pub dgamma: &'a mut [Elem],
    /// Overwritten: the sum of dy of each channel.
    pub dbeta: &'a mut [Elem],
    /// Overwritten where the forward pass had a residual: `dy` as the ReLU lets it pass.
    pub dresidual: Option<NumbersMut<'a>>,
}

/// The mean and biased variance of a channel; 0 and 0 for an empty one.
fn moments<X: Number>(s: BnShape, c: usize, x: &[X]) -> (Elem, Elem) {
    if s.is_scattered() {
        return moments(s.gathered(), 0, &gather(s, c, x)[..]);
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

fn check_forward(s: BnShape, x: usize, epilogue: BnEpilogue<'_>, y: usize, moments: Moments<'_>) {
    assert!(x == s.len() && y == s.len(), "slices do not fit {s:?}");
    assert!(moments.mean.len() == s.c && moments.var.len() == s.c, "moments do not fit {s:?}");
    assert!(epilogue.residual.is_none_or(|r| r.len() == s.len()), "the residual does not fit {s:?}");
}

/// `y = relu?((x - mean) / sqrt(var + eps) * gamma + beta + residual)` with given, that is running, moments. `y` is
/// stored as `x` is.
pub fn bn_apply<'a>(
    s: BnShape,
    x: impl Into<Numbers<'a>>,
    moments: Moments<'_>,
    affine: BnAffine<'_>,
    epilogue: BnEpilogue<'_>,
    y: impl Into<NumbersMut<'a>>,
) {
    let x = x.into();
    match y.into() {
        NumbersMut::Full(y) => apply_all(s, x, moments, affine, epilogue, y),
        NumbersMut::Half(y) => apply_all(s, x, moments, affine, epilogue, y),
    }
}

fn apply_all<X: Number>(
    s: BnShape,
    x: Numbers<'_>,
    moments: Moments<'_>,
    affine: BnAffine<'_>,
    epilogue: BnEpilogue<'_>,
    y: &mut [X],
) {
    check_forward(s, x.len(), epilogue, y.len(), moments);
    let (x, residual, y) = (X::all(x), epilogue.residual.map(X::all), DisjointMut::from(y));
    par::count(s.c, s.len(), |c| {
        apply(s, c, affine.of_channel(c, moments.mean[c], moments.var[c]), x, residual, epilogue.relu, y);
    });
}

/// [`bn_apply`] with the moments of the batch: the training forward pass. `moments` are results, kept for the
/// backward pass and the running statistics. An empty channel has mean and variance 0.
pub fn bn_train<'a>(
    s: BnShape,
    x: impl Into<Numbers<'a>>,
    affine: BnAffine<'_>,
    epilogue: BnEpilogue<'_>,
    y: impl Into<NumbersMut<'a>>,
    moments: MomentsMut<'_>,
) {
    let x = x.into();
    match y.into() {
        NumbersMut::Full(y) => train(s, x, affine, epilogue, y, moments),
        NumbersMut::Half(y) => train(s, x, affine, epilogue, y, moments),
    }
}

fn train<X: Number>(
    s: BnShape,
    x: Numbers<'_>,
    affine: BnAffine<'_>,
    epilogue: BnEpilogue<'_>,
    y: &mut [X],
    moments: MomentsMut<'_>,
) {
    check_forward(s, x.len(), epilogue, y.len(), Moments { mean: moments.mean, var: moments.var });
    let (x, residual, relu) = (X::all(x), epilogue.residual.map(X::all), epilogue.relu);
    let (y, mean, var) =
        (DisjointMut::from(y), DisjointMut::from(moments.mean), DisjointMut::from(moments.var));
    let map = |c: usize, (m, v): (Elem, Elem)| {
        // SAFETY: each task writes its own channel.
        unsafe { (mean.slice(c, 1)[0], var.slice(c, 1)[0]) = (m, v) }
        affine.of_channel(c, m, v)
    };
    par::count(s.c, s.len(), |c| {
        if !s.is_scattered() {
            let map = map(c, self::moments(s, c, x));
            return apply(s, c, map, x, residual, relu, y);
        }
        let (x, residual) = (gather(s, c, x), residual.map(|r| gather(s, c, r)));
        let mut local_y = Scratch::take(s.count());
        let (s, all) = (s.gathered(), s);
        let map = map(c, self::moments(s, 0, &x[..]));
        apply(s, 0, map, &x[..], residual.as_deref(), relu, DisjointMut::from(&mut local_y[..]));
        scatter(all, c, &local_y, y);
    });
}

/// How many values share a mean, and of each channel their sum and the sum of their squares: what several processes add
/// up to the moments of all their batches, in double precision so that a large mean does not cancel.
pub fn bn_sums<'a>(s: BnShape, x: impl Into<Numbers<'a>>) -> Vec<f64> {
    match x.into() {
        Numbers::Full(x) => sums_of(s, x),
        Numbers::Half(x) => sums_of(s, x),
    }
}

fn sums_of<X: Number>(s: BnShape, x: &[X]) -> Vec<f64> {
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
    dx: NumbersMut<'_>,
) {
    match dx {
        NumbersMut::Full(dx) => through_moments(s, saved, (dgamma, dbeta), count, dx),
        NumbersMut::Half(dx) => through_moments(s, saved, (dgamma, dbeta), count, dx),
    }
}

fn through_moments<X: Number>(
    s: BnShape,
    saved: BnSaved<'_>,
    (dgamma, dbeta): (&[f64], &[f64]),
    count: f64,
    dx: &mut [X],
) {
    let x = X::all(saved.x);
    for c in 0..s.c {
        let (mean, var) = (saved.moments.mean[c], saved.moments.var[c] + saved.eps);
        let rstd = 1.0 / f64::from(var).sqrt();
        let scale = saved.gamma.map_or(1.0, |g| f64::from(g[c])) * rstd / count;
        let (offset, slope) = ((scale * dbeta[c]) as Elem, (scale * rstd * dgamma[c]) as Elem);
        for at in s.planes(c) {
            let plane = dx[at..at + s.inner].iter_mut().zip(&x[at..at + s.inner]);
            plane.for_each(|(dx, x)| *dx = X::of(dx.wide() - (offset + (x.wide() - mean) * slope)));
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
    match saved.x {
        Numbers::Full(x) => backward_of(s, x, saved, grads, of_batch),
        Numbers::Half(x) => backward_of(s, x, saved, grads, of_batch),
    }
}

fn backward_of<X: Number>(s: BnShape, x: &[X], saved: BnSaved<'_>, grads: BnGrads<'_>, of_batch: bool) {
    let y = saved.y.map(|(y, most)| (X::all(y), most));
    let (dy, dgamma, dbeta) = (
        DisjointMut::from(X::all_mut(grads.dy)),
        DisjointMut::from(grads.dgamma),
        DisjointMut::from(grads.dbeta),
    );
    let dresidual = grads.dresidual.map(|d| DisjointMut::from(X::all_mut(d)));
    // What is done with the gradient of channel `c`, whose sums are these.
    let grad = |c: usize, mean: Elem, (sum, sum_x): (f64, f64)| {
        let var = saved.moments.var[c] + saved.eps;
        let (sum, sum_xhat) = (sum as Elem, (sum_x / (var as f64).sqrt()) as Elem);
        // SAFETY: each task writes its own channel.
        unsafe { (dgamma.slice(c, 1)[0], dbeta.slice(c, 1)[0]) = (sum_xhat, sum) }
        let (rstd, count) = (1.0 / var.sqrt(), s.count().max(1) as Elem);
        let (dgamma, dbeta) = if of_batch { (sum_xhat, sum) } else { (0.0, 0.0) };
        ChannelGrad {
            scale: saved.gamma.map_or(1.0, |g| g[c]) * rstd,
            mean,
            offset: dbeta / count,
            slope: rstd * dgamma / count,
        }
    };
    par::count(s.c, s.len(), |c| {
        let mean = saved.moments.mean[c];
        if !s.is_scattered() {
            let planes = Planes { dy, masked: dresidual };
            let grad = grad(c, mean, sum_grads(s, c, x, y, mean, planes));
            return input_grad(s, c, grad, x, planes);
        }
        let (x, y) = (gather(s, c, x), y.map(|(y, most)| (gather(s, c, y), most)));
        let mut local_dy = gather_own(s, c, dy);
        let mut masked = Scratch::take(if dresidual.is_some() { s.count() } else { 0 });
        let planes = Planes {
            dy: DisjointMut::from(&mut local_dy[..]),
            masked: dresidual.map(|_| DisjointMut::from(&mut masked[..])),
        };
        let y = y.as_ref().map(|(y, most)| (&y[..], *most));
        let grad = grad(c, mean, sum_grads(s.gathered(), 0, &x[..], y, mean, planes));
        input_grad(s.gathered(), 0, grad, &x[..], planes);
        scatter(s, c, &local_dy, dy);
        if let Some(dr) = dresidual {
            scatter(s, c, &masked, dr);
        }
    });
}

/// The gradients that a channel's walks read and write.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a, X = Elem> {
    /// The gradient of the output, which becomes that of the input.
    pub dy: DisjointMut<'a, X>,
    /// Where `dy` goes as the ReLU lets it pass, if the residual wants it; else it stays in `dy`.
    pub masked: Option<DisjointMut<'a, X>>,
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
