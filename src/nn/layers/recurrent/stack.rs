//! Layers upon layers, each in one direction or in both.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::kernels::Cell;
use crate::nn::{Child, ChildMut, Forward, ModuleTree, Param, Var};

use super::op::Weights;
use crate::nn::layers::over_time::last_steps;

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
    /// [N, H], in the direction of the layer.
    #[serde(default)]
    pub output: RecurrentOutput,
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

    pub fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (tape, ins) = (x.tape(), self.config.input_size);
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
        let mut x = x.transpose(0, 1);
        let both = if self.config.bidirectional { 2 } else { 1 };
        for (layer, directions) in self.directions.chunks(both).enumerate() {
            if layer > 0 && cx.training {
                x = x.dropout(self.config.dropout, cx.rng);
            }
            let mut states = Vec::with_capacity(both);
            for (reverse, own) in [false, true].into_iter().zip(directions) {
                let bias = own.bias.as_ref().map(|bias| bias.each_ref().map(|b| tape.param(b)));
                let weights =
                    Weights { ih: tape.param(&own.weight_ih), hh: tape.param(&own.weight_hh), bias };
                states.push(x.recurrent(self.cell, &weights, reverse, lengths.clone())?);
            }
            x = if let [one] = states[..] { one } else { tape.concat(&states, -1) };
        }
        match self.config.output {
            RecurrentOutput::Sequence => Ok(x.transpose(0, 1)),
            RecurrentOutput::Last if both == 1 => last_steps(x, lengths.as_deref()),
            RecurrentOutput::Last => {
                let hidden = self.config.hidden_size;
                let last = last_steps(x.slice(-1, ..hidden), lengths.as_deref())?;
                Ok(tape.concat(&[last, x.slice(-1, hidden..).select(0, 0)], -1))
            }
        }
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
