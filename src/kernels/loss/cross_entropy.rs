//! Cross entropy over the rows of a matrix.

use crate::base::{Elem, Error, Result};
use crate::kernels::softmax::softmax_row;

/// What a cross entropy is made of, PyTorch's `CrossEntropyLoss`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CrossEntropy<'a> {
    /// Classes.
    pub k: usize,
    /// One weight a class; none: all 1.
    pub weight: Option<&'a [Elem]>,
    /// The share of the target that is spread evenly over all `k` classes.
    pub smoothing: f64,
    /// Rows with this target have loss 0 and weight 0.
    pub ignore: Option<i64>,
}

impl CrossEntropy<'_> {
    /// What the target itself keeps, and what each class gets. Taken in f64: `1 - smoothing` loses digits in f32.
    fn shares(&self) -> (Elem, Elem) {
        ((1.0 - self.smoothing) as Elem, (self.smoothing / self.k as f64) as Elem)
    }
}

/// The sums over a batch: the mean is `loss / weight`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossSums {
    /// The sum of the rows' losses.
    pub loss: f64,
    /// The sum of the rows' target weights; 0 if every row is ignored.
    pub weight: f64,
}

/// The gradient of the rows' losses.
#[derive(Debug, Clone, Copy)]
pub enum RowGrad<'a> {
    /// The same for all rows: `1 / weight` for the mean.
    Same(Elem),
    /// One a row.
    Each(&'a [Elem]),
}

impl RowGrad<'_> {
    fn at(&self, i: usize) -> Elem {
        match self {
            Self::Same(v) => *v,
            Self::Each(v) => v[i],
        }
    }
}

/// `losses[i] = (1 - s) w[t] (-log p[t]) + s / k * sum_j w[j] (-log p[j])`, with t the target of row i of `logits`;
/// `probs` becomes the softmax, kept for the backward pass. A row whose logits are all minus infinity has loss 0 and
/// no gradient (and target weight as usual).
///
/// # Errors
/// If a target is neither a class nor the ignored one; names it and its row.
pub fn cross_entropy(
    ce: &CrossEntropy<'_>,
    logits: &[Elem],
    targets: &[i64],
    losses: &mut [Elem],
    probs: &mut [Elem],
) -> Result<LossSums> {
    let k = ce.k;
    assert!(
        logits.len() == probs.len() && logits.len() == targets.len() * k && losses.len() == targets.len()
    );
    assert!(ce.weight.is_none_or(|w| w.len() == k));
    let mut sums = LossSums::default();
    for (i, &t) in targets.iter().enumerate() {
        let (x, p) = (&logits[i * k..][..k], &mut probs[i * k..][..k]);
        let lse = softmax_row(x, p);
        losses[i] = 0.0;
        if ce.ignore == Some(t) {
            continue;
        }
        let t = class(t, k, i)?;
        let w = |j: usize| ce.weight.map_or(1.0, |w| w[j]);
        sums.weight += w(t) as f64;
        if lse.is_empty() {
            continue;
        }
        // 0 * infinity must not make NaN: a class of weight 0 takes no part.
        let term = |weight: Elem, j: usize| if weight == 0.0 { 0.0 } else { -weight * lse.log_of(x[j]) };
        let (own, even) = ce.shares();
        losses[i] = term(own * w(t), t);
        if even != 0.0 {
            losses[i] += (0..k).map(|j| term(even * w(j), j)).sum::<Elem>();
        }
        sums.loss += losses[i] as f64;
    }
    Ok(sums)
}

fn class(t: i64, k: usize, row: usize) -> Result<usize> {
    match usize::try_from(t) {
        Ok(t) if t < k => Ok(t),
        _ => Err(Error::invalid(format!(
            "target {t} of sample {row} of the batch is outside the {k} classes; labels run from 0 to {}",
            k.saturating_sub(1)
        ))),
    }
}

/// `probs` becomes the gradient of the logits. The targets must be those that [`cross_entropy`] accepted.
pub fn cross_entropy_backward(ce: &CrossEntropy<'_>, targets: &[i64], grad: RowGrad<'_>, probs: &mut [Elem]) {
    let k = ce.k;
    assert!(probs.len() == targets.len() * k);
    let w = |j: usize| ce.weight.map_or(1.0, |w| w[j]);
    let all: Elem = (0..k).map(w).sum();
    let (keep, even) = ce.shares();
    for (i, (p, &t)) in probs.chunks_exact_mut(k.max(1)).zip(targets).enumerate() {
        let g = grad.at(i);
        if ce.ignore == Some(t) || p.iter().all(|p| *p == 0.0) {
            p.fill(0.0);
            continue;
        }
        let t = t as usize;
        let own = keep * w(t);
        for (j, p) in p.iter_mut().enumerate() {
            *p = g * (*p * (own + even * all) - even * w(j) - if j == t { own } else { 0.0 });
        }
    }
}

/// `losses[i] = sum_j q[i, j] w[j] (-log p[i, j])` for targets `q` that are distributions (not necessarily of sum 1);
/// `probs` becomes the softmax. The returned weight is the number of rows. `ce.smoothing` and `ce.ignore` are not used.
pub fn soft_cross_entropy(
    ce: &CrossEntropy<'_>,
    logits: &[Elem],
    q: &[Elem],
    losses: &mut [Elem],
    probs: &mut [Elem],
) -> LossSums {
    let k = ce.k;
    assert!(logits.len() == probs.len() && logits.len() == q.len() && losses.len() * k == q.len());
    let mut sums = LossSums { loss: 0.0, weight: losses.len() as f64 };
    for (i, loss) in losses.iter_mut().enumerate() {
        let x = &logits[i * k..][..k];
        let lse = softmax_row(x, &mut probs[i * k..][..k]);
        *loss = 0.0;
        for j in 0..k {
            let qw = q[i * k + j] * ce.weight.map_or(1.0, |w| w[j]);
            if qw != 0.0 && !lse.is_empty() {
                *loss -= qw * lse.log_of(x[j]);
            }
        }
        sums.loss += *loss as f64;
    }
    sums
}

/// `probs` becomes the gradient of the logits of [`soft_cross_entropy`].
pub fn soft_cross_entropy_backward(ce: &CrossEntropy<'_>, q: &[Elem], grad: RowGrad<'_>, probs: &mut [Elem]) {
    let k = ce.k;
    assert_eq!(probs.len(), q.len());
    let w = |j: usize| ce.weight.map_or(1.0, |w| w[j]);
    for (i, (p, q)) in probs.chunks_exact_mut(k.max(1)).zip(q.chunks_exact(k.max(1))).enumerate() {
        if p.iter().all(|p| *p == 0.0) {
            continue;
        }
        let sum: Elem = q.iter().enumerate().map(|(j, q)| q * w(j)).sum();
        let g = grad.at(i);
        for (j, (p, q)) in p.iter_mut().zip(q).enumerate() {
            *p = g * (*p * sum - q * w(j));
        }
    }
}
