//! From a sequence to one vector.

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

/// One vector for each sequence [N, T, D]: [N, D], from its own steps, not from what fills it up
/// ([`Forward::lengths`]).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, OverTime, PoolOverTime, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 3, 1], vec![1.0, 3.0, 8.0]).unwrap());
/// let mut rng = keyed(0, "example", 0, 0);
/// let mut cx = Forward { lengths: Some([2].into()), ..Forward::new(true, &mut rng) };
/// assert_eq!(PoolOverTime::new(OverTime::Mean).forward(x, &mut cx)?.item(), 2.0);
/// assert_eq!(PoolOverTime::new(OverTime::Max).forward(x, &mut cx)?.item(), 3.0);
/// assert_eq!(PoolOverTime::new(OverTime::Last).forward(x, &mut cx)?.item(), 3.0);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolOverTime {
    /// What becomes of the steps: mean, max, last or first.
    pub mode: OverTime,
}

/// What becomes of the steps of a sequence. One without a step gives zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverTime {
    /// Their mean.
    #[default]
    Mean,
    /// The largest of each feature.
    Max,
    /// The last one.
    Last,
    /// The first one.
    First,
}

module!(PoolOverTime {});

impl PoolOverTime {
    /// The pooling of this kind.
    pub fn new(mode: OverTime) -> Self {
        Self { mode }
    }
}

impl Module for PoolOverTime {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let &[n, steps, _] = &x.shape()[..] else {
            return Err(Error::invalid(format!(
                "pooling over time wants sequences of shape [N, T, D], got an input of shape {:?}",
                x.shape()
            )));
        };
        if steps == 0 {
            return Err(Error::invalid("pooling over time got sequences without a step"));
        }
        let lengths = cx.lengths(n, steps)?;
        let x = match &lengths {
            Some(lengths) => {
                let ended = ArrayD::from_shape_fn(vec![n, steps, 1], |at| at[1] >= lengths[at[0]]);
                x.masked_fill(&ended, if self.mode == OverTime::Max { Elem::NEG_INFINITY } else { 0.0 })
            }
            None => x,
        };
        let y = match (self.mode, &lengths) {
            (OverTime::Mean, None) => x.mean_axes(&[1]),
            (OverTime::Mean, Some(lengths)) => {
                let share = Tensor::from_shape_fn(vec![n, 1], |at| 1.0 / lengths[at[0]].max(1) as Elem);
                x.sum_axes(&[1]) * x.tape().input(share)
            }
            (OverTime::Max, lengths) => {
                let y = x.max_axes(&[1]);
                let empty = |at: usize| lengths.as_ref().is_some_and(|lengths| lengths[at] == 0);
                y.masked_fill(&ArrayD::from_shape_fn(vec![n, 1], |at| empty(at[0])), 0.0)
            }
            (OverTime::Last, lengths) => last_steps(x.transpose(0, 1), lengths.as_deref())?,
            (OverTime::First, _) => x.select(1, 0),
        };
        y.checked()
    }
}

register! { /// One vector for each sequence [N, T, D]: the mean of its steps, their maxima, the last or the first one.
dyn Module, "PoolOverTime" => PoolOverTime }

/// The last step of each sequence of `x` [T, N, D], which has one: [N, D]. Of a sequence without a step the first place.
pub(super) fn last_steps<'t>(x: Var<'t>, lengths: Option<&[usize]>) -> Result<Var<'t>> {
    let &[steps, n, width] = &x.shape()[..] else {
        return Err(Error::invalid(format!("steps of shape {:?} are no sequences", x.shape())));
    };
    match lengths {
        None => Ok(x.select(0, steps.saturating_sub(1))),
        Some(lengths) => {
            let place = |(row, length): (usize, &usize)| (length.saturating_sub(1) * n + row) as i64;
            let places: Vec<i64> = lengths.iter().enumerate().map(place).collect();
            Ok(x.reshape(&[steps * n, width]).index_select(0, &places))
        }
    }
}
