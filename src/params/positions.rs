//! Tables of learnt positions that were trained on images of another size.

use ndarray::{ArrayD, Axis, IxDyn, concatenate};

use crate::base::Elem;
use crate::kernels::bicubic_taps;

/// The table of positions [1, T, D] of this name for a model that has another number of them: MMPretrain's
/// `resize_pos_embed`, on both sides for square images. What stands in front of the positions of the image (a class
/// token, a distillation token) stays. `None` where that is not what it is.
pub(super) fn resized(name: &str, table: &ArrayD<Elem>, shape: &[usize]) -> Option<ArrayD<Elem>> {
    let (&[1, from, dims], &[1, to, width]) = (table.shape(), shape) else { return None };
    if !name.ends_with("pos_embed") || dims != width || from == to {
        return None;
    }
    let side = |tokens: usize| Some(tokens.isqrt()).filter(|side| *side > 0 && side * side == tokens);
    let square = |extra: usize| Some((extra, side(from.checked_sub(extra)?)?, side(to.checked_sub(extra)?)?));
    let (extra, from, to) = (0..3).find_map(square)?;
    let (front, grid) = table.view().split_at(Axis(1), extra);
    let grid = grid.to_shape(IxDyn(&[from, from, dims])).ok()?;
    let rows = along(grid.into_owned(), 0, to);
    let image = along(rows, 1, to).into_shape_with_order(IxDyn(&[1, to * to, dims])).ok()?;
    concatenate(Axis(1), &[front, image.view()]).ok()
}

/// So many places along an axis.
fn along(x: ArrayD<Elem>, axis: usize, to: usize) -> ArrayD<Elem> {
    let mut shape = x.shape().to_vec();
    let taps = bicubic_taps(shape[axis], to);
    shape[axis] = to;
    let mut y = ArrayD::zeros(shape);
    for (mut y, taps) in y.axis_iter_mut(Axis(axis)).zip(taps) {
        taps.iter().for_each(|(at, weight)| y.scaled_add(*weight, &x.index_axis(Axis(axis), *at)));
    }
    y
}
