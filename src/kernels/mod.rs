//! The arithmetic of networks and optimizers: plain functions on slices. No tape, no modules, no allocation that grows
//! with a call.
//!
//! # Conventions
//! - Every tensor is dense and row-major; images are N, C, H, W. A slice's length is checked against the shape and a
//!   wrong one panics: the layers above check what a user can get wrong, by [`ConvGeom::new`] and [`PoolGeom::new`].
//! - An output that is passed as `&mut [Elem]` is *overwritten* in full and may hold anything before (stale memory,
//!   NaN), unless the function takes a `beta`: then it becomes `beta * old + new`, and `beta = 0` does not read it.
//! - `dy: &mut [Elem]` of a backward function holds the gradient of the output on entry and of the input on return,
//!   where both have one shape: one stream less, and the tape keeps one buffer.
//! - The work is cut into chunks that depend on the shape alone and sums are taken in a fixed order, so the bits of a
//!   result do not depend on the number of threads.
//! - Each kernel is plain Rust over [`Elem`](crate::base::Elem); for `f32` on x86-64 it is compiled again for AVX2
//!   and AVX-512 (or replaced there by a hand-written one) and chosen once per process. `SHANTY_SIMD=off` selects the
//!   portable code, `SHANTY_SIMD=avx2` the middle one. Bits may differ between these classes of CPU.
//! - [`with_precision`] rounds the operands of products to bf16 or f16; sums stay in `Elem`. bf16 has instructions of
//!   its own, AVX512-BF16 and AMX-BF16, which `SHANTY_SIMD=avx512` and `SHANTY_SIMD=avx512bf16` (without AMX) leave out.
//!
//! # Where things are
//! Each folder says at its head which algorithm it holds. The files beside them are shared: `isa` (classes of CPU),
//! `precision` (what operands are rounded to), `number` (what values are stored as), `bf16` (products of such numbers,
//! for `gemm` and `conv`), `par` (how work is cut), `spinning` (threads that wait for it), `prefetch` (memory that is
//! asked for ahead), `scratch` (working memory), `disjoint` (results that several threads write), `math`, `reduce`, `softmax`,
//! `transpose`, `upsample`, `bicubic`, `embedding` and `window`.
#![allow(clippy::needless_range_loop)] // loops over indices are what the vectoriser sees through

mod attention;
mod bf16;
mod bicubic;
mod conv;
mod disjoint;
mod elementwise;
mod embedding;
mod gemm;
mod isa;
mod loss;
mod math;
mod norm;
mod number;
mod optim;
mod par;
mod peak;
mod pool;
mod precision;
mod prefetch;
mod recurrent;
mod reduce;
mod scratch;
mod softmax;
mod spinning;
mod transpose;
mod upsample;
mod window;

pub use attention::*;
pub use bicubic::bicubic_taps;
pub use conv::{ConvGeom, conv_transpose2d, conv2d, conv2d_backward_data, conv2d_backward_weight};
pub use elementwise::{
    Act, Gate, Slope, act_backward, act_forward, act_inplace, add, add_assign, axpy, dropout,
    dropout_inplace, gated, gated_backward, gelu_halves, prelu, prelu_backward, prelu_slope_terms, scale,
    unscale,
};
pub use embedding::{embedding, embedding_backward};
pub use gemm::{
    Bias, Epilogue, LayerEpilogue, Mat, MatMut, gemm, gemm_add, gemm_gelu, gemm_gelu_of_half,
    gemm_gelu_slope, gemm_mul, linear,
};
pub use isa::cpu_features;
pub use loss::*;
pub use norm::*;
pub use number::{Numbers, NumbersMut, add_halves, narrow, widen};
pub use optim::*;
pub use peak::{PEAK_SIZE, peak_flops};
pub use pool::*;
pub use precision::{Precision, precision, with_precision};
pub use recurrent::{
    Cell, RecurrentGeom, RecurrentSaved, RecurrentWeights, recurrent, recurrent_backward,
    recurrent_hidden_grads,
};
pub use reduce::{channel_sums, col_sums, dot, row_sums, sum_squares};
pub use softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward};
pub use spinning::keep_threads_hot;
pub use upsample::{UpsampleGeom, UpsampleMode, upsample, upsample_backward};
pub use window::Window;

#[cfg(test)]
mod tests;
