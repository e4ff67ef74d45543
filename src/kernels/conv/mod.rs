//! Two-dimensional convolution: the forward pass and the gradients of the input and of the weight.
//!
//! Each of the three is chosen among several algorithms by the shape alone:
//!
//! - **Winograd's F(4 x 4, 3 x 3)** for 3 x 3 kernels of stride 1 and whole vectors of channels (`winograd`; Lavin and
//!   Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308): a quarter of the products.
//! - **A matrix product** where the kernel covers its input, and for kernels of 1 x 1 from few channels (`pointwise`).
//! - **Implicit products** for all else (`implicit_gemm`, `forward`, `input_grad`, `weight_grad`; the idea is that of
//!   cuDNN, Chetlur et al., arXiv:1410.0759, and of the indirect convolution, Dukhan, arXiv:1907.02129): the
//!   micro-kernel of `gemm` reads pixels through tables of offsets, and no im2col matrix is written. Columns of the
//!   micro-kernel are output channels, or pixels where channels are too few to fill vectors.
//! - **The pixels that are seen**, copied, for kernels of 1 x 1 with a stride (`thinned`).
//! - **Shifted planes** for groups of few channels, depthwise convolutions above all (`grouped`).
//! - **Vectors of images** for the gradient of the input of small maps (`image_lanes`), and **vectors of pixels** for
//!   the gradient of the weight of few channels (`weight_grad_narrow`).
//!
//! - **Tiles of bf16 numbers** for what is not of groups, where operands are to be rounded to bf16 and the processor has
//!   AMX-BF16, or AVX512-BF16 and f32 takes no fewer products (`bf16`). Elsewhere, and for f16, rounded copies are
//!   convolved as f32. Groups, which wait for memory, in bf16 windows of fewer than 32 numbers, and convolutions of fewer
//!   than 32,768 multiplications stay as they are (`precision`); their values in bf16 become others in full a few images
//!   at a time (`parts`), or are read as they are stored (`winograd`).
//!
//! `conv2d` holds the public functions and makes the choice, `weight_layout` says in which order each algorithm reads
//! the weight, `geometry` holds the shape, `padded` copies images with their padding and lists where windows and taps
//! lie in them.

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod bf16;
mod conv2d;
mod forward;
mod geometry;
mod grouped;
pub(super) mod image_lanes;
mod implicit_gemm;
mod input_grad;
mod padded;
mod parts;
mod pointwise;
mod precision;
mod thinned;
mod weight_grad;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
mod weight_grad_narrow;
mod weight_layout;
mod winograd;

pub use conv2d::{conv_transpose2d, conv2d, conv2d_backward_data, conv2d_backward_weight};
pub use geometry::ConvGeom;
