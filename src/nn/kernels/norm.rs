//! Batch normalisation, with the ReLU and the residual addition that follow it.

use super::Elem;

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

    /// The slices of channel `c`.
    fn planes(&self, c: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let s = *self;
        (0..s.n).map(move |n| {
            let at = (n * s.c + c) * s.inner;
            at..at + s.inner
        })
    }
}

/// `mean` and biased variance `var` of each channel; two passes, so that a large mean does not cancel. An empty
/// channel has mean and variance 0.
pub fn bn_stats(s: BnShape, x: &[Elem], mean: &mut [Elem], var: &mut [Elem]) {
    assert!(x.len() == s.len() && mean.len() == s.c && var.len() == s.c, "slices do not fit {s:?}");
    let count = s.count().max(1) as Elem;
    for c in 0..s.c {
        mean[c] = s.planes(c).map(|r| x[r].iter().sum::<Elem>()).sum::<Elem>() / count;
        var[c] = s
            .planes(c)
            .map(|r| x[r].iter().map(|v| (v - mean[c]) * (v - mean[c])).sum::<Elem>())
            .sum::<Elem>()
            / count;
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
    assert!(residual.is_none_or(|r| r.len() == s.len()));
    for c in 0..s.c {
        let a = gamma.map_or(1.0, |g| g[c]) / (var[c] + eps).sqrt();
        let b = beta.map_or(0.0, |b| b[c]);
        for i in s.planes(c).flatten() {
            let v = (x[i] - mean[c]) * a + b + residual.map_or(0.0, |r| r[i]);
            y[i] = if relu && v < 0.0 { 0.0 } else { v };
        }
    }
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
    bn_stats(s, x, mean, var);
    bn_apply(s, x, mean, var, eps, gamma, beta, residual, relu, y);
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
    assert!(
        x.len() == s.len() && dy.len() == s.len() && dgamma.len() == s.c && dbeta.len() == s.c,
        "slices do not fit {s:?}"
    );
    assert!(y.is_none_or(|y| y.len() == s.len()));
    for c in 0..s.c {
        let (mut sum, mut sum_xhat) = (0.0, 0.0);
        for r in s.planes(c) {
            for i in r {
                if y.is_some_and(|y| y[i] <= 0.0) {
                    dy[i] = 0.0;
                }
                sum += dy[i];
                sum_xhat += dy[i] * (x[i] - mean[c]);
            }
        }
        dbeta[c] = sum;
        dgamma[c] = sum_xhat / (var[c] + eps).sqrt();
    }
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
    assert!(
        x.len() == s.len() && dy.len() == s.len() && dgamma.len() == s.c && dbeta.len() == s.c,
        "slices do not fit {s:?}"
    );
    for c in 0..s.c {
        let rstd = 1.0 / (var[c] + eps).sqrt();
        let (a, count) = (gamma.map_or(1.0, |g| g[c]) * rstd, count as Elem);
        for r in s.planes(c) {
            for i in r {
                let xhat = (x[i] - mean[c]) * rstd;
                dy[i] = a * (dy[i] - dbeta[c] / count - xhat * dgamma[c] / count);
            }
        }
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
    bn_sum_grads(s, x, y, mean, var, eps, dy, dgamma, dbeta);
    if let Some(dr) = dresidual {
        dr.copy_from_slice(dy);
    }
    bn_backward_apply(s, x, gamma, mean, var, eps, s.count(), dgamma, dbeta, dy);
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
    bn_sum_grads(s, x, y, mean, var, eps, dy, dgamma, dbeta);
    if let Some(dr) = dresidual {
        dr.copy_from_slice(dy);
    }
    for c in 0..s.c {
        let a = gamma.map_or(1.0, |g| g[c]) / (var[c] + eps).sqrt();
        s.planes(c).for_each(|r| super::scale(a, &mut dy[r]));
    }
}
