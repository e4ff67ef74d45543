//! Vectors that should be nearer to their like than to others.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Losses, Reduction, Target, Var};
use crate::register;

use super::targets::whole;
use super::{Loss, weighted};

/// `max(0, d(a, p) - d(a, n) + margin)` for an anchor a, its like p and another n, with `d(u, v) = ‖u - v + eps‖_p`:
/// PyTorch's `TripletMarginLoss`.
///
/// Scores of shape [N, 3, D] are N triplets, and the target is not looked at. Scores of shape [N, D] and one class a
/// sample make triplets of the batch: every anchor with every other of its class and every one of another class, or
/// with `hard_mining` the farthest and the nearest of them. A batch without any has loss 0.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, Loss, Tape, Target, TripletMarginLoss};
///
/// let tape = Tape::new(BufferPool::default());
/// // 0 and 1 are one class, 1.5 another: from 0 there are 1 - 1.5 + 1, from 1 there are 1 - 0.5 + 1.
/// let x = tape.input(Tensor::from_shape_vec(vec![3, 1], vec![0.0, 1.0, 1.5]).unwrap());
/// let losses = TripletMarginLoss::default().forward(x, Target::Classes(&[7, 7, 3]))?;
/// assert!((losses.loss.item() - 1.0).abs() < 1e-5);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TripletMarginLoss {
    /// By how much others should be farther away.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
    /// The order of the norm.
    #[schemars(range(min = 1.0))]
    pub p: f64,
    /// Added to each difference, so that a distance of 0 has a slope.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// Whether the distance of p and n counts where it is the smaller one (Balntas 2016).
    pub swap: bool,
    /// Of a batch only the hardest triplet of each anchor.
    pub hard_mining: bool,
    /// How the losses of the triplets become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for TripletMarginLoss {
    fn default() -> Self {
        Self {
            margin: 1.0,
            p: 2.0,
            eps: 1e-6,
            swap: false,
            hard_mining: false,
            reduction: Reduction::Mean,
            loss_weight: 1.0,
        }
    }
}

impl Loss for TripletMarginLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let (x, law) = (scores.value(), Distances { p: self.p, eps: self.eps });
        let (samples, triplets, width) = match *x.shape() {
            [n, 3, d] => (n, (0..n).map(|i| [3 * i, 3 * i + 1, 3 * i + 2]).collect::<Vec<_>>(), d),
            [n, d] => (n, self.of_batch(slice(&x), d, whole(target, n, "TripletMarginLoss")?, law), d),
            ref shape => {
                return Err(Error::invalid(format!(
                    "`TripletMarginLoss` wants triplets, [N, 3, D], or a batch of vectors, [N, D], got {shape:?}"
                )));
            }
        };
        let vectors = Vectors { x: x.clone(), width, law };
        let each: Vec<f64> = triplets.iter().map(|t| self.of(&vectors, *t)).collect();
        // The loss of a sample is the mean over the triplets that it is the anchor of.
        let mut per_sample = vec![(0.0, 0usize); samples];
        for ([anchor, ..], loss) in triplets.iter().zip(&each) {
            let own = &mut per_sample[if x.ndim() == 3 { anchor / 3 } else { *anchor }];
            *own = (own.0 + loss, own.1 + 1);
        }
        let per_sample = per_sample.into_iter().map(|(sum, n)| (sum / n.max(1) as f64) as Elem).collect();
        let share = if self.reduction == Reduction::Mean { 1.0 / each.len().max(1) as f64 } else { 1.0 };
        let value = match self.reduction {
            Reduction::None => tensor(&[each.len()], each.iter().map(|loss| *loss as Elem).collect()),
            _ => Tensor::from_elem(vec![], (each.iter().sum::<f64>() * share) as Elem),
        };
        let law = self.clone();
        let loss = scores.tape().node("triplet_margin_loss", value, &[scores], move |dy, grads| {
            let mut slope = grads.pool.take(vectors.x.len());
            slope.fill(0.0);
            for (i, triplet) in triplets.iter().enumerate() {
                let factor = dy[if dy.len() == 1 { 0 } else { i }] * share as Elem;
                law.slope(&vectors, *triplet, factor, &mut slope);
            }
            grads.pool.give(dy);
            grads.add(0, slope);
        });
        Ok(weighted(Losses { loss, per_sample }, self.loss_weight))
    }
}

impl TripletMarginLoss {
    /// The triplets of a batch.
    fn of_batch(&self, x: &[Elem], width: usize, classes: &[i64], law: Distances) -> Vec<[usize; 3]> {
        let (n, mut triplets) = (classes.len(), Vec::new());
        let far = |a: usize, b: usize| law.of(&x[a * width..][..width], &x[b * width..][..width]);
        for a in 0..n {
            let mut like: Vec<usize> = (0..n).filter(|b| *b != a && classes[*b] == classes[a]).collect();
            let mut others: Vec<usize> = (0..n).filter(|b| classes[*b] != classes[a]).collect();
            if self.hard_mining {
                let farthest = like.iter().copied().max_by(|b, c| far(a, *b).total_cmp(&far(a, *c)));
                let nearest = others.iter().copied().min_by(|b, c| far(a, *b).total_cmp(&far(a, *c)));
                (like, others) = (Vec::from_iter(farthest), Vec::from_iter(nearest));
            }
            triplets.extend(like.iter().flat_map(|p| others.iter().map(move |n| [a, *p, *n])));
        }
        triplets
    }

    /// The loss of a triplet.
    fn of(&self, vectors: &Vectors, [a, p, n]: [usize; 3]) -> f64 {
        let near = vectors.far(a, p) + self.margin;
        let far = vectors.far(a, n);
        let far = if self.swap { far.min(vectors.far(p, n)) } else { far };
        // Not `max`, which would drop a NaN.
        if near - far < 0.0 { 0.0 } else { near - far }
    }

    /// Adds what a triplet gives to the gradient.
    fn slope(&self, vectors: &Vectors, triplet: [usize; 3], factor: Elem, slope: &mut [Elem]) {
        if self.of(vectors, triplet) == 0.0 {
            return;
        }
        let [a, p, n] = triplet;
        let swapped = self.swap && vectors.far(p, n) < vectors.far(a, n);
        vectors.pull(a, p, factor, slope);
        vectors.pull(if swapped { p } else { a }, n, -factor, slope);
    }
}

/// How a distance is measured.
#[derive(Clone, Copy)]
struct Distances {
    p: f64,
    eps: f64,
}

impl Distances {
    fn of(self, a: &[Elem], b: &[Elem]) -> f64 {
        let each = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b) + self.eps).abs());
        match self.p {
            1.0 => each.sum(),
            2.0 => each.map(|d| d * d).sum::<f64>().sqrt(),
            p => libm::pow(each.map(|d| libm::pow(d, p)).sum(), 1.0 / p),
        }
    }
}

/// Vectors one behind the other.
struct Vectors {
    x: Tensor,
    width: usize,
    law: Distances,
}

impl Vectors {
    fn row(&self, i: usize) -> &[Elem] {
        &slice(&self.x)[i * self.width..][..self.width]
    }

    fn far(&self, a: usize, b: usize) -> f64 {
        self.law.of(self.row(a), self.row(b))
    }

    /// Adds `factor` times the slope of the distance of two vectors.
    fn pull(&self, a: usize, b: usize, factor: Elem, slope: &mut [Elem]) {
        let far = self.far(a, b);
        for i in 0..self.width {
            let d = f64::from(self.row(a)[i]) - f64::from(self.row(b)[i]) + self.law.eps;
            let by_d = if far == 0.0 || d == 0.0 {
                0.0
            } else {
                d.signum() * libm::pow(d.abs() / far, self.law.p - 1.0)
            };
            slope[a * self.width + i] += factor * by_d as Elem;
            slope[b * self.width + i] -= factor * by_d as Elem;
        }
    }
}

register! { /// Vectors nearer to those of their class than to others by a margin: triplets, or all of a batch.
dyn Loss, "TripletMarginLoss" => TripletMarginLoss }
