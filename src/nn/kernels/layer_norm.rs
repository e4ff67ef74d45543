//! Layer normalisation over the last axis.

use super::Elem;

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
    for (i, (x, y)) in x.chunks_exact(d.max(1)).zip(y.chunks_exact_mut(d.max(1))).enumerate() {
        let m = x.iter().sum::<Elem>() / d as Elem;
        let var = x.iter().map(|v| (v - m) * (v - m)).sum::<Elem>() / d as Elem;
        let r = 1.0 / (var + eps).sqrt();
        for j in 0..d {
            y[j] = (x[j] - m) * r * gamma.map_or(1.0, |g| g[j]) + beta.map_or(0.0, |b| b[j]);
        }
        (mean[i], rstd[i]) = (m, r);
    }
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
    for (i, (x, dy)) in x.chunks_exact(d.max(1)).zip(dy.chunks_exact_mut(d.max(1))).enumerate() {
        let (mut a, mut b) = (0.0, 0.0);
        for j in 0..d {
            let xhat = (x[j] - mean[i]) * rstd[i];
            dgamma[j] += dy[j] * xhat;
            dbeta[j] += dy[j];
            dy[j] *= gamma.map_or(1.0, |g| g[j]);
            a += dy[j];
            b += dy[j] * xhat;
        }
        for j in 0..d {
            let xhat = (x[j] - mean[i]) * rstd[i];
            dy[j] = rstd[i] * (dy[j] - a / d as Elem - xhat * b / d as Elem);
        }
    }
}
