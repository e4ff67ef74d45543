//! A product of two inputs.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::shapes::expect_shape;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`Bilinear`] in YAML.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub struct BilinearConfig {
    /// Size of the last axis of the first input.
    #[schemars(range(min = 1))]
    pub in1_features: usize,
    /// Size of the last axis of the second input.
    #[schemars(range(min = 1))]
    pub in2_features: usize,
    /// Size of the last axis of the output.
    #[schemars(range(min = 1))]
    pub out_features: usize,
    /// Whether an offset is added.
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
}

/// `aᵀ W_k b + bias_k` for each output k: [.., in1] and [.., in2] to [.., out]. As a layer of one input it takes both
/// side by side, [.., in1 + in2].
///
/// Weights and bias begin uniform within ±1/√in1, as in PyTorch.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{Bilinear, BufferPool, Forward, Module, Tape};
///
/// let mut layer = Bilinear::new(2, 1, 1).bias(false);
/// layer.weight.value = Tensor::from_shape_vec(vec![1, 2, 1], vec![3.0, 5.0]).unwrap();
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 3], vec![1.0, 2.0, 10.0]).unwrap());
/// let y = layer.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?;
/// assert_eq!(y.item(), (1.0 * 3.0 + 2.0 * 5.0) * 10.0);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bilinear {
    /// [out, in1, in2].
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    config: BilinearConfig,
}

module!(Bilinear { weight, bias });

impl Bilinear {
    /// A layer with bias.
    pub fn new(in1_features: usize, in2_features: usize, out_features: usize) -> Self {
        Self::of(BilinearConfig { in1_features, in2_features, out_features, bias: true })
    }

    /// Whether an offset is added; it is unless this says no.
    #[must_use]
    pub fn bias(self, bias: bool) -> Self {
        Self::of(BilinearConfig { bias, ..self.config })
    }

    fn of(config: BilinearConfig) -> Self {
        let BilinearConfig { in1_features, in2_features, out_features, bias } = config;
        let weight = Param::fan_in(&[out_features, in1_features, in2_features], in1_features);
        Self { weight, bias: bias.then(|| Param::fan_in(&[out_features], in1_features)), config }
    }

    fn from_config(p: BilinearConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::of(p))
    }

    /// The output for two inputs.
    ///
    /// # Errors
    /// When they do not fit the weight or each other.
    pub fn forward_pair<'t>(&mut self, a: Var<'t>, b: Var<'t>) -> Result<Var<'t>> {
        let tape = a.tape();
        a.bilinear(b, tape.param(&self.weight), self.bias.as_ref().map(|b| tape.param(b))).checked()
    }
}

impl Module for Bilinear {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let (a, b) = (self.config.in1_features, self.config.in2_features);
        match x.shape().last() {
            Some(last) if *last == a.saturating_add(b) => {
                self.forward_pair(x.slice(-1, ..a), x.slice(-1, a..))
            }
            _ => Err(Error::invalid(format!(
                "a bilinear map of {a} and {b} features side by side got an input of shape {:?}",
                x.shape()
            ))),
        }
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        match xs {
            [x] => self.forward(*x, cx),
            [a, b] => self.forward_pair(*a, *b),
            _ => Err(Error::invalid(format!("`Bilinear` takes two inputs, and gets {}", xs.len()))),
        }
    }

    fn takes_several(&self) -> bool {
        true
    }
}

register! { /// A product of two inputs, side by side in the last axis, with a matrix for each output.
dyn Module, "Bilinear" => fn Bilinear::from_config }

impl<'t> Var<'t> {
    /// `aᵀ W_k b + bias_k`: `self` [.., I], `other` [.., J], `weight` [K, I, J], `bias` `[K]` to [.., K].
    pub fn bilinear(self, other: Self, weight: Self, bias: Option<Self>) -> Self {
        self.attempt(|| {
            let (a, b, w) = (self.shape(), other.shape(), weight.shape());
            let &[outs, i, j] = &w[..] else {
                return Err(Error::invalid(format!(
                    "the weight of a bilinear map has three axes, not shape {w:?}"
                )));
            };
            let leading = &a[..a.len().saturating_sub(1)];
            let with = |last: usize| leading.iter().copied().chain([last]).collect::<Vec<_>>();
            expect_shape("the first input of a bilinear map", &a, &with(i))?;
            expect_shape("the second input of a bilinear map", &b, &with(j))?;
            let rows = leading.iter().product();
            let weight = weight.permute(&[1, 0, 2]).reshape(&[i, outs * j]);
            let each = self.reshape(&[rows, i]).matmul(weight).reshape(&[rows, outs, j]);
            let y = (each * other.reshape(&[rows, 1, j])).sum_axes(&[-1]).reshape(&with(outs));
            Ok(bias.map_or(y, |bias| y + bias))
        })
    }
}
