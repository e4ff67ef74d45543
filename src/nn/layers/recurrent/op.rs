//! One direction of one layer, as an op.

use std::sync::Arc;

use crate::base::{Elem, Error, Result};
use crate::kernels::{
    Cell, RecurrentGeom, RecurrentSaved, RecurrentWeights, recurrent, recurrent_backward,
    recurrent_hidden_grads,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::layers::linear::LinearShape;
use crate::nn::shapes::expect_shape;
use crate::nn::{Var, Work};

/// The weights of one direction of one layer: for the input, for the state, and a bias beside each.
pub(super) struct Weights<'t> {
    pub ih: Var<'t>,
    pub hh: Var<'t>,
    pub bias: Option<[Var<'t>; 2]>,
}

/// How the steps are gone through.
pub(super) struct Course<'t> {
    /// Whether the last step comes first.
    pub reverse: bool,
    /// Of the sequences, if some are shorter.
    pub lengths: Option<Arc<[usize]>>,
    /// The state before the first step, `h` and the `c` of an LSTM, [N, H] each; zeros if empty. The input has a step
    /// more then, which comes first and is not looked at; nor has the output a meaning there.
    pub initial: Vec<Var<'t>>,
    /// Whether the last `c` of an LSTM is the last step of the output, behind the states.
    pub cells: bool,
}

impl<'t> Var<'t> {
    /// The states [T, N, H] that a cell goes through over `self` [T, N, D]; zeros beyond the ends of sequences.
    pub(super) fn recurrent(self, cell: Cell, weights: &Weights<'t>, course: Course<'t>) -> Result<Self> {
        let (x, ih, hh) = (self.value(), weights.ih.value(), weights.hh.value());
        let (&[steps, batch, ins], &[_, hidden]) = (x.shape(), hh.shape()) else {
            return Err(Error::invalid(format!("a recurrent layer got steps of shape {:?}", x.shape())));
        };
        let wide = cell.gates() * hidden;
        expect_shape("the weight of a recurrent layer for its input", ih.shape(), &[wide, ins])?;
        expect_shape("the weight of a recurrent layer for its state", hh.shape(), &[wide, hidden])?;
        let bias = weights.bias.map(|bias| bias.map(Var::value));
        for bias in bias.iter().flatten() {
            expect_shape("the bias of a recurrent layer", bias.shape(), &[wide])?;
        }
        let Course { reverse, lengths, initial, cells } = course;
        let (given, size) = (!initial.is_empty(), batch * hidden);
        let computed = steps - usize::from(given).min(steps);
        let of_states = Work::sums(computed * batch * wide, hidden);
        self.tape.worked(Work::sums(computed * batch * wide, ins + hidden));
        let g = RecurrentGeom { cell, steps, batch, ins, hidden, reverse, given };
        let mut h = self.tape.take((steps + usize::from(cells)) * size);
        let (mut gates, mut state) = (self.tape.take(g.gates_len()), self.tape.take(g.state_len()));
        if let Some(t) = g.given_step() {
            for (to, from) in [&mut h, &mut state].into_iter().zip(&initial) {
                to[t * size..][..size].copy_from_slice(slice(&from.value()));
            }
        }
        let bias = bias.as_ref().map(|bias| bias.each_ref().map(slice));
        let w = RecurrentWeights { ih: slice(&ih), hh: slice(&hh), bias };
        let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
        recurrent(&g, lengths.as_deref(), slice(&x), w, saved, &mut h[..steps * size]);
        if cells {
            last_cells(&g, lengths.as_deref(), &state, &mut h[steps * size..]);
        }
        let h = tensor(&[steps + usize::from(cells), batch, hidden], h);

        let mut inputs = vec![self, weights.ih, weights.hh];
        inputs.extend(weights.bias.into_iter().flatten());
        let first_state = inputs.len();
        inputs.extend(initial);
        if !inputs.iter().any(|v| v.requires_grad()) {
            self.tape.give(state);
            self.tape.give(gates);
            return Ok(self.tape.input(h));
        }
        let (has_bias, states) = (weights.bias.is_some(), h.clone());
        Ok(self.tape.node("recurrent", h, &inputs, move |mut dy, grads| {
            let w = RecurrentWeights { ih: slice(&ih), hh: slice(&hh), bias: None };
            let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
            let (dh, dc) = dy.split_at_mut(steps * size);
            let states = &slice(&states)[..steps * size];
            recurrent_backward(&g, lengths.as_deref(), w, states, saved, [dh, dc]);
            if let Some(t) = g.given_step() {
                let all: [&[Elem]; 2] = [&dy, &state];
                let own = if cell == Cell::Lstm { &all[..] } else { &all[..1] };
                for (i, d) in own.iter().enumerate() {
                    let mut first = grads.pool.take(size);
                    first.copy_from_slice(&d[t * size..][..size]);
                    grads.add(first_state + i, first);
                }
            }
            grads.pool.give(dy);
            let s = LinearShape { rows: steps * batch, ins, outs: wide };
            grads.weights_of_linear(1, None, s, (&gates).into(), slice(&x).into());
            let mut dhh = grads.pool.take(hh.len());
            let mut dbias = has_bias.then(|| [(); 2].map(|()| grads.pool.take(wide)));
            let found = [&gates[..], &state, states];
            recurrent_hidden_grads(
                &g,
                found,
                &mut dhh,
                dbias.as_mut().map(|d| d.each_mut().map(|d| &mut d[..])),
            );
            // The gradients of the states, from step to step, and those of their weight.
            grads.worked(of_states + of_states);
            grads.add(2, dhh);
            for (i, dbias) in (3..).zip(dbias.into_iter().flatten()) {
                grads.add(i, dbias);
            }
            if grads.wants(0) {
                grads.input_of_linear(0, s, (&gates).into(), slice(&ih));
            }
            grads.pool.give(state);
            grads.pool.give(gates);
        }))
    }
}

/// The `c` [N, H] of each sequence behind its last step.
fn last_cells(g: &RecurrentGeom, lengths: Option<&[usize]>, state: &[Elem], last: &mut [Elem]) {
    if g.hidden == 0 {
        return;
    }
    for (row, last) in last.chunks_exact_mut(g.hidden).enumerate() {
        let t = match lengths.and_then(|lengths| lengths.get(row)) {
            _ if g.reverse => 0,
            Some(length) => length.saturating_sub(1),
            None => g.steps.saturating_sub(1),
        };
        last.copy_from_slice(&state[(t * g.batch + row) * g.hidden..][..g.hidden]);
    }
}
