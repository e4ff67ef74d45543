//! Recurrent layers: RNN, LSTM, GRU.

mod op;
mod pass;
mod stack;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::kernels::Cell;
use crate::nn::{Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

pub use self::pass::RecurrentState;
use self::stack::Stack;
pub use self::stack::{RecurrentConfig, RecurrentOutput};

/// The keys of an [`RNN`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RNNConfig {
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
    /// What is made of the sum of the products: tanh or relu.
    #[serde(default)]
    pub nonlinearity: RnnNonlinearity,
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
    /// Whether the states begin as a second input says, [N, layers · directions, H]; as zeros if not.
    #[serde(default)]
    pub initial_states: bool,
}

fn one() -> usize {
    1
}

/// What an RNN makes of the sum of its products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RnnNonlinearity {
    /// Hyperbolic tangent.
    #[default]
    Tanh,
    /// What is positive.
    Relu,
}

impl RnnNonlinearity {
    fn cell(self) -> Cell {
        match self {
            Self::Tanh => Cell::Tanh,
            Self::Relu => Cell::Relu,
        }
    }
}

macro_rules! recurrent {
    ($(#[$doc:meta])* $name:ident, $cell:expr) => {
        $(#[$doc])*
        ///
        /// All weights begin uniform within ±1/√H, as in PyTorch, and have its names: `weight_ih_l0`, `weight_hh_l0`,
        /// `bias_ih_l0`, `bias_hh_l0`, `weight_ih_l0_reverse` and so on. The states begin as zeros, or as a second input
        /// says. Sequences that are shorter than T ([`Forward::lengths`]) give zeros beyond their ends, and their last
        /// state is that of their own last step: the values of PyTorch's `pack_padded_sequence` and back. As there, a
        /// sequence has a step at least.
        pub struct $name {
            stack: Stack,
        }

        module!($name: "RNNBase" { ..stack });

        impl $name {
            /// One layer in one direction, with offsets, that gives the states of all steps.
            pub fn new(input_size: usize, hidden_size: usize) -> Self {
                Self { stack: Stack::new($cell, RecurrentConfig::new(input_size, hidden_size)) }
            }

            fn with(self, change: impl FnOnce(&mut RecurrentConfig)) -> Self {
                let Stack { cell, mut config, .. } = self.stack;
                change(&mut config);
                Self { stack: Stack::new(cell, config) }
            }

            /// Layers, each of which takes what the one below gives.
            #[must_use]
            pub fn num_layers(self, num_layers: usize) -> Self {
                self.with(|config| config.num_layers = num_layers)
            }

            /// Whether offsets are added; they are unless this says no.
            #[must_use]
            pub fn bias(self, bias: bool) -> Self {
                self.with(|config| config.bias = bias)
            }

            /// The probability with which dropout zeroes what goes from one layer to the next.
            #[must_use]
            pub fn dropout(self, dropout: f64) -> Self {
                self.with(|config| config.dropout = dropout)
            }

            /// Whether each layer goes over the steps in both directions.
            #[must_use]
            pub fn bidirectional(self, bidirectional: bool) -> Self {
                self.with(|config| config.bidirectional = bidirectional)
            }

            /// What it gives to the next layer.
            #[must_use]
            pub fn output(self, output: RecurrentOutput) -> Self {
                self.with(|config| config.output = output)
            }

            /// The states of all steps [N, T, directions · H] and those behind the last ones, from zeros or from given
            /// states: PyTorch's `output, h_n = rnn(x, h_0)`, with the batch first in all of them.
            ///
            /// # Errors
            /// When the sizes do not fit, or a sequence has no step.
            pub fn forward_states<'t>(
                &mut self,
                x: Var<'t>,
                initial: Option<RecurrentState<'t>>,
                cx: &mut Forward<'_>,
            ) -> Result<(Var<'t>, RecurrentState<'t>)> {
                self.stack.forward_states(x, initial, cx)
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
                self.stack.forward_all(&[x], cx)?.checked()
            }

            fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
                self.stack.forward_all(xs, cx)?.checked()
            }

            fn takes_several(&self) -> bool {
                self.stack.config.initial_states
            }
        }
    };
}

recurrent!(
    /// Elman's network (1990) over sequences [N, T, D]: `h = tanh(W_ih x + b_ih + W_hh h + b_hh)` step by step, to
    /// [N, T, H].
    ///
    /// ```
    /// use shanty::base::{Tensor, keyed};
    /// use shanty::nn::{BufferPool, Forward, Module, RNN, RnnNonlinearity, Tape};
    /// use shanty::params::HostParams;
    ///
    /// // With all weights 1 a ReLU cell sums up what it sees.
    /// let mut rnn = RNN::new(1, 1).nonlinearity(RnnNonlinearity::Relu).bias(false);
    /// rnn.visit_mut(&mut |mut p| p.value.fill(1.0));
    /// let tape = Tape::new(BufferPool::default());
    /// let x = tape.input(Tensor::from_shape_vec(vec![1, 3, 1], vec![1.0, 2.0, 4.0]).unwrap());
    /// let y = rnn.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?.value();
    /// assert_eq!(y.as_slice().unwrap(), [1.0, 3.0, 7.0]);
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    RNN, Cell::Tanh
);
recurrent!(
    /// The LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000) over sequences [N, T, D], to
    /// [N, T, H]: `c = σ(f) c + σ(i) tanh(g)`, `h = σ(o) tanh(c)`, where i, f, g, o are the parts of
    /// `W_ih x + b_ih + W_hh h + b_hh`.
    ///
    /// ```
    /// use shanty::base::{Tensor, keyed};
    /// use shanty::nn::{BufferPool, Forward, LSTM, Module, Tape};
    /// use shanty::params::HostParams;
    ///
    /// // Gates that are wide open: the cell counts its steps, as tanh(1), tanh(2), …
    /// let mut lstm = LSTM::new(1, 1);
    /// lstm.visit_mut(&mut |mut p| p.value.fill(if p.name == "bias_ih_l0" { 20.0 } else { 0.0 }));
    /// let tape = Tape::new(BufferPool::default());
    /// let x = tape.input(Tensor::zeros(vec![1, 2, 1]));
    /// let y = lstm.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?.value();
    /// assert!((y[[0, 0, 0]] - 0.761594).abs() < 1e-5 && (y[[0, 1, 0]] - 0.964028).abs() < 1e-5);
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    LSTM, Cell::Lstm
);
recurrent!(
    /// The GRU (Cho et al. 2014, <https://arxiv.org/abs/1406.1078>) over sequences [N, T, D], to [N, T, H]:
    /// `n = tanh(W_in x + b_in + σ(r) (W_hn h + b_hn))`, `h = (1 - σ(z)) n + σ(z) h`.
    ///
    /// ```
    /// use shanty::base::{Tensor, keyed};
    /// use shanty::nn::{BufferPool, Forward, GRU, Module, Tape};
    /// use shanty::params::HostParams;
    ///
    /// // With weights of zero each step halves its distance to tanh of the bias of n.
    /// let mut gru = GRU::new(1, 1);
    /// gru.visit_mut(&mut |mut p| p.value.fill(0.0));
    /// gru.visit_mut(&mut |mut p| if p.name == "bias_ih_l0" { p.value[[2]] = 20.0 });
    /// let tape = Tape::new(BufferPool::default());
    /// let x = tape.input(Tensor::zeros(vec![1, 2, 1]));
    /// let y = gru.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?.value();
    /// assert!((y[[0, 0, 0]] - 0.5).abs() < 1e-6 && (y[[0, 1, 0]] - 0.75).abs() < 1e-6);
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    GRU, Cell::Gru
);

impl RNN {
    /// What it makes of the sum of its products; tanh unless this says otherwise.
    #[must_use]
    pub fn nonlinearity(self, nonlinearity: RnnNonlinearity) -> Self {
        Self { stack: Stack::new(nonlinearity.cell(), self.stack.config) }
    }

    fn from_config(p: RNNConfig, _: &mut BuildCx) -> Result<Self> {
        let RNNConfig { input_size, hidden_size, num_layers, bias, dropout, bidirectional, .. } = p;
        let config = RecurrentConfig {
            input_size,
            hidden_size,
            num_layers,
            bias,
            dropout,
            bidirectional,
            output: p.output,
            initial_states: p.initial_states,
        };
        Ok(Self { stack: Stack::new(p.nonlinearity.cell(), config) })
    }
}

impl LSTM {
    fn from_config(p: RecurrentConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self { stack: Stack::new(Cell::Lstm, p) })
    }
}

impl GRU {
    fn from_config(p: RecurrentConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self { stack: Stack::new(Cell::Gru, p) })
    }
}

register! { /// Elman's recurrent network over sequences [N, T, D].
dyn Module, "RNN" => fn RNN::from_config }
register! { /// Long short-term memory over sequences [N, T, D].
dyn Module, "LSTM" => fn LSTM::from_config }
register! { /// Gated recurrent units over sequences [N, T, D].
dyn Module, "GRU" => fn GRU::from_config }
