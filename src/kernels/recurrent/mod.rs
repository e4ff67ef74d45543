//! Recurrent layers over time: Elman's network, the LSTM (Hochreiter and Schmidhuber 1997, with Gers' forget gate) and
//! the GRU (Cho et al., arXiv:1406.1078), with PyTorch's formulas and order of gates.
//!
//! Sequences lie step by step, [T, N, features]. The products of the input with its weights are one product for all
//! steps; what remains of a step is a product [N, H] x [H, gates H] and one pass over its rows (`cell`). On the way back
//! the saved gates become their gradients in place, step by step, and the gradients of the weights are one product for
//! all steps again. Beyond the end of a sequence the state is 0, so that a layer that goes backwards begins there.

mod backward;
mod cell;
mod forward;

use crate::base::Elem;
use crate::kernels::elementwise::Act;
use crate::kernels::gemm::Mat;
use crate::kernels::par;
use rayon::prelude::*;

pub use backward::{recurrent_backward, recurrent_hidden_grads};
pub use forward::recurrent;

/// What happens in a step, with PyTorch's order of the gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// `h = tanh(i + k)` of the products i with the input and k with the state.
    Tanh,
    /// `h = max(i + k, 0)`.
    Relu,
    /// Gates i, f, g, o: `c = f c + i g`, `h = o tanh(c)`.
    Lstm,
    /// Gates r, z, n with `n = tanh(i + r k)`: `h = (1 - z) n + z h`.
    Gru,
}

impl Cell {
    /// Gates, each of as many numbers as the state.
    pub fn gates(self) -> usize {
        match self {
            Self::Tanh | Self::Relu => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// One direction of one layer over [T, N, D].
#[derive(Debug, Clone, Copy)]
pub struct RecurrentGeom {
    /// What happens in a step.
    pub cell: Cell,
    /// T.
    pub steps: usize,
    /// N.
    pub batch: usize,
    /// D, the features of the input.
    pub ins: usize,
    /// H, the numbers of the state.
    pub hidden: usize,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// Whether the step that comes first is not computed but given: its `h`, and the `c` of an LSTM, are there already.
    pub given: bool,
}

/// The weights of one direction of one layer.
#[derive(Debug, Clone, Copy)]
pub struct RecurrentWeights<'a> {
    /// [gates H, D], for the input.
    pub ih: &'a [Elem],
    /// [gates H, H], for the state.
    pub hh: &'a [Elem],
    /// [gates H] each, added to the two products.
    pub bias: Option<[&'a [Elem]; 2]>,
}

/// What the way back needs besides inputs and outputs; it ends as gradients.
#[derive(Debug)]
pub struct RecurrentSaved<'a> {
    /// [T, N, gates H]: the gates; then the gradients of the input's products.
    pub gates: &'a mut [Elem],
    /// [T, N, H]: c of an LSTM, and where the first step is given then the gradient of that one; the state's part of n
    /// of a GRU, and then its gradient. Else empty.
    pub state: &'a mut [Elem],
}

impl RecurrentGeom {
    /// The elements of [T, N, gates H].
    pub fn gates_len(&self) -> usize {
        self.steps * self.batch * self.gates()
    }

    /// The elements of [`RecurrentSaved::state`].
    pub fn state_len(&self) -> usize {
        if matches!(self.cell, Cell::Lstm | Cell::Gru) { self.steps * self.batch * self.hidden } else { 0 }
    }

    /// The numbers of all gates of a sequence.
    fn gates(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// The weights of the state [gates H, H]: those whose products are added to the gates, and those of n of a GRU,
    /// whose product is not; else the second have no rows.
    fn of_state<'a>(&self, hh: &'a [Elem]) -> [Mat<'a>; 2] {
        let own = if self.cell == Cell::Gru { self.hidden } else { 0 };
        let added = self.gates() - own;
        let (all, new) = hh.split_at(added * self.hidden);
        [Mat::new(all, added, self.hidden), Mat::new(new, own, self.hidden)]
    }

    /// The numbers of all states of a step.
    fn size(&self) -> usize {
        self.batch * self.hidden
    }

    /// The steps that are computed, in their order.
    fn order(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (steps, reverse) = (self.steps, self.reverse);
        (usize::from(self.given)..steps).map(move |i| if reverse { steps - 1 - i } else { i })
    }

    /// The step that is given, if one is.
    pub fn given_step(&self) -> Option<usize> {
        (self.given && self.steps > 0).then(|| if self.reverse { self.steps - 1 } else { 0 })
    }

    /// Step `t` of `all` states, and the step before it; nothing before the first one.
    fn step<'a>(&self, all: &'a [Elem], t: usize) -> (&'a [Elem], &'a [Elem]) {
        let size = self.size();
        let before = if self.reverse { t + 1 } else { t.wrapping_sub(1) };
        let before = if before < self.steps { &all[before * size..][..size] } else { &[] };
        (&all[t * size..][..size], before)
    }

    /// [`step`](Self::step), of which both may be written to.
    fn step_mut<'a>(&self, all: &'a mut [Elem], t: usize) -> (&'a mut [Elem], &'a mut [Elem]) {
        let size = self.size();
        if self.reverse {
            let (now, before) = all.split_at_mut((t + 1) * size);
            let len = before.len().min(size);
            (&mut now[t * size..], &mut before[..len])
        } else {
            let (before, now) = all.split_at_mut(t * size);
            let from = before.len().saturating_sub(size);
            (&mut now[..size], &mut before[from..])
        }
    }

    fn check(&self, x: &[Elem], w: &RecurrentWeights<'_>, saved: &RecurrentSaved<'_>, h: &[Elem]) {
        let (rows, gates) = (self.steps * self.batch, self.gates());
        assert!(x.len() == rows * self.ins && h.len() == rows * self.hidden, "slices do not fit {self:?}");
        assert!(
            w.ih.len() == gates * self.ins && w.hh.len() == gates * self.hidden,
            "weights do not fit {self:?}"
        );
        assert!(w.bias.is_none_or(|b| b.iter().all(|b| b.len() == gates)), "biases do not fit {self:?}");
        let (g, s) = (self.gates_len(), self.state_len());
        assert!(saved.gates.len() == g && saved.state.len() == s, "what is saved does not fit {self:?}");
    }

    fn act(&self) -> Act {
        if self.cell == Cell::Tanh { Act::Tanh } else { Act::Relu }
    }

    /// Calls `f` with each sequence's part of three buffers of one step: one of gates and two of states.
    fn each_row(
        &self,
        gates: &mut [Elem],
        a: &mut [Elem],
        b: &mut [Elem],
        f: impl Fn(usize, &mut [Elem], &mut [Elem], &mut [Elem]) + Sync + Send,
    ) {
        let (wide, width) = (self.gates(), self.hidden);
        if gates.len() <= SERIAL {
            let rows = gates.chunks_exact_mut(wide).zip(a.chunks_exact_mut(width));
            let rows = rows.zip(b.chunks_exact_mut(width)).enumerate();
            rows.for_each(|(row, ((gates, a), b))| f(row, gates, a, b));
        } else if !par::left_out(false) {
            let rows = gates.par_chunks_exact_mut(wide).zip(a.par_chunks_exact_mut(width));
            let rows = rows.zip(b.par_chunks_exact_mut(width)).enumerate();
            let few = (SERIAL / 2 / wide).max(1);
            rows.with_min_len(few).for_each(|(row, ((gates, a), b))| f(row, gates, a, b));
        }
    }
}

/// Up to so many gates a step stays on its thread: a second one costs more than it brings.
const SERIAL: usize = 1 << 14;

/// Whether step `t` lies beyond the end of a sequence.
fn ended(lengths: Option<&[usize]>, row: usize, t: usize) -> bool {
    lengths.and_then(|lengths| lengths.get(row)).is_some_and(|length| t >= *length)
}

/// Row `row` of a step before, or the zeros of the state at the beginning.
fn row_of<'a>(before: &'a [Elem], row: usize, zeros: &'a [Elem]) -> &'a [Elem] {
    if before.is_empty() { zeros } else { &before[row * zeros.len()..][..zeros.len()] }
}
