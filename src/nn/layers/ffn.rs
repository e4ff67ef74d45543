//! The feed-forward network of a transformer's block.

use crate::base::Result;
use crate::kernels::{
    Act, Bias, Epilogue, Mat, MatMut, Numbers, NumbersMut, gelu_halves, gemm, gemm_add, gemm_gelu,
    gemm_gelu_of_half, gemm_gelu_slope, gemm_mul,
};
use crate::module;
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::init::draw::Distribution;
use crate::nn::init::{Init, Xavier};
use crate::nn::shapes::expect_shape;
use crate::nn::{DropPath, Dropout, Forward, GELU, Linear, Module, Var};

use super::layer_scale::LayerScale;
use super::linear::LinearShape;

/// Two linear layers with GELU (or another activation) between them, over the last axis: `x + second(gelu(first(x)))`.
///
/// Weight names are MMCV's, `layers.0.0` and `layers.1`. The weights begin uniform by Xavier's rule, the biases from
/// N(0, 10⁻¹²), as in MMPretrain's vision transformer.
pub struct FFN {
    layers: Layers,
    gamma2: Option<LayerScale>,
    drop_path: DropPath,
    init: Vec<Init>,
}

struct Layers {
    hidden: Hidden,
    fc: Linear,
    drop: Dropout,
}

struct Hidden {
    fc: Linear,
    act: Box<dyn Module>,
    /// Whether the activation is GELU, of which both layers can be one op.
    gelu: bool,
    drop: Dropout,
}

module!(FFN { layers, gamma2, drop_path as "dropout_layer" }, init_cfg = init);
module!(Layers { hidden as "0", fc as "1", drop as "2" });
module!(Hidden { fc as "0", act as "1", drop as "2" });

impl FFN {
    /// From `embed_dims` to `feedforward_channels` and back, each layer followed by dropout of probability `drop`.
    pub fn new(embed_dims: usize, feedforward_channels: usize, drop: f64) -> Self {
        let dropout = || Dropout::new(drop);
        let fc = Linear::new(embed_dims, feedforward_channels);
        let hidden = Hidden { fc, act: Box::new(GELU::new()), gelu: true, drop: dropout() };
        let layers = Layers { hidden, fc: Linear::new(feedforward_channels, embed_dims), drop: dropout() };
        let rule = Xavier { distribution: Distribution::Uniform, ..Xavier::default() };
        let init = vec![Init::new(rule).layer("Linear").bias_std(1e-6)];
        Self { layers, gamma2: None, drop_path: DropPath::new(0.0), init }
    }

    /// The probability with which a sample's branch is left out in training.
    #[must_use]
    pub fn drop_path(mut self, p: f64) -> Self {
        self.drop_path.drop_prob = p;
        self
    }

    /// What the branch is multiplied by at first; without such weights for 0.
    #[must_use]
    pub fn layer_scale(mut self, first: f64) -> Self {
        let dims = self.layers.fc.weight.value.shape()[0];
        self.gamma2 = (first > 0.0).then(|| LayerScale::new(dims, first));
        self
    }

    /// What stands between the layers; GELU unless this says otherwise.
    #[must_use]
    pub fn act(mut self, act: impl Module) -> Self {
        self.layers.hidden.act = Box::new(act);
        self.layers.hidden.gelu = false;
        self
    }

    /// `residual +` what the two layers make of `x`.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn forward_add<'t>(
        &mut self,
        x: Var<'t>,
        residual: Var<'t>,
        cx: &mut Forward<'_>,
    ) -> Result<Var<'t>> {
        let Self { layers: Layers { hidden, fc, drop }, gamma2, drop_path, .. } = self;
        let dropping = cx.training && (hidden.drop.p > 0.0 || drop.p > 0.0 || drop_path.drop_prob > 0.0);
        let adapted = hidden.fc.is_adapted() || fc.is_adapted();
        let fuses = hidden.gelu && !dropping && gamma2.is_none() && !adapted;
        if let (true, Some(first), Some(second)) = (fuses, &hidden.fc.bias, &fc.bias) {
            let tape = x.tape();
            let first = [tape.param(&hidden.fc.weight), tape.param(first)];
            let second = [tape.param(&fc.weight), tape.param(second)];
            return x.feed_forward(first, second, residual).checked();
        }
        (self.branch(x, cx)? + residual).checked()
    }

    /// What the two layers make of `x`, without a sum.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn branch<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let Self { layers: Layers { hidden, fc, drop }, gamma2, drop_path, .. } = self;
        let x = hidden.fc.forward(x, cx)?;
        let x = hidden.act.forward(x, cx)?;
        let x = hidden.drop.forward(x, cx)?;
        let x = fc.forward(x, cx)?;
        let x = drop.forward(x, cx)?;
        let x = match gamma2 {
            Some(gamma2) => gamma2.forward(x, cx)?,
            None => x,
        };
        drop_path.forward(x, cx)
    }
}

impl Module for FFN {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_add(x, x, cx)
    }
}

impl<'t> Var<'t> {
    /// `gelu(x w₁ᵀ + b₁) w₂ᵀ + b₂ + residual`: `first` and `second` are weight [out, in] and bias `[out]` of a linear
    /// map.
    ///
    /// GELU is applied on the way of the first product to memory, and its slope is kept rather than its input, so that
    /// the way back is a factor on the way of another product.
    pub fn feed_forward(self, first: [Self; 2], second: [Self; 2], residual: Self) -> Self {
        self.attempt(|| self.try_feed_forward(first, second, residual))
    }

    fn try_feed_forward(self, first: [Self; 2], second: [Self; 2], residual: Self) -> Result<Self> {
        let x = self.held();
        let ([w1, b1], [w2, b2]) = (first.map(Var::value), second.map(Var::value));
        let s1 = LinearShape::new(x.shape(), w1.shape())?;
        let inner = s1.output(x.shape());
        let s2 = LinearShape::new(&inner, w2.shape())?;
        let shape = s2.output(&inner);
        self.tape.worked_by(first[0], s1.work());
        self.tape.worked_by(second[0], s2.work());
        expect_shape("the bias of a linear map", b1.shape(), &[s1.outs])?;
        expect_shape("the bias of a linear map", b2.shape(), &[s2.outs])?;
        let more = residual.value();
        expect_shape("what is added to a linear map", more.shape(), &shape)?;

        let inputs = [self, first[0], first[1], second[0], second[1], residual];
        let asked = inputs[..5].iter().any(|v| v.requires_grad());
        let len = s1.rows * s1.outs;
        let half = asked && self.tape.holds_bf16(len);
        let (mut h, mut y) = (self.tape.output(half, len), self.tape.take(s2.rows * s2.outs));
        // What the way back needs besides: the slope, or in bf16 what GELU is taken of, from which it finds all again.
        let mut kept = self.tape.output(half, if asked { len } else { 0 });
        let (xm, wm) = (Mat::new(x.numbers(), s1.rows, s1.ins), Mat::new(slice(&w1), s1.outs, s1.ins));
        let to = MatMut::new(h.numbers(), s1.rows, s1.outs);
        match kept.numbers() {
            NumbersMut::Half(sum) => gemm_gelu_of_half(xm, wm.t(), slice(&b1), to, sum),
            NumbersMut::Full(slope) if asked => gemm_gelu(xm, wm.t(), slice(&b1), to, slope),
            NumbersMut::Full(_) => {
                gemm(1.0, xm, wm.t(), 0.0, to, Epilogue { bias: Bias::Cols(slice(&b1)), act: Act::Gelu });
            }
        }
        let (hm, wm) = (Mat::new(h.read(), s2.rows, s2.ins), Mat::new(slice(&w2), s2.outs, s2.ins));
        let to = MatMut::new(&mut y, s2.rows, s2.outs);
        gemm_add(hm, wm.t(), Bias::Cols(slice(&b2)), slice(&more), to);
        let y = tensor(&shape, y);
        if !asked {
            self.tape.with_pool(|pool| h.recycle(pool));
            return Ok(self.tape.node("feed_forward", y, &[residual], |dy, grads| grads.add(0, dy)));
        }
        let h = match half {
            true => {
                self.tape.with_pool(|pool| h.recycle(pool));
                None
            }
            false => Some(h),
        };
        Ok(self.tape.node("feed_forward", y, &inputs, move |dy, grads| {
            let h = h.unwrap_or_else(|| {
                let mut h = grads.pool.take_owned(half, len);
                if let (Numbers::Half(sum), NumbersMut::Half(h)) = (kept.read(), h.numbers()) {
                    gelu_halves(sum, h);
                }
                h
            });
            grads.weights_of_linear(3, Some(4), s2, Numbers::Full(&dy), h.read());
            h.recycle(grads.pool);
            if (0..3).any(|i| grads.wants(i)) {
                let mut dh = grads.pool.take_owned(half, len);
                let (d, wm) = (Mat::new(&dy, s2.rows, s2.outs), Mat::new(slice(&w2), s2.outs, s2.ins));
                let to = MatMut::new(dh.numbers(), s2.rows, s2.ins);
                match kept.read() {
                    Numbers::Full(slope) => gemm_mul(d, wm, slope, to),
                    Numbers::Half(sum) => gemm_gelu_slope(d, wm, sum, to),
                }
                grads.worked(s2.work());
                grads.weights_of_linear(1, Some(2), s1, dh.read(), x.numbers());
                if grads.wants(0) {
                    grads.input_of_linear(0, s1, dh.read(), slice(&w1));
                }
                dh.recycle(grads.pool);
            }
            kept.recycle(grads.pool);
            grads.add(5, dy);
        }))
    }
}
