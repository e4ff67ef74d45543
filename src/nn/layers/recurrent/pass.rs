//! One direction of one layer over a batch: from the states before the first steps to those behind the last ones.

use std::sync::Arc;

use crate::base::Result;
use crate::kernels::Cell;
use crate::nn::Var;
use crate::nn::layers::over_time::last_steps;

use super::op::{Course, Weights};

/// The states of all layers and directions, one after the other as in PyTorch, but with the batch first.
#[derive(Debug, Clone, Copy)]
pub struct RecurrentState<'t> {
    /// `h` [N, layers · directions, H].
    pub h: Var<'t>,
    /// `c` of an LSTM, of the same shape.
    pub c: Option<Var<'t>>,
}

impl<'t> RecurrentState<'t> {
    /// Those of one direction of one layer, [N, H].
    pub(super) fn of(self, at: usize) -> Self {
        let one = |state: Var<'t>| state.select(1, at);
        Self { h: one(self.h), c: self.c.map(one) }
    }
}

/// How a direction goes over the steps.
pub(super) struct Pass {
    pub cell: Cell,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// Of the sequences, if some are shorter.
    pub lengths: Option<Arc<[usize]>>,
    /// Whether the states behind the last steps are asked for.
    pub ends: bool,
}

impl Pass {
    /// The states [T, N, H] over `x` [T, N, D], from zeros or from `begin`; and those behind the last steps, [N, H].
    pub fn over<'t>(
        self,
        x: Var<'t>,
        weights: &Weights<'t>,
        begin: Option<RecurrentState<'t>>,
    ) -> Result<(Var<'t>, Option<RecurrentState<'t>>)> {
        let Self { cell, reverse, lengths, ends } = self;
        let steps = x.shape()[0];
        let Some(begin) = begin else {
            let cells = ends && cell == Cell::Lstm;
            let course = Course { reverse, lengths: lengths.clone(), initial: Vec::new(), cells };
            let y = x.recurrent(cell, weights, course)?;
            let states = if cells { y.slice(0, ..steps) } else { y };
            let last = || behind(states, reverse, lengths.as_deref());
            let ends = ends.then(last).transpose()?;
            return Ok((states, ends.map(|h| RecurrentState { h, c: cells.then(|| y.select(0, steps)) })));
        };
        // From a given state a sequence that is gone through backwards begins at its own end: it is turned around.
        let turned = lengths.as_ref().filter(|_| reverse).map(|lengths| turned(lengths, steps));
        let turn = |x: Var<'t>| match &turned {
            Some(order) => in_order(x, order),
            None => x,
        };
        let reverse = reverse && turned.is_none();
        let (x, blank) = (turn(x), x.slice(0, ..1).zeros_like());
        let x = x.tape().concat(&if reverse { [x, blank] } else { [blank, x] }, 0);
        let mut initial = vec![begin.h];
        if cell == Cell::Lstm {
            initial.push(begin.c.unwrap_or_else(|| begin.h.zeros_like()));
        }
        let cells = ends && cell == Cell::Lstm;
        // The step that is given counts.
        let counted = lengths.as_ref().map(|lengths| lengths.iter().map(|length| length + 1).collect());
        let y = x.recurrent(cell, weights, Course { reverse, lengths: counted, initial, cells })?;
        let from = usize::from(!reverse);
        let states = y.slice(0, from..from + steps);
        let h = behind(states, reverse, lengths.as_deref())?;
        let last = ends.then(|| RecurrentState { h, c: cells.then(|| y.select(0, steps + 1)) });
        Ok((turn(states), last))
    }
}

/// The states [N, H] behind the last steps.
fn behind<'t>(states: Var<'t>, reverse: bool, lengths: Option<&[usize]>) -> Result<Var<'t>> {
    if reverse { Ok(states.select(0, 0)) } else { last_steps(states, lengths) }
}

/// For each step of each sequence the place of the one that comes in its stead when the sequence runs backwards.
fn turned(lengths: &[usize], steps: usize) -> Vec<i64> {
    let place = |t: usize, row: usize| {
        let from = if t < lengths[row] { lengths[row] - 1 - t } else { t };
        (from * lengths.len() + row) as i64
    };
    (0..steps).flat_map(|t| (0..lengths.len()).map(move |row| place(t, row))).collect()
}

/// The steps of `x` [T, N, D] in another order.
fn in_order<'t>(x: Var<'t>, order: &[i64]) -> Var<'t> {
    let shape = x.shape();
    x.flatten(0, 1).index_select(0, order).reshape(&shape)
}
