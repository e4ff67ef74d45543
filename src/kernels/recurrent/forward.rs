//! From the first step to the last.

use super::cell::{gru, lstm};
use super::{Cell, RecurrentGeom, RecurrentSaved, RecurrentWeights, ended, row_of};
use crate::base::Elem;
use crate::kernels::elementwise::{act_forward, add};
use crate::kernels::gemm::{Bias, Epilogue, Mat, MatMut, RightOperand, gemm};
use crate::kernels::scratch::Scratch;

/// `h` [T, N, H] of `x` [T, N, D], from a state of zeros or the one that is given. Where sequences have `lengths`, `h` is 0 beyond their ends.
pub fn recurrent(
    g: &RecurrentGeom,
    lengths: Option<&[usize]>,
    x: &[Elem],
    w: RecurrentWeights<'_>,
    saved: RecurrentSaved<'_>,
    h: &mut [Elem],
) {
    g.check(x, &w, &saved, h);
    if h.is_empty() {
        return;
    }
    let RecurrentSaved { gates, state } = saved;
    inputs(g, x, &w, gates);
    let [all, new] = g.of_state(w.hh).map(|hh| RightOperand::new(hh.t(), g.batch));
    let (wide, mut zeros) = (g.batch * g.gates(), Scratch::take(g.hidden));
    zeros.fill(0.0);
    for t in g.order() {
        let (h, before) = g.step_mut(h, t);
        let gates = &mut gates[t * wide..][..wide];
        match g.cell {
            Cell::Tanh | Cell::Relu => {
                add_state(g, before, &all, g.hidden, gates);
                act_forward(g.act(), gates, h);
                for (row, h) in h.chunks_exact_mut(g.hidden).enumerate() {
                    if ended(lengths, row, t) {
                        h.fill(0.0);
                    }
                }
            }
            Cell::Lstm => {
                add_state(g, before, &all, 4 * g.hidden, gates);
                let (c, c_before) = g.step_mut(state, t);
                let c_before = &*c_before;
                g.each_row(gates, c, h, |row, gates, c, h| match ended(lengths, row, t) {
                    true => [gates, c, h].into_iter().for_each(|part| part.fill(0.0)),
                    false => lstm(gates, row_of(c_before, row, &zeros), c, h),
                });
            }
            Cell::Gru => {
                let (own, before) = (&mut state[t * g.size()..][..g.size()], &*before);
                add_state(g, before, &all, 2 * g.hidden, gates);
                state_of_n(g, before, &new, w.bias.map(|[_, hh]| &hh[2 * g.hidden..]), own);
                g.each_row(gates, own, h, |row, gates, state, h| match ended(lengths, row, t) {
                    true => [gates, state, h].into_iter().for_each(|part| part.fill(0.0)),
                    false => gru(gates, row_of(before, row, &zeros), state, h),
                });
            }
        }
    }
}

/// What the input adds to the gates of all steps, with both biases; that of a GRU's n in the state stays out.
fn inputs(g: &RecurrentGeom, x: &[Elem], w: &RecurrentWeights<'_>, gates: &mut [Elem]) {
    let (rows, wide) = (g.steps * g.batch, g.gates());
    let mut sum = Scratch::take(wide);
    let bias = w.bias.map_or(Bias::None, |[ih, hh]| {
        let both = if g.cell == Cell::Gru { 2 * g.hidden } else { wide };
        sum.copy_from_slice(ih);
        add(&ih[..both], &hh[..both], &mut sum[..both]);
        Bias::Cols(&sum)
    });
    let (x, ih) = (Mat::new(x, rows, g.ins), Mat::new(w.ih, wide, g.ins));
    gemm(1.0, x, ih.t(), 0.0, MatMut::new(gates, rows, wide), Epilogue { bias, ..Epilogue::default() });
}

/// Adds the product of the state before to the first `cols` gates of a step.
fn add_state(g: &RecurrentGeom, before: &[Elem], hh: &RightOperand<'_>, cols: usize, gates: &mut [Elem]) {
    if !before.is_empty() {
        let to = MatMut { data: gates.into(), rows: g.batch, cols, rs: g.gates() };
        hh.product(Mat::new(before, g.batch, g.hidden), 1.0, to, Epilogue::default());
    }
}

/// What the state before adds to n of a GRU.
fn state_of_n(
    g: &RecurrentGeom,
    before: &[Elem],
    hh: &RightOperand<'_>,
    bias: Option<&[Elem]>,
    state: &mut [Elem],
) {
    if before.is_empty() {
        let rows = state.chunks_exact_mut(g.hidden);
        return match bias {
            Some(bias) => rows.for_each(|row| row.copy_from_slice(bias)),
            None => state.fill(0.0),
        };
    }
    let bias = bias.map_or(Bias::None, Bias::Cols);
    let to = MatMut::new(state, g.batch, g.hidden);
    let before = Mat::new(before, g.batch, g.hidden);
    hh.product(before, 0.0, to, Epilogue { bias, ..Epilogue::default() });
}
