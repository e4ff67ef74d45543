//! Winograd's minimal filtering F(4 x 4, 3 x 3), as Lavin and Gray apply it to networks (arXiv:1509.09308).
//!
//! A 4 x 4 tile of a 3 x 3 convolution is `At ((G g Gt) . (Bt d B)) A`: 36 products instead of 144, `d` being the 6 x
//! 6 inputs of the tile. For each of the 36 points of a tile the products of all channels are one matrix product,
//! which the micro-kernel computes. The gradient of the input is the same convolution with flipped taps; the gradient
//! of the weight is the transposed algorithm, `Gt ((A dy At) . (Bt d B)) G`.
//!
//! - `shape`: when the algorithm pays, and the shape as it sees it.
//! - `transforms`: the matrices, on vectors of 16 channels.
//! - `data`: the forward pass and the gradient of the input; `weight_grad`: the gradient of the weight; `passes`: the
//!   three on values as they are stored.

mod data;
mod passes;
mod shape;
mod transforms;
mod weight_grad;

pub(super) use passes::{backward_data, backward_weight, forward};
pub(super) use shape::Shape;
