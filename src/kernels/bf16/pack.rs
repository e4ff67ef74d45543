//! The layouts of the micro-kernel's operands.

use super::microkernel::TILE;
use super::{NR, STEP, bf16, round, tiles_for};
use crate::kernels::gemm::Mat;

/// Numbers that a packed B of `k` rows and `cols` columns takes: panels of [`NR`] columns one after the other.
pub(crate) fn packed_b_len(k: usize, cols: usize) -> usize {
    k.div_ceil(STEP) * tiles_for(cols) * TILE
}

/// Packs one panel of B: its `cols` columns, at most [`NR`], from `col` on, and `kc` rows from `pc` on. The result is
/// `[steps][tiles][16 pairs][16 columns][2]`, with zeros where B ends.
pub(crate) fn pack_b(b: &Mat<'_>, (pc, kc): (usize, usize), (col, cols): (usize, usize), panel: &mut [bf16]) {
    debug_assert!(cols <= NR && panel.len() == packed_b_len(kc, cols));
    for (s, step) in panel.chunks_exact_mut(tiles_for(cols).max(1) * TILE).enumerate() {
        for (t, tile) in step.chunks_exact_mut(TILE).enumerate() {
            for (i, to) in tile.iter_mut().enumerate() {
                let (p, j) = (s * STEP + i / 32 * 2 + i % 2, 16 * t + i % 32 / 2);
                let at = (pc + p) * b.rs + (col + j) * b.cs;
                *to = if p < kc && j < cols { round(b.data[at]) } else { bf16::ZERO };
            }
        }
    }
}

/// Packs `rows` rows of A from `row` on, and `kc` columns from `pc` on: `[steps][rows][32]`, with zeros where A ends.
/// Rows are then [`STEP`] apart, steps `rows * STEP`.
pub(crate) fn pack_a(a: &Mat<'_>, (row, rows): (usize, usize), (pc, kc): (usize, usize), to: &mut [bf16]) {
    debug_assert!(to.len() == kc.div_ceil(STEP) * rows * STEP);
    for (i, to) in to.iter_mut().enumerate() {
        let (p, r) = (i / (rows * STEP) * STEP + i % STEP, i / STEP % rows);
        *to = if p < kc { round(a.data[(row + r) * a.rs + (pc + p) * a.cs]) } else { bf16::ZERO };
    }
}
