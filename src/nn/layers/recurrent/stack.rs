//! Layers upon layers, each in one direction or in both.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::kernels::Cell;
use crate::nn::layers::over_time::last_steps;
use crate::nn::shapes::expect_shape;
use crate::nn::{Child, ChildMut, Forward, ModuleTree, Param, Var};

use super::op::Weights;
use super::pass::{Pass, RecurrentState};

/// The keys of an [`LSTM`](super::LSTM) or [`GRU`](super::GRU) in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RecurrentConfig {
    /// Features of a step of the input.
    #[schemars(range(min = 1))]
    pub input_size: usize,
    /// Numbers of the state.
    #[schemars(range(min = 1))]
    pub hidden_size: usize,
    /// Layers, each of which takes what the one below gives.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub num_layers: usize,
    /// Whether offsets are added.
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
    /// Probability with which dropout zeroes what goes from one layer to the next.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f64,
    /// Whether each layer goes over the steps in both directions; their states stand side by side.
    #[serde(default)]
    pub bidirectional: bool,
    /// What it gives: sequence, the states of all steps [N, T, H]; last, those after the last step of each sequence
    /// [N, H], in the direction of the layer; state, those of all layers and directions [N, layers · directions, H].
    #[serde(default)]
    pub output: RecurrentOutput,
    /// Whether the states begin as a second input says, [N, layers · directions, H], and the cells of an LSTM as a third
    /// one, if there is one; as zeros if not.
    #[serde(default)]
    pub initial_states: bool,
}

fn one() -> usize {
    1
}

/// What a recurrent layer gives to the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecurrentOutput {
    /// The states of all steps, [N, T, H]: PyTorch's `output`.
    #[default]
    Sequence,
    /// The state after the last step, [N, H]: PyTorch's `h_n` of the last layer. Of two directions side by side the
    /// second one ends at the first step.
    Last,
    /// The state after the last step of every layer and direction, [N, layers · directions, H]: PyTorch's `h_n` with the
    /// batch first.
    State,
}

impl RecurrentConfig {
    /// One layer in one direction, with offsets and without dropout, that gives all states.
    pub fn new(input_size: usize, hidden_size: usize) -> Self {
        Self {
            input_size,
            hidden_size,
            num_layers: 1,
            bias: true,
            dropout: 0.0,
            bidirectional: false,
            output: RecurrentOutput::Sequence,
            initial_states: false,
        }
    }
}

/// The weights of one direction of one layer, with PyTorch's names.
struct Direction {
    suffix: String,
    weight_ih: Param,
    weight_hh: Param,
    bias: Option<[Param; 2]>,
}

/// All layers.
pub(super) struct Stack {
    pub cell: Cell,
    pub config: RecurrentConfig,
    directions: Vec<Direction>,
}

impl Stack {
    pub fn new(cell: Cell, config: RecurrentConfig) -> Self {
        let both = if config.bidirectional { 2 } else { 1 };
        let hidden = config.hidden_size;
        let wide = hidden.saturating_mul(cell.gates());
        let direction = |at: usize| {
            let layer = at / both;
            let ins = if layer == 0 { config.input_size } else { hidden.saturating_mul(both) };
            let param = |shape: &[usize]| Param::fan_in(shape, hidden);
            Direction {
                suffix: format!("_l{layer}{}", if at % both == 1 { "_reverse" } else { "" }),
                weight_ih: param(&[wide, ins]),
                weight_hh: param(&[wide, hidden]),
                bias: config.bias.then(|| [param(&[wide]), param(&[wide])]),
            }
        };
        let directions = (0..config.num_layers.saturating_mul(both)).map(direction).collect();
        Self { cell, config, directions }
    }

    /// What the layers give for `x` [N, T, D], and optionally the states that they begin with.
    pub fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, initial) = match *xs {
            [x] if !self.config.initial_states => (x, None),
            [x, h] => (x, Some(RecurrentState { h, c: None })),
            [x, h, c] if self.cell == Cell::Lstm => (x, Some(RecurrentState { h, c: Some(c) })),
            _ => {
                let most = if self.cell == Cell::Lstm { ", and c" } else { "" };
                return Err(Error::invalid(format!(
                    "a recurrent layer takes sequences, the states h to begin with{most}, and gets {} inputs",
                    xs.len()
                )));
            }
        };
        let (lengths, output) = (self.lengths(x, cx)?, self.config.output);
        if output == RecurrentOutput::State {
            return Ok(self.forward_states(x, initial, cx)?.1.h);
        }
        let (y, _) = self.run(x, initial, false, cx)?;
        match (output, self.config.bidirectional) {
            (RecurrentOutput::Sequence | RecurrentOutput::State, _) => Ok(y.transpose(0, 1)),
            (RecurrentOutput::Last, false) => last_steps(y, lengths.as_deref()),
            (RecurrentOutput::Last, true) => {
                let hidden = self.config.hidden_size;
                let last = last_steps(y.slice(-1, ..hidden), lengths.as_deref())?;
                Ok(y.tape().concat(&[last, y.slice(-1, hidden..).select(0, 0)], -1))
            }
        }
    }

    /// The states of all steps [N, T, directions · H], and those behind the last ones.
    pub fn forward_states<'t>(
        &mut self,
        x: Var<'t>,
        initial: Option<RecurrentState<'t>>,
        cx: &mut Forward<'_>,
    ) -> Result<(Var<'t>, RecurrentState<'t>)> {
        let (y, states) = self.run(x, initial, true, cx)?;
        let (tape, both) = (y.tape(), |part: fn(&RecurrentState<'t>) -> Option<Var<'t>>| -> Vec<_> {
            states.iter().filter_map(part).collect()
        });
        let (h, c) = (both(|state| Some(state.h)), both(|state| state.c));
        let c = (!c.is_empty()).then(|| tape.stack(&c, 1));
        Ok((y.transpose(0, 1), RecurrentState { h: tape.stack(&h, 1).checked()?, c }))
    }

    /// The lengths of the sequences `x` [N, T, D], if some are shorter.
    fn lengths(&self, x: Var<'_>, cx: &Forward<'_>) -> Result<Option<Arc<[usize]>>> {
        let ins = self.config.input_size;
        let &[n, steps, features] = &x.shape()[..] else {
            return Err(Error::invalid(format!(
                "a recurrent layer wants sequences of shape [N, T, {ins}], got an input of shape {:?}",
                x.shape()
            )));
        };
        if features != ins || steps == 0 {
            return Err(Error::invalid(format!(
                "a recurrent layer of {ins} features got an input of shape {:?}: its last axis must be {ins}, and there must \
                 be a step",
                x.shape()
            )));
        }
        let lengths = cx.lengths(n, steps)?;
        match lengths.iter().flat_map(|lengths| lengths.iter()).position(|length| *length == 0) {
            None => Ok(lengths),
            Some(at) => Err(Error::invalid(format!(
                "sequence {at} of the batch has the length 0, and a recurrent layer has no state of it: leave it out of \
                 the data, or give it a step of its own"
            ))),
        }
    }

    /// The states of all steps [T, N, directions · H], and, if they are asked for, those behind the last steps of each
    /// layer and direction, [N, H].
    fn run<'t>(
        &mut self,
        x: Var<'t>,
        initial: Option<RecurrentState<'t>>,
        ends: bool,
        cx: &mut Forward<'_>,
    ) -> Result<(Var<'t>, Vec<RecurrentState<'t>>)> {
        let (tape, lengths) = (x.tape(), self.lengths(x, cx)?);
        let n = x.shape()[0];
        let both = if self.config.bidirectional { 2 } else { 1 };
        if let Some(initial) = &initial {
            let wanted = [n, self.directions.len(), self.config.hidden_size];
            for state in [Some(initial.h), initial.c].into_iter().flatten() {
                expect_shape("the states that a recurrent layer begins with", &state.shape(), &wanted)?;
            }
        }
        let (mut x, mut all) = (x.transpose(0, 1), Vec::new());
        for (layer, directions) in self.directions.chunks(both).enumerate() {
            if layer > 0 && cx.training {
                x = x.dropout(self.config.dropout, cx.rng);
            }
            let mut states = Vec::with_capacity(both);
            for (reverse, own) in [false, true].into_iter().zip(directions) {
                let bias = own.bias.as_ref().map(|bias| bias.each_ref().map(|b| tape.param(b)));
                let weights =
                    Weights { ih: tape.param(&own.weight_ih), hh: tape.param(&own.weight_hh), bias };
                let begin = initial.map(|initial| initial.of(layer * both + usize::from(reverse)));
                let pass = Pass { cell: self.cell, reverse, lengths: lengths.clone(), ends };
                let (y, last) = pass.over(x, &weights, begin)?;
                states.push(y);
                all.extend(last);
            }
            x = if let [one] = states[..] { one } else { tape.concat(&states, -1) };
        }
        Ok((x, all))
    }
}

impl ModuleTree for Stack {
    fn type_name(&self) -> &'static str {
        "RNNBase"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        for own in &self.directions {
            let suffix = &own.suffix;
            f(&format!("weight_ih{suffix}"), Child::Param(&own.weight_ih));
            f(&format!("weight_hh{suffix}"), Child::Param(&own.weight_hh));
            if let Some([ih, hh]) = &own.bias {
                f(&format!("bias_ih{suffix}"), Child::Param(ih));
                f(&format!("bias_hh{suffix}"), Child::Param(hh));
            }
        }
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        for own in &mut self.directions {
            let suffix = &own.suffix;
            f(&format!("weight_ih{suffix}"), ChildMut::Param(&mut own.weight_ih));
            f(&format!("weight_hh{suffix}"), ChildMut::Param(&mut own.weight_hh));
            if let Some([ih, hh]) = &mut own.bias {
                f(&format!("bias_ih{suffix}"), ChildMut::Param(ih));
                f(&format!("bias_hh{suffix}"), ChildMut::Param(hh));
            }
        }
    }
}
