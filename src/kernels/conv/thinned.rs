//! Convolutions of 1 x 1 with a stride, the shortcuts of residual networks: of every second row and column, say, they
//! see nothing. What they do see is copied, a quarter of the input, and convolved with a stride of 1; the gradient of
//! the input is spread in turn, with zeros between.

use super::geometry::ConvGeom;
use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::number::Number;
use crate::kernels::par;

/// The convolution over the pixels that `g` sees, where its windows are single pixels with others between.
pub(super) fn thinned(g: &ConvGeom) -> Option<ConvGeom> {
    let leaves_out = g.kernel == [1, 1] && g.padding == [0, 0] && g.stride != [1, 1];
    leaves_out.then(|| ConvGeom { h: g.out[0], w: g.out[1], stride: [1, 1], ..*g })
}

/// The same for the passes that read the input, where its channels are enough to be worth a copy: of the two numbers of
/// channels that were measured, 256 gained by it and 64 lost (docs/bench.md).
pub(super) fn thinned_input(g: &ConvGeom) -> Option<ConvGeom> {
    thinned(g).filter(|_| g.c / g.groups >= 256)
}

/// The pixels of `x` that `g` sees.
pub(super) fn gather<X: Number>(g: &ConvGeom, x: &[X], seen: &mut [Elem]) {
    let ([rows, cols], image) = (g.out, g.h * g.w);
    par::each_index((rows * cols).max(1), seen, |p, seen| {
        for (y, seen) in seen.chunks_exact_mut(cols).enumerate() {
            pick(g.stride[1], &x[p * image + y * g.stride[0] * g.w..][..g.w], seen);
        }
    });
}

/// Puts the gradients of the pixels that `g` sees to their places in `dx`, which has zeros elsewhere.
pub(super) fn spread<X: Number>(g: &ConvGeom, seen: &[Elem], dx: &mut [X]) {
    let [rows, cols] = g.out;
    par::each_index((g.h * g.w).max(1), dx, |p, dx| {
        for (y, dx) in dx.chunks_exact_mut(g.w).enumerate() {
            dx.fill(X::of(0.0));
            if y.is_multiple_of(g.stride[0]) && y / g.stride[0] < rows {
                place(g.stride[1], &seen[(p * rows + y / g.stride[0]) * cols..][..cols], dx);
            }
        }
    });
}

multiversion! {
    /// Every `step`th element.
    fn pick<X: Number>(step: usize, from: &[X], to: &mut [Elem]) {
        if step == 2 {
            let (pairs, last) = from.as_chunks::<2>();
            for (to, pair) in to.iter_mut().zip(pairs) {
                *to = pair[0].wide();
            }
            if let (Some(to), Some(last)) = (to.get_mut(pairs.len()), last.first()) {
                *to = last.wide();
            }
        } else {
            to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, from)| *to = from.wide());
        }
    }
}

multiversion! {
    /// To every `step`th element.
    fn place<X: Number>(step: usize, from: &[Elem], to: &mut [X]) {
        to.iter_mut().step_by(step).zip(from).for_each(|(to, from)| *to = X::of(*from));
    }
}
