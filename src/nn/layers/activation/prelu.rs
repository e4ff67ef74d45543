//! The rectifier whose slope is learnt.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::kernels::{channel_sums, prelu, prelu_backward, prelu_slope_terms};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`PReLU`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PReLUConfig {
    /// How many slopes are learnt: 1 for all, or the number of channels, the size of the second axis.
    #[schemars(range(min = 1))]
    pub num_parameters: usize,
    /// Their first value.
    #[schemars(extend("x-unbounded" = true))]
    pub init: f64,
}

impl Default for PReLUConfig {
    fn default() -> Self {
        Self { num_parameters: 1, init: 0.25 }
    }
}

/// `x` where positive, else a learnt slope times `x` (He et al. 2015, <https://arxiv.org/abs/1502.01852>). PyTorch
/// advises against weight decay of the slopes: it turns them into a ReLU's.
#[derive(Debug, Clone)]
pub struct PReLU {
    /// The slopes: one, or one a channel.
    pub weight: Param,
}

module!(PReLU { weight });

impl PReLU {
    /// With this number of slopes, 1 or that of the channels; they begin as 1/4.
    pub fn new(num_parameters: usize) -> Self {
        Self { weight: Param::full(&[num_parameters], 0.25) }
    }

    fn from_config(p: PReLUConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self { weight: Param::full(&[p.num_parameters], p.init as Elem) })
    }
}

impl Default for PReLU {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Module for PReLU {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.prelu(x.tape().param(&self.weight)).checked()
    }
}

register! { /// `x` where positive, else a learnt slope times `x`.
dyn Module, "PReLU" => fn PReLU::from_config }

impl Var<'_> {
    /// `x` where positive, else `slopes · x`: one slope for all, or one for each place of the second axis.
    ///
    /// ```
    /// use shanty::base::Tensor;
    /// use shanty::nn::{BufferPool, Tape};
    ///
    /// let tape = Tape::without_grad(BufferPool::default());
    /// let x = tape.input(Tensor::from_elem(vec![1, 2], -4.0));
    /// let slopes = tape.input(Tensor::from_shape_vec(vec![2], vec![0.25, 0.5]).unwrap());
    /// assert_eq!(x.prelu(slopes).value().as_slice(), Some(&[-1.0, -2.0][..]));
    /// ```
    pub fn prelu(self, slopes: Self) -> Self {
        self.attempt(|| {
            let (x, w) = (self.value(), slopes.value());
            let channels = x.shape().get(1).copied().unwrap_or(1);
            if w.ndim() != 1 || (w.len() != 1 && w.len() != channels) {
                return Err(Error::invalid(format!(
                    "`prelu` wants one slope, or one for each of the {channels} channels of shape {:?}, got slopes \
                     of shape {:?}",
                    x.shape(),
                    w.shape()
                )));
            }
            let inner = if w.len() == 1 { x.len() } else { x.shape()[2..].iter().product() };
            let mut y = self.tape.take(x.len());
            prelu(slice(&w), inner, slice(&x), &mut y);
            Ok(self.tape.node("prelu", tensor(x.shape(), y), &[self, slopes], move |mut dy, grads| {
                if grads.wants(1) {
                    let (mut terms, mut dw) = (grads.pool.take(dy.len()), grads.pool.take(w.len()));
                    terms.copy_from_slice(&dy);
                    prelu_slope_terms(slice(&x), &mut terms);
                    let n = x.len() / (w.len() * inner).max(1);
                    channel_sums(n, w.len(), inner, &terms, 0.0, &mut dw);
                    grads.pool.give(terms);
                    grads.add(1, dw);
                }
                prelu_backward(slice(&w), inner, slice(&x), &mut dy);
                grads.add(0, dy);
            }))
        })
    }
}
