//! Batch normalisation, with the ReLU and the residual addition that follow it.
//!
//! One task a channel: its planes are read from memory once and come from the cache in the later walks.
#![allow(unsafe_code)]

use super::norm_rows::{apply, backward, center_squares, gather, gather_own, scatter, sum_grads, sums};
use super::scratch::Scratch;
use super::tile::Out;
use super::{Elem, par};

/// Planes of fewer elements are gathered before they are walked.
const SMALL: usize = 64;

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
    pub(super) fn len(&self) -> usize {
        self.n * self.c * self.inner
    }

    /// Elements that share one mean.
    pub fn count(&self) -> usize {
        self.n * self.inner
    }

    /// Whether a channel lies in many small pieces.
    fn scattered(&self) -> bool {
        self.n > 1 && (1..SMALL).contains(&self.inner)
    }

    /// One of the channels, its planes side by side.
    fn alone(&self) -> Self {
        Self { n: 1, c: 1, inner: self.count() }
    }

    /// Where the planes of channel `c` start.
    pub(super) fn planes(&self, c: usize) -> impl Iterator<Item = usize> + use<> {
        let s = *self;
        (0..s.n).map(move |n| (n * s.c + c) * s.inner)
    }
}

/// `mean` and biased variance `var` of each channel; two passes, so that a large mean does not cancel. An empty
/// channel has mean and variance 0.
pub fn bn_stats(s: BnShape, x: &[Elem], mean: &mut [Elem], var: &mut [Elem]) {
    assert!(x.len() == s.len() && mean.len() == s.c && var.len() == s.c, "slices do not fit {s:?}");
    let (mean, var) = (Out::from(mean), Out::from(var));
    par::count(s.c, s.len(), |c| {
        let (m, v) = stats(s, c, x);
        // SAFETY: each task writes its own channel.
        unsafe { (mean.slice(c, 1)[0], var.slice(c, 1)[0]) = (m, v) }
    });
}

fn stats(s: BnShape, c: usize, x: &[Elem]) -> (Elem, Elem) {
    if s.scattered() {
        return stats(s.alone(), 0, &gather(s, c, x));
    }
    let count = s.count().max(1) as f64;
    let mean = (sums(s, c, x) / count) as Elem;
    (mean, (center_squares(s, c, x, mean) / count) as Elem)
}

/// What happens to one channel: `(x - mean) * scale + shift`.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub mean: Elem,
    pub scale: Elem,
    pub shift: Elem,
}

/// The numbers of a call that are the same for all channels.
#[derive(Clone, Copy)]
struct Affines<'a> {
    eps: Elem,
    gamma: Option<&'a [Elem]>,
    beta: Option<&'a [Elem]>,
}

impl Affines<'_> {
    fn of(&self, c: usize, mean: Elem, var: Elem) -> Affine {
        let scale = self.gamma.map_or(1.0, |g| g[c]) / (var + self.eps).sqrt();
        Affine { mean, scale, shift: self.beta.map_or(0.0, |b| b[c]) }
    }
}

/// `y = relu?((x - mean) / sqrt(var + eps) * gamma + beta + residual)`, with the batch's or the running statistics.
/// `gamma` and `beta` default to 1 and 0.
pub fn bn_apply(
    s: BnShape,
    x: &[Elem],
    mean: &[Elem],
    var: &[Elem],
    eps: Elem,
    gamma: Option<&[Elem]>,
    beta: Option<&[Elem]>,
    residual: Option<&[Elem]>,
    relu: bool,
    y: &mut [Elem],
) {
    assert!(
        x.len() == s.len() && y.len() == s.len() && mean.len() == s.c && var.len() == s.c,
        "slices do not fit {s:?}"
    );
    assert!(residual.is_none_or(|r| r.len() == s.len()), "the residual does not fit {s:?}");
    let (of, y) = (Affines { eps, gamma, beta }, Out::from(y));
    par::count(s.c, s.len(), |c| apply(s, c, of.of(c, mean[c], var[c]), x, residual, relu, y));
}

/// [`bn_stats`] and [`bn_apply`] in one walk over the channels, each staying in cache: the training forward pass.
/// `mean` and `var` (biased) are results, to be kept for the backward pass and the running statistics.
pub fn bn_train(
    s: BnShape,
    x: &[Elem],
    eps: Elem,
    gamma: Option<&[Elem]>,
    beta: Option<&[Elem]>,
    residual: Option<&[Elem]>,
    relu: bool,
    y: &mut [Elem],
    mean: &mut [Elem],
    var: &mut [Elem],
) {
    assert!(
        x.len() == s.len() && y.len() == s.len() && mean.len() == s.c && var.len() == s.c,
        "slices do not fit {s:?}"
    );
    assert!(residual.is_none_or(|r| r.len() == s.len()), "the residual does not fit {s:?}");
    let (of, y) = (Affines { eps, gamma, beta }, Out::from(y));
    let (mean, var) = (Out::from(mean), Out::from(var));
    // Statistics and output of a channel, wherever its planes lie.
    let channel = |c: usize, s: BnShape, at: usize, x: &[Elem], residual: Option<&[Elem]>, y: Out<'_>| {
        let (m, v) = stats(s, at, x);
        // SAFETY: each task writes its own channel.
        unsafe { (mean.slice(c, 1)[0], var.slice(c, 1)[0]) = (m, v) }
        apply(s, at, of.of(c, m, v), x, residual, relu, y);
    };
    par::count(s.c, s.len(), |c| {
        if !s.scattered() {
            return channel(c, s, c, x, residual, y);
        }
        let (near, residual) = (gather(s, c, x), residual.map(|r| gather(s, c, r)));
        let mut out = Scratch::take(s.count());
        channel(c, s.alone(), 0, &near, residual.as_deref(), Out::from(&mut out[..]));
        scatter(s, c, &out, y);
    });
}

/// The two sums of the backward pass: `dgamma = sum of dy * xhat`, `dbeta = sum of dy`, overwritten.
///
/// With `y` (the output, given if the forward pass had the ReLU) `dy` is first set to zero where `y` is not positive;
/// `dy` is then the residual's gradient.
pub fn bn_sum_grads(
    s: BnShape,
    x: &[Elem],
    y: Option<&[Elem]>,
    mean: &[Elem],
    var: &[Elem],
    eps: Elem,
    dy: &mut [Elem],
    dgamma: &mut [Elem],
    dbeta: &mut [Elem],
) {
    check_backward(s, x, y, dy, dgamma, dbeta);
    let (dy, dgamma, dbeta) = (Out::from(dy), Out::from(dgamma), Out::from(dbeta));
    par::count(s.c, s.len(), |c| {
        let (sum, sum_xhat) = if s.scattered() {
            let (near_x, near_y, mut near_dy) =
                (gather(s, c, x), y.map(|y| gather(s, c, y)), gather_own(s, c, dy));
            let to = Out::from(&mut near_dy[..]);
            let sums =
                channel_grads(s.alone(), 0, &near_x, near_y.as_deref(), mean[c], var[c] + eps, to, None);
            scatter(s, c, &near_dy, dy);
            sums
        } else {
            channel_grads(s, c, x, y, mean[c], var[c] + eps, dy, None)
        };
        // SAFETY: each task writes its own channel.
        unsafe { (dgamma.slice(c, 1)[0], dbeta.slice(c, 1)[0]) = (sum_xhat, sum) }
    });
}

fn check_backward(s: BnShape, x: &[Elem], y: Option<&[Elem]>, dy: &[Elem], dgamma: &[Elem], dbeta: &[Elem]) {
    assert!(
        x.len() == s.len() && dy.len() == s.len() && y.is_none_or(|y| y.len() == s.len()),
        "slices do not fit {s:?}"
    );
    assert!(dgamma.len() == s.c && dbeta.len() == s.c, "gradients do not fit {s:?}");
}

/// (sum of dy, sum of dy * xhat) of a channel, `dy` masked by `y`, in place or to `masked`.
fn channel_grads(
    s: BnShape,
    c: usize,
    x: &[Elem],
    y: Option<&[Elem]>,
    mean: Elem,
    var: Elem,
    dy: Out<'_>,
    masked: Option<Out<'_>>,
) -> (Elem, Elem) {
    let (sum, sum_x) = sum_grads(s, c, x, y, mean, dy, masked);
    (sum as Elem, (sum_x / (var as f64).sqrt()) as Elem)
}

/// `dy` becomes the gradient of `x` given the sums of [`bn_sum_grads`] over `count` elements a channel: all ranks' sums
/// and count for synchronised batch norm.
pub fn bn_backward_apply(
    s: BnShape,
    x: &[Elem],
    gamma: Option<&[Elem]>,
    mean: &[Elem],
    var: &[Elem],
    eps: Elem,
    count: usize,
    dgamma: &[Elem],
    dbeta: &[Elem],
    dy: &mut [Elem],
) {
    check_backward(s, x, None, dy, dgamma, dbeta);
    let dy = Out::from(dy);
    par::count(s.c, s.len(), |c| {
        let d = Slope::new(gamma.map_or(1.0, |g| g[c]), mean[c], var[c] + eps, count, dgamma[c], dbeta[c]);
        backward(s, c, d, x, dy, None);
    });
}

/// The gradient of one channel: `scale * (dy - offset - (x - mean) * slope)`.
#[derive(Clone, Copy)]
pub(super) struct Slope {
    pub scale: Elem,
    pub mean: Elem,
    pub offset: Elem,
    pub slope: Elem,
}

impl Slope {
    fn new(gamma: Elem, mean: Elem, var: Elem, count: usize, dgamma: Elem, dbeta: Elem) -> Self {
        let (rstd, count) = (1.0 / var.sqrt(), count.max(1) as Elem);
        Self { scale: gamma * rstd, mean, offset: dbeta / count, slope: rstd * dgamma / count }
    }
}

/// The whole backward pass of [`bn_train`]: `dy` becomes the gradient of `x`; `dgamma`, `dbeta` and `dresidual` (the
/// masked `dy`, where the forward pass had a residual) are overwritten. `y` as in [`bn_sum_grads`].
pub fn bn_backward(
    s: BnShape,
    x: &[Elem],
    y: Option<&[Elem]>,
    gamma: Option<&[Elem]>,
    mean: &[Elem],
    var: &[Elem],
    eps: Elem,
    dy: &mut [Elem],
    dgamma: &mut [Elem],
    dbeta: &mut [Elem],
    dresidual: Option<&mut [Elem]>,
) {
    both(s, x, y, gamma, mean, var, eps, dy, dgamma, dbeta, dresidual, true);
}

/// The backward pass of [`bn_apply`] with constant (running) statistics; arguments as in [`bn_backward`].
pub fn bn_eval_backward(
    s: BnShape,
    x: &[Elem],
    y: Option<&[Elem]>,
    gamma: Option<&[Elem]>,
    mean: &[Elem],
    var: &[Elem],
    eps: Elem,
    dy: &mut [Elem],
    dgamma: &mut [Elem],
    dbeta: &mut [Elem],
    dresidual: Option<&mut [Elem]>,
) {
    both(s, x, y, gamma, mean, var, eps, dy, dgamma, dbeta, dresidual, false);
}

/// Sums and gradient, channel by channel; the statistics depend on `x` or not.
fn both(
    s: BnShape,
    x: &[Elem],
    y: Option<&[Elem]>,
    gamma: Option<&[Elem]>,
    mean: &[Elem],
    var: &[Elem],
    eps: Elem,
    dy: &mut [Elem],
    dgamma: &mut [Elem],
    dbeta: &mut [Elem],
    dresidual: Option<&mut [Elem]>,
    batch_stats: bool,
) {
    check_backward(s, x, y, dy, dgamma, dbeta);
    assert!(dresidual.as_ref().is_none_or(|r| r.len() == s.len()), "the residual does not fit {s:?}");
    let (dy, dgamma, dbeta, dresidual) =
        (Out::from(dy), Out::from(dgamma), Out::from(dbeta), dresidual.map(Out::from));
    // Sums and gradient of a channel, wherever its planes lie.
    let channel = |c: usize,
                   s: BnShape,
                   at: usize,
                   x: &[Elem],
                   y: Option<&[Elem]>,
                   dy: Out<'_>,
                   dr: Option<Out<'_>>| {
        let (sum, sum_xhat) = channel_grads(s, at, x, y, mean[c], var[c] + eps, dy, dr);
        // SAFETY: each task writes its own channel.
        unsafe { (dgamma.slice(c, 1)[0], dbeta.slice(c, 1)[0]) = (sum_xhat, sum) }
        let (g, b) = if batch_stats { (sum_xhat, sum) } else { (0.0, 0.0) };
        let d = Slope::new(gamma.map_or(1.0, |g| g[c]), mean[c], var[c] + eps, s.count(), g, b);
        backward(s, at, d, x, dy, dr);
    };
    par::count(s.c, s.len(), |c| {
        if !s.scattered() {
            return channel(c, s, c, x, y, dy, dresidual);
        }
        let (near_x, near_y) = (gather(s, c, x), y.map(|y| gather(s, c, y)));
        let mut near_dy = gather_own(s, c, dy);
        let mut masked = Scratch::take(if dresidual.is_some() { s.count() } else { 0 });
        let to = dresidual.map(|_| Out::from(&mut masked[..]));
        channel(c, s.alone(), 0, &near_x, near_y.as_deref(), Out::from(&mut near_dy[..]), to);
        scatter(s, c, &near_dy, dy);
        if let Some(dr) = dresidual {
            scatter(s, c, &masked, dr);
        }
    });
}
