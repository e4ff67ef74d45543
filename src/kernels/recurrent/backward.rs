//! From the last step to the first.

use super::cell::{gru_backward, lstm_backward};
use super::{Cell, RecurrentGeom, RecurrentSaved, RecurrentWeights, ended, row_of};
use crate::base::Elem;
use crate::kernels::elementwise::act_backward;
use crate::kernels::gemm::{Epilogue, Mat, MatMut, RightOperand, gemm};
use crate::kernels::number::Numbers;
use crate::kernels::reduce::col_sums;
use crate::kernels::scratch::Scratch;

/// The backward pass of [`recurrent`](super::recurrent) through all steps: `dy` is the gradient of `h`, and `saved`
/// becomes the gradients of the products. `dc` is the gradient of an LSTM's last `c`, if it has one. Where the first
/// step is given, `dy` ends with the gradient of its `h`, and `saved.state` with that of its `c`.
pub fn recurrent_backward(
    g: &RecurrentGeom,
    lengths: Option<&[usize]>,
    w: RecurrentWeights<'_>,
    h: &[Elem],
    saved: RecurrentSaved<'_>,
    [dy, dc]: [&mut [Elem]; 2],
) {
    assert!(dc.is_empty() || dc.len() == g.size(), "the gradient of a state of {g:?}");
    assert!(h.len() == g.steps * g.size() && dy.len() == h.len(), "slices do not fit {g:?}");
    assert!(saved.gates.len() == g.gates_len() && saved.state.len() == g.state_len(), "not of {g:?}");
    if h.is_empty() {
        return;
    }
    let RecurrentSaved { gates, state } = saved;
    let wide = g.batch * g.gates();
    let [all, new] = g.of_state(w.hh).map(|hh| RightOperand::new(hh, g.batch));
    let (mut zeros, mut carried) = (Scratch::take(g.hidden), Scratch::take(g.size()));
    zeros.fill(0.0);
    // The gradient of c that comes from the step behind.
    if dc.is_empty() {
        carried.fill(0.0)
    } else {
        carried.copy_from_slice(dc)
    }
    for t in g.order().rev() {
        let (dh, dbefore) = g.step_mut(dy, t);
        let gates = &mut gates[t * wide..][..wide];
        let (now, before) = g.step(h, t);
        match g.cell {
            Cell::Tanh | Cell::Relu => {
                gates.copy_from_slice(dh);
                act_backward(g.act(), now, gates);
                for (row, gates) in gates.chunks_exact_mut(g.hidden).enumerate() {
                    if ended(lengths, row, t) {
                        gates.fill(0.0);
                    }
                }
                state_grad(g, gates, &all, g.hidden, dbefore);
            }
            Cell::Lstm => {
                let (c, c_before) = g.step(state, t);
                let zeros = &zeros;
                g.each_row(gates, dh, &mut carried, |row, gates, dh, dc| match ended(lengths, row, t) {
                    true => gates.fill(0.0),
                    false => {
                        lstm_backward(gates, row_of(c_before, row, zeros), &c[row * g.hidden..], dh, dc);
                    }
                });
                state_grad(g, gates, &all, 4 * g.hidden, dbefore);
            }
            Cell::Gru => {
                let (own, zeros, dh) = (&mut state[t * g.size()..][..g.size()], &zeros, &*dh);
                // Before the first step nothing is asked for: what is added to `carried` is not read.
                let first = dbefore.is_empty();
                let direct = if first { &mut carried[..] } else { &mut *dbefore };
                g.each_row(gates, own, direct, |row, gates, state, dbefore| match ended(lengths, row, t) {
                    true => [gates, state].into_iter().for_each(|part| part.fill(0.0)),
                    false => {
                        let dh = &dh[row * g.hidden..][..g.hidden];
                        gru_backward(gates, row_of(before, row, zeros), dh, state, dbefore);
                    }
                });
                state_grad(g, gates, &all, 2 * g.hidden, dbefore);
                if !first {
                    let (d, to) =
                        (Mat::new(&*own, g.batch, g.hidden), MatMut::new(dbefore, g.batch, g.hidden));
                    new.product(d, 1.0, to, Epilogue::default());
                }
            }
        }
    }
    if let Some(t) = g.given_step() {
        gates[t * wide..][..wide].fill(0.0);
        match g.cell {
            Cell::Lstm => state[t * g.size()..][..g.size()].copy_from_slice(&carried),
            Cell::Gru => state[t * g.size()..][..g.size()].fill(0.0),
            Cell::Tanh | Cell::Relu => {}
        }
    }
}

/// Adds the gradient that the first `cols` gates of a step give to the state before.
fn state_grad(g: &RecurrentGeom, gates: &[Elem], hh: &RightOperand<'_>, cols: usize, dbefore: &mut [Elem]) {
    if !dbefore.is_empty() {
        let d = Mat { data: Numbers::Full(gates), rows: g.batch, cols, rs: g.gates(), cs: 1 };
        let to = MatMut::new(dbefore, g.batch, g.hidden);
        hh.product(d, 1.0, to, Epilogue::default());
    }
}

/// The gradients of the state's weights [gates H, H], and of both biases, that of the input first, from what
/// [`recurrent_backward`] left in `gates` and `state`.
pub fn recurrent_hidden_grads(
    g: &RecurrentGeom,
    [gates, state, h]: [&[Elem]; 3],
    dhh: &mut [Elem],
    dbias: Option<[&mut [Elem]; 2]>,
) {
    let (wide, hidden) = (g.gates(), g.hidden);
    assert!(dhh.len() == wide * hidden, "the gradient of a weight of {g:?}");
    // The last step is before none, and the first one has none before it.
    let rows = g.steps.saturating_sub(1) * g.batch;
    let (from, before) =
        if g.reverse { (0, g.batch.min(g.steps * g.batch)) } else { (g.steps * g.batch - rows, 0) };
    let before = Mat::new(&h[before * hidden..], rows, hidden);
    let plain = if g.cell == Cell::Gru { 2 * hidden } else { wide };
    let (own, new) = dhh.split_at_mut(plain * hidden);
    let d = Mat { data: Numbers::Full(&gates[from * wide..]), rows, cols: plain, rs: wide, cs: 1 };
    gemm(1.0, d.t(), before, 0.0, MatMut::new(own, plain, hidden), Epilogue::default());
    if g.cell == Cell::Gru {
        let d = Mat::new(&state[from * hidden..], rows, hidden);
        gemm(1.0, d.t(), before, 0.0, MatMut::new(new, hidden, hidden), Epilogue::default());
    }
    if let Some([of_input, of_state]) = dbias {
        col_sums(gates, 0.0, of_input);
        // Both biases are added to the same sums, except those of a GRU's n.
        of_state.copy_from_slice(of_input);
        if g.cell == Cell::Gru {
            col_sums(state, 0.0, &mut of_state[plain..]);
        }
    }
}
