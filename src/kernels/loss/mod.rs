//! Losses of classification: cross entropy with classes or distributions as targets, and of sequences without places.
//!
//! The logarithm of a softmax is taken as `x - max - ln(sum(exp(x - max)))`, in two parts, so that large values do
//! not round the sum away; sums over a batch are in f64.

mod cross_entropy;
mod ctc;

pub use cross_entropy::{
    CrossEntropy, LossSums, RowGrad, cross_entropy, cross_entropy_backward, soft_cross_entropy,
    soft_cross_entropy_backward,
};
pub use ctc::Ctc;
