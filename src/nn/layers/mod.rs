//! The layers, with the names, parameters and weight names of PyTorch.

mod activation;
mod attention;
mod container;
mod conv;
mod dropout;
mod ffn;
mod layer_norm;
mod linear;
mod norm;
mod pair;
mod patch;
mod pool;
mod shape;

pub use activation::{GELU, LeakyReLU, ReLU, SiLU, Sigmoid, Tanh};
pub use attention::{MultiheadAttention, MultiheadAttentionParams};
pub use container::{Residual, ResidualParams, Sequential, SequentialParams};
pub use conv::{Conv2d, Conv2dParams};
pub use dropout::Dropout;
pub use ffn::FFN;
pub use layer_norm::{LayerNorm, LayerNormParams};
pub use linear::{Linear, LinearParams};
pub use norm::{BatchNorm1d, BatchNorm2d, BatchNormParams};
pub use pair::{Pair, positive};
pub use patch::{LayerNormCfg, LayerNormName, PatchEmbed, PatchEmbedParams};
pub use pool::{AdaptiveAvgPool2d, AvgPool2d, GlobalAveragePooling, MaxPool2d};
pub use shape::{Flatten, Identity};

use rand::RngExt as _;

use crate::base::memory::{Grant, ask};
use crate::base::{Elem, Tensor, keyed};

use super::Param;

/// PyTorch's initial weights of linear layers and convolutions: uniform within ±1/√fan_in.
///
/// From a stream that depends on the shape alone, so that a new layer can be trained at once;
/// [`init_weights`](super::init::init_weights) draws them anew, each tensor from the stream of its own name.
fn initial(shape: &[usize], fan_in: usize) -> Param {
    match ask(shape, size_of::<Elem>()) {
        Grant::Full => {}
        Grant::Zeros => return Param::new(Tensor::zeros(shape)),
        Grant::Refused => return Param::new(Tensor::zeros(vec![0; shape.len()])),
    }
    let bound = 1.0 / (fan_in.max(1) as Elem).sqrt();
    let mut rng = keyed(0, "new layer", shape.iter().product::<usize>() as u64, fan_in as u64);
    Param::new(Tensor::from_shape_simple_fn(shape, || (rng.random::<Elem>() * 2.0 - 1.0) * bound))
}

fn yes() -> bool {
    true
}

fn zero() -> Pair {
    Pair([0, 0])
}

fn one() -> Pair {
    Pair([1, 1])
}
