//! The ops of [`Var`](super::Var): each is one node whose value and way back are kernels on slices.

mod activation;
mod adaptive;
mod attention;
mod conv;
mod dropout;
mod feed_forward;
mod layer_norm;
mod linear;
mod loss;
mod norm;
mod pointwise;
mod pool;
mod tokens;

pub use attention::AttentionOptions;
pub use conv::ConvOptions;
pub use loss::{Average, CrossEntropyOptions, Losses, Reduction, Target};
pub use norm::{BnOutput, BnStats, BnThen};
pub use pool::PoolOptions;

use crate::base::{Error, Result, Tensor};

/// The four sizes of a batch of images.
fn images(x: &Tensor, what: &str) -> Result<[usize; 4]> {
    <[usize; 4]>::try_from(x.shape()).map_err(|_| {
        Error::invalid(format!(
            "{what} wants images of shape [N, C, H, W], got an input of shape {:?}",
            x.shape()
        ))
    })
}

/// Checks the shape of a parameter against what the op can use.
fn expect_shape(what: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} has shape {found:?} where {wanted:?} is needed")))
}
