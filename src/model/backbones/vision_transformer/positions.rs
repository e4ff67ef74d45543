//! Learnt positions for images of another size.

use crate::base::{Elem, Tensor};
use crate::kernels::bicubic_taps;
use crate::nn::{Tape, Var};

/// The positions [1, T, D] of a map of `from` places for one of `to` places, by cubic parabolas along both axes: MMPretrain's
/// `resize_pos_embed`. What stands in front of those of the map stays.
pub(super) fn resized<'t>(positions: Var<'t>, from: [usize; 2], to: [usize; 2]) -> Var<'t> {
    if from == to {
        return positions;
    }
    let (tape, shape) = (positions.tape(), positions.shape());
    let &[_, tokens, dims] = &shape[..] else { return positions };
    let extra = tokens.saturating_sub(from[0] * from[1]);
    let grid = positions.slice(1, extra..).reshape(&[from[0], from[1] * dims]);
    let rows = weights(tape, from[0], to[0]).matmul(grid).reshape(&[to[0], from[1], dims]).transpose(0, 1);
    let turned = rows.reshape(&[from[1], to[0] * dims]);
    let both = weights(tape, from[1], to[1]).matmul(turned).reshape(&[to[1], to[0], dims]).transpose(0, 1);
    let map = both.reshape(&[1, to[0] * to[1], dims]);
    if extra == 0 { map } else { tape.concat(&[positions.slice(1, ..extra), map], 1) }
}

/// What each of `to` places is made of, [to, from].
fn weights(tape: &Tape, from: usize, to: usize) -> Var<'_> {
    let mut weights = Tensor::zeros(vec![to, from]);
    for (row, taps) in bicubic_taps(from, to).into_iter().enumerate() {
        taps.iter().for_each(|(at, weight): &(usize, Elem)| weights[[row, *at]] += *weight);
    }
    tape.input(weights)
}
