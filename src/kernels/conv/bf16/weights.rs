//! The weight as tiles of bf16 numbers: `[panel of 32 columns][block of channels][step][tile]`.

use super::image::{Layout, Step};
use super::lines;
use crate::base::Elem;
use crate::kernels::bf16::{NR, TILE, bf16, tiles_for};
use crate::kernels::par;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// A weight, `[output channel][input channel][tap]`, of which one kind of channels are the columns of a product; the
/// others are those that are summed.
#[derive(Clone, Copy)]
pub(super) struct Weight<'a> {
    pub w: &'a [Elem],
    /// Output channels, input channels and taps.
    pub shape: [usize; 3],
    /// Whether the input channels are the columns: for the gradient of the input.
    pub backward: bool,
}

/// The numbers of one panel of columns.
pub(super) fn panel_len(layout: &Layout, steps: usize) -> usize {
    layout.blocks() * steps * NR / 16 * TILE
}

impl Weight<'_> {
    pub fn columns(&self) -> usize {
        self.shape[usize::from(self.backward)]
    }

    /// Packs what some steps need.
    pub fn pack(&self, layout: &Layout, steps: &[Step], serial: bool, packed: &mut [bf16]) {
        let lanes = |channels| steps.iter().map(|step| self.lanes(layout.block, channels, step)).collect();
        let rest = layout.channels - layout.blocks().saturating_sub(1) * layout.block;
        let [whole, last]: [Vec<[usize; 32]>; 2] = [layout.block, rest].map(lanes);
        par::chunks(panel_len(layout, steps.len()).max(1), serial, packed, |p, panel| {
            let col = p * NR;
            let tiles = tiles_for(NR.min(self.columns() - col));
            let mut rows = Scratch::take((layout.block * self.shape[2] + 1) * 16);
            let block_len = (steps.len() * tiles * TILE).max(1);
            for (block, panel) in panel.chunks_exact_mut(block_len).take(layout.blocks()).enumerate() {
                let first = block * layout.block;
                let (channels, lanes) =
                    if block + 1 == layout.blocks() { (rest, &last) } else { (layout.block, &whole) };
                for t in 0..tiles {
                    self.rows((first, channels), col + 16 * t, &mut rows);
                    for (at, tiles) in lanes.iter().zip(panel.chunks_exact_mut(tiles * TILE)) {
                        lines::tile(&rows, at, &mut tiles[t * TILE..][..TILE]);
                    }
                }
            }
        });
    }

    /// `[channel][tap][16 columns]`, and a row of zeros.
    fn rows(&self, (first, channels): (usize, usize), col: usize, rows: &mut [Elem]) {
        let [_, inner, taps] = self.shape;
        let cols = 16.min(self.columns() - col);
        if self.backward {
            for (c, rows) in rows.chunks_exact_mut(taps * 16).take(channels).enumerate() {
                let from = &self.w[((first + c) * inner + col) * taps..];
                transpose(cols, taps, from, taps, 0.0, rows, 16);
            }
        } else {
            let from = &self.w[(col * inner + first) * taps..];
            transpose(cols, channels * taps, from, inner * taps, 0.0, rows, 16);
        }
        let zeros = rows.len() - 16;
        rows[zeros..].fill(0.0);
    }

    /// Where the 32 rows of a step begin.
    fn lanes(&self, block: usize, channels: usize, step: &Step) -> [usize; 32] {
        let taps = self.shape[2];
        std::array::from_fn(|lane| {
            let (tap, c) = (step.taps[lane / block], lane % block);
            match tap {
                Some(tap) if c < channels => (c * taps + tap) * 16,
                _ => block * taps * 16,
            }
        })
    }
}
