//! Matrix products, and the micro-kernel that convolutions use as well.
//!
//! The algorithm is the blocked product of Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication",
//! ACM TOMS 34(3), 2008), with the names that BLIS gives its parts (Van Zee and van de Geijn, "BLIS: A Framework for
//! Rapidly Instantiating BLAS Functionality", ACM TOMS 41(3), 2015): loops over blocks of NC columns, KC steps and MC
//! rows around a micro-kernel, which keeps MR x NR sums in registers. Three things differ from BLIS and from
//! matrixmultiply. Only B is packed; the elements of A are broadcast from where they lie, and their places are given by
//! tables of offsets, so that the same micro-kernel computes convolutions as implicit products. The operands exchange
//! their roles (Cᵀ = Bᵀ Aᵀ) where that costs less. And what follows a product (bias, activation, a sum, a factor) is
//! applied to a block of C before it leaves the cache.
//!
//! Where another precision is asked for, the operands are rounded on their way: to bf16 as they are packed for the
//! instructions that multiply such numbers, or else in copies that the loops above multiply. Products of fewer than
//! 32,768 multiplications stay as they are, by their shape alone.
//!
//! - `product`: the public functions; `matrix`: their operands; `right`: one of several products.
//! - `bf16`: the loops for bf16; `rounded`: copies of rounded numbers.
//! - `blocked`: the loops; `pack`: panels of B; `epilogue`: what follows.
//! - `microkernel`: the innermost loop in plain Rust, and what it demands; `microkernel_x86`: in AVX-512 and AVX2.

mod bf16;
mod blocked;
mod epilogue;
mod matrix;
pub(super) mod microkernel;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod microkernel_x86;
pub(super) mod pack;
mod product;
mod right;
mod rounded;

pub use epilogue::{Bias, Epilogue, LayerEpilogue};
pub use matrix::{Mat, MatMut};
pub(super) use product::gemm_serial;
pub use product::{gemm, gemm_add, gemm_gelu, gemm_gelu_of_half, gemm_gelu_slope, gemm_mul, linear};
pub(super) use right::RightOperand;
pub(crate) use rounded::{round_in_place, rounded_copy};
