//! The three passes of a convolution, on values as they are stored: rounded ones are widened where channels become
//! lanes, and results are rounded where they become planes again.

use super::data::{Taps, flipped_taps, run, taps};
use super::shape::Shape;
use super::weight_grad;
use crate::base::Elem;
use crate::kernels::conv::geometry::ConvGeom;
use crate::kernels::gemm::round_in_place;
use crate::kernels::number::{Numbers, NumbersMut};
use crate::kernels::precision::Precision;

/// `y`, overwritten, with weights rounded to `precision`; `epilogue(at, pixels)` is called on each finished piece of a plane
/// with its place in `y`.
pub(in crate::kernels::conv) fn forward(
    s: &Shape,
    (g, precision): (&ConvGeom, Precision),
    x: Numbers<'_>,
    w: &[Elem],
    y: NumbersMut<'_>,
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    let taps = |p: usize, width: usize, panel: &mut [Elem]| {
        taps(g, w, p, width, panel);
        round_in_place(precision, panel);
    };
    run_as_stored(s, &taps, x, y, epilogue);
}

/// `dx`, overwritten, with weights rounded to `precision`.
pub(in crate::kernels::conv) fn backward_data(
    s: &Shape,
    (g, precision): (&ConvGeom, Precision),
    dy: Numbers<'_>,
    w: &[Elem],
    dx: NumbersMut<'_>,
) {
    let taps = |p: usize, width: usize, panel: &mut [Elem]| {
        flipped_taps(g, w, p, width, panel);
        round_in_place(precision, panel);
    };
    run_as_stored(s, &taps, dy, dx, |_, _| {});
}

/// `dw = beta * dw + gradient`.
pub(in crate::kernels::conv) fn backward_weight(
    s: &Shape,
    x: Numbers<'_>,
    dy: Numbers<'_>,
    beta: Elem,
    dw: &mut [Elem],
) {
    match (x, dy) {
        (Numbers::Full(x), Numbers::Full(dy)) => weight_grad::backward_weight(s, x, dy, beta, dw),
        (Numbers::Full(x), Numbers::Half(dy)) => weight_grad::backward_weight(s, x, dy, beta, dw),
        (Numbers::Half(x), Numbers::Full(dy)) => weight_grad::backward_weight(s, x, dy, beta, dw),
        (Numbers::Half(x), Numbers::Half(dy)) => weight_grad::backward_weight(s, x, dy, beta, dw),
    }
}

fn run_as_stored(
    s: &Shape,
    taps: &Taps<'_>,
    x: Numbers<'_>,
    y: NumbersMut<'_>,
    epilogue: impl Fn(usize, &mut [Elem]) + Sync + Send,
) {
    match (x, y) {
        (Numbers::Full(x), NumbersMut::Full(y)) => run(s, taps, x, y, epilogue),
        (Numbers::Full(x), NumbersMut::Half(y)) => run(s, taps, x, y, epilogue),
        (Numbers::Half(x), NumbersMut::Full(y)) => run(s, taps, x, y, epilogue),
        (Numbers::Half(x), NumbersMut::Half(y)) => run(s, taps, x, y, epilogue),
    }
}
