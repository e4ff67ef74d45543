//! Where a token stands.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::nn::init::Normal;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use super::patch::tokens;

/// The keys of a [`PositionalEncoding`] in YAML.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct PositionalEncodingConfig {
    /// What is done: sine, fixed waves are added; learnt, a trained vector for each place is added.
    #[serde(default)]
    pub mode: PositionMode,
    /// Size of a token; for `learnt`.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub d_model: Option<usize>,
    /// Places that have a vector; for `learnt`.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_len: Option<usize>,
}

/// How tokens are told where they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PositionMode {
    /// Fixed waves are added.
    #[default]
    Sine,
    /// A trained vector for each place is added.
    Learnt,
}

/// Adds to each token of [N, T, D] what tells its place t: `sin(t / 10000^(2i / D))` to feature 2i and the cosine of the
/// same to feature 2i + 1 (Vaswani et al. 2017), or a trained vector that begins from N(0, 0.02²).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, PositionalEncoding, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::zeros(vec![1, 2, 2]));
/// let y = PositionalEncoding::sine().forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?.value();
/// assert_eq!((y[[0, 0, 0]], y[[0, 0, 1]]), (0.0, 1.0));
/// assert!((y[[0, 1, 0]] - 0.841471).abs() < 1e-6 && (y[[0, 1, 1]] - 0.540302).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PositionalEncoding {
    /// [places, D], where it is learnt.
    pub weight: Option<Param>,
}

module!(PositionalEncoding { weight });

impl PositionalEncoding {
    /// Fixed waves.
    pub fn sine() -> Self {
        Self { weight: None }
    }

    /// A trained vector for each of so many places.
    pub fn learnt(max_len: usize, d_model: usize) -> Self {
        Self { weight: Some(Param::init(&[max_len, d_model], Normal { mean: 0.0, std: 0.02 })) }
    }

    fn from_config(p: PositionalEncodingConfig, _: &mut BuildCx) -> Result<Self> {
        match (p.mode, p.d_model, p.max_len) {
            (PositionMode::Sine, None, None) => Ok(Self::sine()),
            (PositionMode::Sine, ..) => Err(Error::config("`d_model` and `max_len` are for `mode: learnt`")),
            (PositionMode::Learnt, Some(dims), Some(len)) => Ok(Self::learnt(len, dims)),
            (PositionMode::Learnt, ..) => Err(Error::config("`mode: learnt` needs `d_model` and `max_len`")),
        }
    }
}

impl Module for PositionalEncoding {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let [_, len, dims] = tokens(&x.shape())?;
        let Some(weight) = &self.weight else { return (x + x.tape().input(waves(len, dims))).checked() };
        match weight.value.shape() {
            [places, width] if *places >= len && *width == dims => {
                (x + x.tape().param(weight).slice(0, ..len)).checked()
            }
            own => Err(Error::invalid(format!(
                "a positional encoding of shape {own:?} got tokens of shape {:?}: raise `max_len`, or give shorter sequences",
                x.shape()
            ))),
        }
    }
}

/// A sine and a cosine in turn, of wavelengths from 2π to 20000π.
fn waves(len: usize, dims: usize) -> Tensor {
    Tensor::from_shape_fn(vec![len, dims], |at| {
        let pair = (at[1] / 2 * 2) as f64 / dims as f64;
        let angle = at[0] as f64 * libm::pow(10000.0, -pair);
        (if at[1] % 2 == 0 { libm::sin(angle) } else { libm::cos(angle) }) as Elem
    })
}

register! { /// Tells tokens [N, T, D] where they stand, by fixed waves or trained vectors.
dyn Module, "PositionalEncoding" => fn PositionalEncoding::from_config }
