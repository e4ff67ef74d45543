//! Panels of B: NR columns side by side, step after step, padded to whole vectors.

use super::matrix::FullMat;
use super::microkernel::{LANES, NR};
use crate::base::Elem;
use crate::kernels::elementwise::scale;
use crate::kernels::transpose::transpose;

/// The panels of a matrix of `cols` columns: the first column and the width of each.
pub(crate) fn panels(cols: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..cols).step_by(NR).map(move |j| (j, NR.min(cols - j)))
}

/// The width of a panel of `cols` columns in memory: whole vectors.
pub(crate) fn padded(cols: usize) -> usize {
    cols.div_ceil(LANES) * LANES
}

/// Zeros the columns of a packed panel that pad it to whole vectors.
pub(crate) fn zero_padding(panel: &mut [Elem], cols: usize) {
    if !cols.is_multiple_of(LANES) {
        panel.chunks_exact_mut(padded(cols)).for_each(|row| row[cols..].fill(0.0));
    }
}

/// Packs the `cols` columns of `alpha * b` from `col` on, of the `kc` steps from `pc` on.
pub(super) fn pack_panel(
    b: &FullMat<'_>,
    alpha: Elem,
    (pc, kc): (usize, usize),
    (col, cols): (usize, usize),
    panel: &mut [Elem],
) {
    if kc == 0 {
        return;
    }
    let width = padded(cols);
    let panel = &mut panel[..kc * width];
    let at = pc * b.rs + col * b.cs;
    if b.cs == 1 && cols == NR {
        // A length that the compiler knows is two vectors, not a call.
        for (p, panel) in panel.as_chunks_mut::<NR>().0.iter_mut().enumerate() {
            panel.copy_from_slice(&b.data[at + p * b.rs..][..NR]);
        }
    } else if b.cs == 1 {
        for (p, panel) in panel.chunks_exact_mut(width).enumerate() {
            panel[..cols].copy_from_slice(&b.data[at + p * b.rs..][..cols]);
        }
    } else if b.rs == 1 {
        transpose(cols, kc, &b.data[at..], b.cs, 0.0, panel, width);
    } else {
        for (p, panel) in panel.chunks_exact_mut(width).enumerate() {
            panel[..cols].iter_mut().enumerate().for_each(|(j, d)| *d = b.data[at + p * b.rs + j * b.cs]);
        }
    }
    zero_padding(panel, cols);
    if alpha != 1.0 {
        scale(alpha, panel);
    }
}
