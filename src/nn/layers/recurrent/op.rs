//! One direction of one layer, as an op.

use std::sync::Arc;

use crate::base::{Error, Result};
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

impl<'t> Var<'t> {
    /// The states [T, N, H] that a cell goes through over `self` [T, N, D], from the last step to the first if
    /// `reverse`; zeros beyond the ends of sequences.
    pub(super) fn recurrent(
        self,
        cell: Cell,
        weights: &Weights<'t>,
        reverse: bool,
        lengths: Option<Arc<[usize]>>,
    ) -> Result<Self> {
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
        self.tape.worked(Work::sums(steps * batch * wide, ins + hidden));
        let g = RecurrentGeom { cell, steps, batch, ins, hidden, reverse };
        let mut h = self.tape.take(steps * batch * hidden);
        let (mut gates, mut state) = (self.tape.take(g.gates_len()), self.tape.take(g.state_len()));
        let bias = bias.as_ref().map(|bias| bias.each_ref().map(slice));
        let w = RecurrentWeights { ih: slice(&ih), hh: slice(&hh), bias };
        let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
        recurrent(&g, lengths.as_deref(), slice(&x), w, saved, &mut h);
        let h = tensor(&[steps, batch, hidden], h);

        let mut inputs = vec![self, weights.ih, weights.hh];
        inputs.extend(weights.bias.into_iter().flatten());
        if !inputs.iter().any(|v| v.requires_grad()) {
            self.tape.give(state);
            self.tape.give(gates);
            return Ok(self.tape.input(h));
        }
        let (has_bias, states) = (weights.bias.is_some(), h.clone());
        Ok(self.tape.node("recurrent", h, &inputs, move |mut dy, grads| {
            let w = RecurrentWeights { ih: slice(&ih), hh: slice(&hh), bias: None };
            let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
            recurrent_backward(&g, lengths.as_deref(), w, slice(&states), saved, &mut dy);
            grads.pool.give(dy);
            let s = LinearShape { rows: steps * batch, ins, outs: wide };
            grads.weights_of_linear(1, has_bias.then_some(3), s, &gates, slice(&x));
            let (mut dhh, mut dbias) = (grads.pool.take(hh.len()), grads.pool.take(wide));
            let found = [&gates[..], &state, slice(&states)];
            recurrent_hidden_grads(&g, found, &mut dhh, has_bias.then_some(&mut dbias));
            grads.add(2, dhh);
            match has_bias {
                true => grads.add(4, dbias),
                false => grads.pool.give(dbias),
            }
            if grads.wants(0) {
                grads.input_of_linear(0, s, &gates, slice(&ih));
            }
            grads.pool.give(state);
            grads.pool.give(gates);
        }))
    }
}
