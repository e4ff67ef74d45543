//! Weights that turn a signal and leave its length (Saxe, McClelland and Ganguli, <https://arxiv.org/abs/1312.6120>).

use ndarray::{ArrayViewMutD, Axis};
use rand::RngExt;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Fans, Initializer, fans_needed};
use crate::base::{Elem, Result, Rng};

/// `gain` times a matrix with orthonormal rows, or orthonormal columns where there are fewer of these: the first axis of
/// the weight against all others, as PyTorch's `orthogonal_`. Every such matrix is equally likely.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::init::{Fans, Initializer, Orthogonal};
///
/// let mut weight = Tensor::zeros(vec![2, 3]).into_owned();
/// let rng = &mut keyed(0, "example", 0, 0);
/// Orthogonal { gain: 2.0 }.fill(&mut weight.view_mut(), Fans::of(&[2, 3], 1, false), rng)?;
/// let dot = |i: usize, k: usize| (0..3).map(|j| weight[[i, j]] * weight[[k, j]]).sum::<f32>();
/// assert!((dot(0, 0) - 4.0).abs() < 1e-5 && dot(0, 1).abs() < 1e-5 && (dot(1, 1) - 4.0).abs() < 1e-5);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Orthogonal {
    /// The length of each row or column.
    #[schemars(range(min = 0.0))]
    pub gain: f64,
}

impl Default for Orthogonal {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Initializer for Orthogonal {
    fn describe(&self) -> String {
        format!("OrthogonalInit: gain={}", self.gain)
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        fans_needed("Orthogonal", fans)?;
        let rows = weight.len_of(Axis(0));
        if weight.is_empty() {
            return Ok(());
        }
        let columns = weight.len() / rows;
        let (count, length) = (rows.min(columns), rows.max(columns));
        let basis = orthonormal(count, length, rng);
        for (at, value) in weight.iter_mut().enumerate() {
            let (row, column) = (at / columns, at % columns);
            let (vector, place) = if rows <= columns { (row, column) } else { (column, row) };
            *value = (self.gain * basis[vector * length + place]) as Elem;
        }
        Ok(())
    }
}

/// `count` vectors of this length, each of length 1 and at right angles to the others: draws of a normal distribution,
/// which has no direction, by Gram and Schmidt, whose second pass removes what rounding left.
fn orthonormal(count: usize, length: usize, rng: &mut Rng) -> Vec<f64> {
    let mut basis: Vec<f64> = (0..count * length).map(|_| rng.sample(StandardNormal)).collect();
    for at in 0..count {
        let (before, rest) = basis.split_at_mut(at * length);
        let own = &mut rest[..length];
        for _ in 0..2 {
            for other in before.chunks_exact(length) {
                let along: f64 = own.iter().zip(other).map(|(a, b)| a * b).sum();
                own.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = own.iter().map(|a| a * a).sum::<f64>().sqrt();
        own.iter_mut().for_each(|a| *a /= norm);
    }
    basis
}
