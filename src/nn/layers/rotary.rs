//! Where a token stands, told by turning queries and keys.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::kernels::{RotaryGeom, rotary};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use super::patch::tokens;

/// How an attention knows where its tokens stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttentionPosition {
    /// By what the tokens themselves hold.
    #[default]
    None,
    /// Queries and keys are turned by their places: [`Rotary`].
    Rotary,
}

impl AttentionPosition {
    /// Whether heads can be turned so.
    pub(super) fn check(self, dims: usize, heads: usize) -> Result<()> {
        match dims / heads.max(1) {
            head if self == Self::Rotary && !head.is_multiple_of(2) => Err(Error::config(format!(
                "`position: rotary` turns pairs of features, and {dims} features in {heads} heads are {head} for each: an \
                 odd number"
            ))),
            _ => Ok(()),
        }
    }

    /// Queries and keys, the first `features` of `x` [N, T, ..], with their places.
    pub(super) fn of(self, x: Var<'_>, features: usize, head: usize) -> Var<'_> {
        if self == Self::Rotary { x.rotary(features, head, BASE) } else { x }
    }
}

const BASE: f64 = 10_000.0;

fn base() -> f64 {
    BASE
}

/// Turns features 2i and 2i + 1 of each head of token t of [N, T, D] by the angle `t / base^(2i / head)`, so that the product of
/// a query and a key depends on how far apart they stand (Su et al. 2021, <https://arxiv.org/abs/2104.09864>). Attention
/// layers do it with `position: rotary`.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, Rotary, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_fn(vec![1, 2, 2], |at| if at[2] == 0 { 1.0 } else { 0.0 }));
/// let y = Rotary::new(2).forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?.value();
/// assert_eq!((y[[0, 0, 0]], y[[0, 0, 1]]), (1.0, 0.0));
/// assert!((y[[0, 1, 0]] - 0.540302).abs() < 1e-6 && (y[[0, 1, 1]] - 0.841471).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct Rotary {
    /// Features of a head, an even number; those of a token are one or more of them side by side.
    #[schemars(range(min = 2))]
    pub head_dims: usize,
    /// How much longer the longest wave is than the shortest.
    #[serde(default = "base")]
    #[schemars(range(min = 1.0))]
    pub base: f64,
}

module!(Rotary {});

impl Rotary {
    /// Heads of so many features, by waves of 2π to 20000π tokens.
    pub fn new(head_dims: usize) -> Self {
        Self { head_dims, base: BASE }
    }

    fn checked(self, _: &mut BuildCx) -> Result<Self> {
        match self.head_dims % 2 {
            0 => Ok(self),
            _ => Err(Error::config(format!("`head_dims: {}` is no number of pairs", self.head_dims))),
        }
    }
}

impl Module for Rotary {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let [_, _, width] = tokens(&x.shape())?;
        x.rotary(width, self.head_dims, self.base).checked()
    }
}

register! { /// Turns queries or keys [N, T, D] by their places, pair by pair of features.
dyn Module, "Rotary" => fn Rotary::checked }

impl Var<'_> {
    /// Tokens [N, T, D] whose first `features`, heads of `head` features, are turned by their places: [`Rotary`].
    pub fn rotary(self, features: usize, head: usize, base: f64) -> Self {
        self.attempt(|| {
            let x = self.value();
            let [_, len, width] = tokens(x.shape())?;
            if head == 0 || !head.is_multiple_of(2) || !features.is_multiple_of(head) || features > width {
                return Err(Error::invalid(format!(
                    "{features} of the features of an input of shape {:?} are no heads of {head} features, an even number, \
                     to be turned",
                    x.shape()
                )));
            }
            let g = RotaryGeom { len, width, turned: features, head, base };
            let mut y = self.tape.take(x.len());
            y.copy_from_slice(slice(&x));
            rotary(&g, false, &mut y);
            Ok(self.tape.node("rotary", tensor(x.shape(), y), &[self], move |mut dy, grads| {
                rotary(&g, true, &mut dy);
                grads.add(0, dy);
            }))
        })
    }
}
