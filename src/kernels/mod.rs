//! The arithmetic of the network library: plain functions on slices. No tape, no modules, no allocation that grows
//! with a call.
//!
//! # Conventions
//! - Every tensor is dense and row-major; images are N, C, H, W. A slice's length is checked against the shape and a
//!   wrong one panics: the layers above check what a user can get wrong, by [`ConvGeom::new`] and [`PoolGeom::new`].
//! - An output that is passed as `&mut [Elem]` is *overwritten* in full and may hold anything before (stale pool
//!   memory, NaN), unless the function takes a `beta`: then it becomes `beta * old + new`, and `beta = 0` does not read it.
//! - `dy: &mut [Elem]` of a backward function holds the gradient of the output on entry and of the input on return,
//!   where both have one shape: one stream less, and the tape keeps one buffer.
//! - The work is cut into chunks that depend on the shape alone and sums are taken in a fixed order, so the bits of a
//!   result do not depend on the number of threads.
//! - Each kernel is plain Rust over [`Elem`]; for `f32` on x86-64 it is compiled again for AVX2 and AVX-512 (or
//!   replaced there by a hand-written one) and chosen once per process. `SHANTY_SIMD=off` selects the portable twin,
//!   `SHANTY_SIMD=avx2` the middle one. Bits may differ between these classes of CPU.
#![allow(clippy::needless_range_loop)] // loops over indices are what the vectoriser sees through

mod act;
mod attention;
mod conv;
mod conv_frame;
mod conv_images;
mod conv_product;
mod conv_weight;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod conv_weight_thin;
mod conv_winograd;
mod conv_winograd_weight;
mod gelu;
mod gemm;
mod gemm_plan;
mod isa;
mod layer_norm;
mod loss;
mod math;
mod norm;
mod norm_rows;
mod par;
mod pool;
mod pool_rows;
mod reduce;
mod scratch;
mod sgd;
mod softmax;
mod tile;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod tile_x86;
mod tokens;
mod transpose;
mod winograd;

pub use act::{Act, act_backward, act_forward, act_inplace, dropout, dropout_inplace};
pub use attention::{
    AttnGeom, AttnOpts, attention, attention_backward, attention_packed, attention_packed_backward,
};
pub use conv::{ConvGeom, conv2d, conv2d_backward_data, conv2d_backward_weight};
pub use gemm::{Bias, Epilogue, Mat, MatMut, gemm, gemm_add, gemm_gelu, gemm_mul};
pub use layer_norm::{layer_norm, layer_norm_backward};
pub use loss::{
    CrossEntropy, LossSums, RowGrad, cross_entropy, cross_entropy_backward, soft_cross_entropy,
    soft_cross_entropy_backward,
};
pub use norm::{
    BnShape, bn_apply, bn_backward, bn_backward_apply, bn_eval_backward, bn_stats, bn_sum_grads, bn_train,
};
pub use pool::{
    PoolGeom, avg_pool2d, avg_pool2d_backward, global_avg_pool, global_avg_pool_backward, max_pool2d,
    max_pool2d_backward,
};
pub use reduce::{add, add_assign, axpy, channel_sums, col_sums, dot, row_sums, scale, sum_squares};
pub use sgd::{SgdStep, sgd_momentum};
pub use softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward};

pub use tokens::{TokenGeom, embed_tokens, token_mean, token_mean_backward, token_planes};

use crate::base::Elem;

#[cfg(test)]
mod tests;
