//! Convolutions of bf16 numbers: implicit products in tiles.
//!
//! Where tiles multiply hundreds of pairs an instruction, a convolution is about moving memory. Images are rounded and
//! copied once, a cache's worth at a time, with their channels last and their padding around them (`image`); a tap is
//! an offset into that copy, and no im2col matrix is written. Sums become planes again as those of f32 do. The gradient
//! of the input is the same product with the roles of the channels exchanged (`data`). The gradient of the weight sums
//! over pixels, 32 a step, so there the copies are planes (`weight_grad`).
//!
//! - `axis`: what outputs see, along one axis; `image`: the copies, and the steps of a product over them; `lines`: how
//!   numbers become bf16; `weights`: the packed weight.
//! - `data`: the forward pass and the gradient of the input; `weight_grad`: the gradient of the weight.
//! - `pointwise`: the former for kernels of one pixel on large maps, which multiply planes as they lie.
//!
//! A fold of taps, and rows without gaps, multiply some pixels by zeros: where those are infinite or NaN, results
//! beside them are NaN as well.

mod axis;
mod data;
mod image;
mod lines;
mod pointwise;
mod weight_grad;
mod weights;

use super::geometry::ConvGeom;
use super::thinned::{gather, spread, thinned};
use crate::base::Elem;
use crate::kernels::bf16::bf16;
use crate::kernels::number::{Number, Numbers, NumbersMut};
use crate::kernels::scratch::Scratch;
pub(super) use weight_grad::backward_weight;

/// `y`, overwritten; `epilogue(at, pixels)` is called on each finished piece of a plane with its place in `y`.
pub(super) fn forward(
    g: &ConvGeom,
    x: Numbers<'_>,
    w: &[Elem],
    y: NumbersMut<'_>,
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    match (x, y) {
        (Numbers::Full(x), NumbersMut::Full(y)) => forward_of(g, x, w, y, epilogue),
        (Numbers::Full(x), NumbersMut::Half(y)) => forward_of(g, x, w, y, epilogue),
        (Numbers::Half(x), NumbersMut::Full(y)) => forward_of(g, x, w, y, epilogue),
        (Numbers::Half(x), NumbersMut::Half(y)) => forward_of(g, x, w, y, epilogue),
    }
}

fn forward_of<X: Number, Y: Number>(
    g: &ConvGeom,
    x: &[X],
    w: &[Elem],
    y: &mut [Y],
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    if let Some(thin) = thinned(g).filter(pointwise::fits) {
        let mut seen = Scratch::take(thin.x_len());
        gather(g, x, &mut seen);
        let seen = &seen[..];
        pointwise::forward(&thin, seen, w, y, epilogue);
    } else if pointwise::fits(g) {
        pointwise::forward(g, x, w, y, epilogue);
    } else {
        data::forward(g, x, w, y, epilogue);
    }
}

/// `dx`, overwritten.
pub(super) fn backward_data(g: &ConvGeom, dy: Numbers<'_>, w: &[Elem], dx: NumbersMut<'_>) {
    match (dy, dx) {
        (Numbers::Full(dy), NumbersMut::Full(dx)) => backward_of(g, dy, w, dx),
        (Numbers::Full(dy), NumbersMut::Half(dx)) => backward_of(g, dy, w, dx),
        (Numbers::Half(dy), NumbersMut::Full(dx)) => backward_of(g, dy, w, dx),
        (Numbers::Half(dy), NumbersMut::Half(dx)) => backward_of(g, dy, w, dx),
    }
}

fn backward_of<D: Number, X: Number>(g: &ConvGeom, dy: &[D], w: &[Elem], dx: &mut [X]) {
    if let Some(thin) = thinned(g) {
        let mut seen = Scratch::take(thin.x_len());
        if pointwise::fits(&thin) {
            pointwise::backward_data(&thin, dy, w, &mut seen[..]);
        } else {
            data::backward_data(&thin, dy, w, &mut seen[..]);
        }
        spread(g, &seen, dx);
    } else if pointwise::fits(g) {
        pointwise::backward_data(g, dy, w, dx);
    } else {
        data::backward_data(g, dy, w, dx);
    }
}

/// The two numbers of each element.
#[allow(unsafe_code)]
fn numbers(elements: &[Elem]) -> &[bf16] {
    // SAFETY: an element is as large as two numbers and at least as aligned; any bits are numbers.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), 2 * elements.len()) }
}

/// The two numbers of each element, to be written.
#[allow(unsafe_code)]
fn numbers_mut(elements: &mut [Elem]) -> &mut [bf16] {
    // SAFETY: as in `numbers`; any bits are an element as well.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), 2 * elements.len()) }
}
