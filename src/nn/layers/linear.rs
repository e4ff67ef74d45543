//! The fully connected layer.

use schemars::JsonSchema;
use serde::Deserialize;

use super::lora::Adapter;
use crate::base::{Elem, Error, Result};
use crate::kernels::{Act, Epilogue, LayerEpilogue, Mat, MatMut, Numbers, col_sums, gemm, linear};
use crate::nn::buffer_pool::slice;
use crate::nn::pending::{Pending, ProductValue};
use crate::nn::shapes::expect_shape;
use crate::nn::{Forward, Grads, Module, Param, Var, Work};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`Linear`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LinearConfig {
    /// Size of the last axis of the input.
    #[schemars(range(min = 1))]
    pub in_features: usize,
    /// Size of the last axis of the output.
    #[schemars(range(min = 1))]
    pub out_features: usize,
    /// Whether an offset is added.
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
}

/// `x wᵀ + b` over the last axis: [.., in] to [.., out].
///
/// Weights and bias begin uniform within ±1/√in, as in PyTorch.
#[derive(Debug, Clone)]
pub struct Linear {
    /// [out, in].
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    adapter: Adapter,
}

module!(Linear { weight, bias, ..adapter });

impl Linear {
    /// A layer with bias.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        LinearConfig { in_features, out_features, bias: true }.build()
    }

    /// A layer of these: `weight` [out, in], `bias` `[out]`.
    pub fn of(weight: Param, bias: Option<Param>) -> Self {
        Self { weight, bias, adapter: Adapter::default() }
    }

    /// Whether an offset is added; it is unless this says no.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        let &[outs, ins] = self.weight.value.shape() else { return self };
        self.bias = bias.then(|| Param::fan_in(&[outs], ins));
        self
    }

    /// Adds `alpha / rank` times the product of two matrices of this rank, of which the second begins as zeros. Its own
    /// weights are frozen by whoever wants that.
    pub(crate) fn adapt(&mut self, alpha: f64, rank: usize, drop_rate: f64) {
        if let &[outs, ins] = self.weight.value.shape() {
            self.adapter = Adapter::new([outs, ins], alpha, rank, drop_rate);
        }
    }

    /// Whether it adds more to `x` than its weights say: who multiplies by them himself calls `adapted` too.
    pub(crate) fn is_adapted(&self) -> bool {
        self.adapter.is_some()
    }

    /// Whether what is added was added in a pass since this was asked; `None` for a layer that adds nothing.
    pub(crate) fn take_called(&mut self) -> Option<bool> {
        self.adapter.take_called()
    }

    /// `y`, which the weights make of `x`, and what is added to it.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub(crate) fn adapted<'t>(&mut self, x: Var<'t>, y: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.adapter.add(x, y, cx)
    }
}

impl LinearConfig {
    /// The layer.
    pub fn build(&self) -> Linear {
        let Self { in_features: ins, out_features: outs, bias } = *self;
        let weight = Param::fan_in(&[outs, ins], ins);
        Linear::of(weight, bias.then(|| Param::fan_in(&[outs], ins)))
    }
}

impl Module for Linear {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        let y = x.linear(tape.param(&self.weight), self.bias.as_ref().map(|b| tape.param(b)));
        self.adapted(x, y, cx)?.checked()
    }
}

register! { /// Fully connected: `x wᵀ + b` over the last axis.
dyn Module, "Linear" => fn Linear::from_config }

impl Linear {
    fn from_config(p: LinearConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(p.build())
    }
}

impl<'t> Var<'t> {
    /// `x wᵀ + b` over the last axis: `x` [.., in], `weight` [out, in], `bias` `[out]`.
    pub fn linear(self, weight: Self, bias: Option<Self>) -> Self {
        self.attempt(|| self.affine(weight, bias, None, false))
    }

    /// The same for an op that reads bf16, in which mixed precision holds it.
    pub(super) fn linear_in_bf16(self, weight: Self, bias: Option<Self>) -> Self {
        self.attempt(|| self.affine(weight, bias, None, true))
    }

    /// `x wᵀ + b + residual` in one pass: the end of a residual branch. `residual` has the shape of the result.
    pub fn linear_add(self, weight: Self, bias: Option<Self>, residual: Self) -> Self {
        self.attempt(|| self.affine(weight, bias, Some(residual), false))
    }

    fn affine(self, weight: Self, bias: Option<Self>, residual: Option<Self>, half: bool) -> Result<Self> {
        let (x, w) = (self.held(), weight.value());
        let s = LinearShape::new(x.shape(), w.shape())?;
        self.tape.worked(s.work());
        let b = bias.map(Var::value);
        if let Some(b) = &b {
            expect_shape("the bias of a linear map", b.shape(), &[s.outs])?;
        }
        let shape = s.output(x.shape());
        if let Some(residual) = residual {
            expect_shape("what is added to a linear map", &residual.shape(), &shape)?;
        }
        let run = {
            let x = x.clone();
            move |w: &[Elem], then: LayerEpilogue<'_>, y: &mut [Elem]| {
                s.run(x.numbers(), w, then, MatMut::new(y, s.rows, s.outs));
            }
        };
        if self.tape.fuses {
            let y = self.tape.pending("linear", Pending::new(&shape, shape.len() - 1, w, b, run));
            return Ok(residual.map_or(y, |residual| y + residual));
        }
        let len = s.rows * s.outs;
        let half = half && self.tape.holds_bf16(len);
        let y = if self.tape.keeps() && residual.is_none() && !half {
            ProductValue::Waits(Box::new(Pending::new(&shape, shape.len() - 1, w.clone(), b, run)))
        } else {
            let mut y = self.tape.output(half, len);
            let more = residual.map(Var::value);
            let (act, more) = (Act::Identity, more.as_ref().map(slice));
            let then = LayerEpilogue { scale: None, bias: b.as_ref().map(slice), residual: more, act };
            s.run(x.numbers(), slice(&w), then, MatMut::new(y.numbers(), s.rows, s.outs));
            ProductValue::Held(y.held(&shape))
        };
        let inputs: Vec<Var<'t>> = [Some(self), Some(weight), bias, residual].into_iter().flatten().collect();
        let (at_bias, at_residual) = (bias.map(|_| 2), residual.map(|_| 2 + usize::from(bias.is_some())));
        Ok(self.tape.product_node("linear", y, &inputs, move |dy, grads| {
            if grads.wants(0) {
                grads.input_of_linear(0, s, dy.read(), slice(&w));
            }
            grads.weights_of_linear(1, at_bias, s, dy.read(), x.numbers());
            match at_residual {
                Some(i) => grads.add_owned(i, dy),
                None => dy.recycle(grads.pool),
            }
        }))
    }
}

/// The sizes of a linear map.
#[derive(Clone, Copy)]
pub(super) struct LinearShape {
    pub rows: usize,
    pub ins: usize,
    pub outs: usize,
}

impl LinearShape {
    /// Of an input [.., in] and a weight [out, in].
    pub fn new(x: &[usize], w: &[usize]) -> Result<Self> {
        let &[outs, ins] = w else {
            return Err(Error::invalid(format!("the weight of a linear map has two axes, not shape {w:?}")));
        };
        let Some((_, leading)) = x.split_last().filter(|(last, _)| **last == ins) else {
            return Err(Error::invalid(format!(
                "a linear map of {ins} features got an input of shape {x:?}: its last axis must be {ins}"
            )));
        };
        Ok(Self { rows: leading.iter().product(), ins, outs })
    }

    /// `y = act(x wᵀ + bias + residual)`.
    fn run(self, x: Numbers<'_>, w: &[Elem], then: LayerEpilogue<'_>, y: MatMut<'_>) {
        let (x, w) = (Mat::new(x, self.rows, self.ins), Mat::new(w, self.outs, self.ins));
        linear(x, w, then, y);
    }

    /// What the product costs.
    pub fn work(self) -> Work {
        Work::sums(self.rows * self.outs, self.ins)
    }

    /// The shape of the result for an input of this shape.
    pub fn output(&self, x: &[usize]) -> Vec<usize> {
        let leading = &x[..x.len() - 1];
        leading.iter().copied().chain([self.outs]).collect()
    }
}

impl Grads<'_> {
    /// `dy w`, the gradient of the input of a linear map.
    pub(super) fn input_of_linear(&mut self, i: usize, s: LinearShape, dy: Numbers<'_>, w: &[Elem]) {
        let mut dx = self.pool.take(s.rows * s.ins);
        let (d, w) = (Mat::new(dy, s.rows, s.outs), Mat::new(w, s.outs, s.ins));
        gemm(1.0, d, w, 0.0, MatMut::new(&mut dx, s.rows, s.ins), Epilogue::default());
        self.worked(s.work());
        self.add(i, dx);
    }

    /// `dyᵀ x` and the column sums of `dy`, the gradients of the weight and the bias of a linear map, where they are
    /// asked for.
    pub(super) fn weights_of_linear(
        &mut self,
        weight: usize,
        bias: Option<usize>,
        s: LinearShape,
        dy: Numbers<'_>,
        x: Numbers<'_>,
    ) {
        if self.wants(weight) {
            let mut dw = self.pool.take(s.outs * s.ins);
            let (d, x) = (Mat::new(dy, s.rows, s.outs), Mat::new(x, s.rows, s.ins));
            gemm(1.0, d.t(), x, 0.0, MatMut::new(&mut dw, s.outs, s.ins), Epilogue::default());
            self.worked(s.work());
            self.add(weight, dw);
        }
        if let Some(bias) = bias.filter(|i| self.wants(*i)) {
            let mut db = self.pool.take(s.outs);
            col_sums(dy, 0.0, &mut db);
            self.add(bias, db);
        }
    }
}
