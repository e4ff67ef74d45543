//! Dropout of what lies together: channels, and the whole body of a residual block.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng, left_out};
use crate::kernels::{dropout, dropout_inplace};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

use super::dropout::draw_mask;

/// In training, each channel of each sample [N, C, ..] is zero with probability `p`, else `x / (1 - p)`; in evaluation `x`
/// (Tompson et al. 2015, <https://arxiv.org/abs/1411.4280>).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Dropout2d, Forward, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_elem(vec![8, 8, 2, 2], 1.0));
/// let y = Dropout2d::new(0.5).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?.value();
/// let channels = y.as_slice().unwrap().chunks_exact(4);
/// assert!(channels.clone().all(|c| c == [0.0; 4] || c == [2.0; 4]));
/// assert!((20..44).contains(&channels.filter(|c| c[0] == 0.0).count()));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Dropout2d {
    /// Probability of a zero.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Accepted for PyTorch's configs; memory is reused either way.
    pub inplace: bool,
}

module!(Dropout2d {}, number = p);

impl Dropout2d {
    /// With this probability of a zero.
    pub fn new(p: f64) -> Self {
        Self { p, inplace: false }
    }
}

impl Default for Dropout2d {
    fn default() -> Self {
        Self::new(0.5)
    }
}

impl Module for Dropout2d {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shape = x.shape();
        if shape.len() < 3 {
            return Err(Error::invalid(format!(
                "Dropout2d wants an input of shape [N, C, ..], got {shape:?}"
            )));
        }
        Ok(if cx.training { x.dropout_blocks(self.p, 2, true, cx.rng) } else { x })
    }
}

/// In training, each sample is zero with probability `drop_prob`, else `x / (1 - drop_prob)`; in evaluation `x`. At the end
/// of the body of a residual block it leaves out the whole block (stochastic depth, Huang et al. 2016,
/// <https://arxiv.org/abs/1603.09382>). Named and parametrised as in MMCV and timm.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, DropPath, Forward, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_elem(vec![64, 3], 1.0));
/// let y = DropPath::new(0.5).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?.value();
/// let samples = y.as_slice().unwrap().chunks_exact(3);
/// assert!(samples.clone().all(|s| s == [0.0; 3] || s == [2.0; 3]));
/// assert!((20..44).contains(&samples.filter(|s| s[0] == 0.0).count()));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DropPath {
    /// Probability of a zero.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_prob: f64,
    /// Whether what is kept is divided by its probability.
    pub scale_by_keep: bool,
}

module!(DropPath {}, number = drop_prob);

impl DropPath {
    /// With this probability of a zero.
    pub fn new(drop_prob: f64) -> Self {
        Self { drop_prob, scale_by_keep: true }
    }

    /// Whether what is kept is divided by its probability; it is unless this says no.
    #[must_use]
    pub fn scale_by_keep(mut self, scale_by_keep: bool) -> Self {
        self.scale_by_keep = scale_by_keep;
        self
    }
}

impl Default for DropPath {
    fn default() -> Self {
        Self::new(0.1)
    }
}

impl Module for DropPath {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if x.shape().is_empty() {
            return Err(Error::invalid("DropPath wants an input of shape [N, ..], got a single number"));
        }
        Ok(if cx.training { x.dropout_blocks(self.drop_prob, 1, self.scale_by_keep, cx.rng) } else { x })
    }
}

register! { /// In training, whole channels are zero with probability `p`.
dyn Module, "Dropout2d" => Dropout2d }
register! { /// In training, whole samples are zero with probability `drop_prob`: residual blocks are left out.
dyn Module, "DropPath" => DropPath }

impl<'t> Var<'t> {
    /// Zero with probability `p`, else `x`, divided by `1 - p` if `scaled`: one draw for all that shares its places along
    /// the first `axes` axes. With `p = 0` the value itself.
    pub fn dropout_blocks(self, p: f64, axes: usize, scaled: bool, rng: &mut Rng) -> Self {
        if p <= 0.0 {
            return self;
        }
        let x = self.value();
        let block: usize = x.shape().iter().skip(axes).product();
        let (drawn, scale) = draw_mask(self.tape, x.shape().iter().take(axes).product(), p, rng);
        let scale = if scaled { scale } else { 1.0 };
        let mut keep = self.tape.with_pool(|pool| pool.masks.take(x.len()));
        if !left_out(keep.len()) {
            keep.chunks_exact_mut(block.max(1)).zip(&drawn).for_each(|(keep, drawn)| keep.fill(*drawn));
        }
        self.tape.with_pool(|pool| pool.masks.give(drawn));
        let mut y = self.tape.take(x.len());
        dropout(&keep, scale, slice(&x), &mut y);
        self.tape.node("dropout_blocks", tensor(x.shape(), y), &[self], move |mut dy, grads| {
            dropout_inplace(&keep, scale, &mut dy);
            grads.pool.masks.give(keep);
            grads.add(0, dy);
        })
    }
}
