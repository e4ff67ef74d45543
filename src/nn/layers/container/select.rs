//! One of several inputs, and some of the channels of one.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// One of several inputs, some channels of an input, or some channels of one of several inputs. The first layer of a
/// branch of [`Concat`](crate::nn::Concat), it says which of the network's inputs the branch takes, so that two branches
/// may take the same.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, Select, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let first = tape.input(Tensor::from_elem(vec![1, 1], 7.0));
/// let second = tape.input(Tensor::from_shape_vec(vec![1, 3], vec![1.0, 2.0, 3.0]).unwrap());
/// let mut rng = keyed(0, "", 0, 0);
/// let cx = &mut Forward::new(true, &mut rng);
/// let y = Select::input(1).forward_all(&[first, second], cx)?;
/// assert_eq!(y.value().as_slice().unwrap(), [1.0, 2.0, 3.0]);
/// let y = Select::channels(&[2, 0]).forward(second, cx)?;
/// assert_eq!(y.value().as_slice().unwrap(), [3.0, 1.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Select {
    /// Which of several inputs, counted from 0; the only one if not given.
    pub input: Option<usize>,
    /// Which channels (the second axis), counted from 0, in this order; all if not given.
    #[schemars(length(min = 1))]
    pub channels: Option<Vec<usize>>,
}

module!(Select {});

impl Select {
    /// The input of this number.
    pub fn input(input: usize) -> Self {
        Self { input: Some(input), channels: None }
    }

    /// These channels, of the only input.
    pub fn channels(channels: &[usize]) -> Self {
        Self { input: None, channels: Some(channels.to_vec()) }
    }
}

impl Module for Select {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], _: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = match (self.input, xs) {
            (None, [x]) => *x,
            (None, _) => {
                let text = format!("`Select` gets {} inputs: say by `input` which it takes", xs.len());
                return Err(Error::invalid(text));
            }
            (Some(at), _) => *xs.get(at).ok_or_else(|| {
                let n = xs.len();
                Error::invalid(format!("`Select` takes input {at}, counted from 0, and gets {n}"))
            })?,
        };
        let Some(channels) = &self.channels else { return Ok(x) };
        let shape = x.shape();
        let there = shape.get(1).copied().unwrap_or(0);
        if let Some(wrong) = channels.iter().find(|channel| **channel >= there) {
            let text =
                format!("`Select` finds no channel {wrong}, counted from 0, in an input of shape {shape:?}");
            return Err(Error::invalid(text));
        }
        match channels.as_slice() {
            [first, .., last] if channels.windows(2).all(|pair| pair[0] + 1 == pair[1]) => {
                x.slice(1, *first..*last + 1)
            }
            _ => x.index_select(1, &channels.iter().map(|channel| *channel as i64).collect::<Vec<_>>()),
        }
        .checked()
    }

    fn takes_several(&self) -> bool {
        self.input.is_some()
    }
}

register! { /// One of several inputs, or some channels of one.
///
/// ```yaml
/// {type: Select, channels: [2, 0]}
/// ```
dyn Module, "Select" => fn Select::checked }

impl Select {
    fn checked(self, _: &mut BuildCx) -> Result<Self> {
        match (self.input, &self.channels) {
            (None, None) => Err(Error::config("say by `input` or `channels` what it selects")),
            _ => Ok(self),
        }
    }
}
