//! The feed-forward network of a transformer's block.

use crate::base::Result;
use crate::module;
use crate::nn::init::{Init, Xavier, draw::Distribution};
use crate::nn::{Dropout, Forward, GELU, Linear, Module, Var};

/// Two linear layers with GELU between them, over the last axis: `x + second(gelu(first(x)))`.
///
/// Weight names are MMCV's, `layers.0.0` and `layers.1`. The weights begin uniform by Xavier's rule, the biases from
/// N(0, 10⁻¹²), as in MMPretrain's vision transformer.
pub struct FFN {
    layers: Layers,
    init: Vec<Init>,
}

struct Layers {
    hidden: Hidden,
    fc: Linear,
    drop: Dropout,
}

struct Hidden {
    fc: Linear,
    act: GELU,
    drop: Dropout,
}

module!(FFN { layers }, init_cfg = init);
module!(Layers { hidden as "0", fc as "1", drop as "2" });
module!(Hidden { fc as "0", act as "1", drop as "2" });

impl FFN {
    /// From `embed_dims` to `feedforward_channels` and back, each layer followed by dropout of probability `drop`.
    pub fn new(embed_dims: usize, feedforward_channels: usize, drop: f64) -> Self {
        let dropout = || Dropout::new(drop);
        let fc = Linear::new(embed_dims, feedforward_channels);
        let hidden = Hidden { fc, act: GELU {}, drop: dropout() };
        let layers = Layers { hidden, fc: Linear::new(feedforward_channels, embed_dims), drop: dropout() };
        let rule = Xavier { distribution: Distribution::Uniform, ..Xavier::default() };
        Self { layers, init: vec![Init::new(rule).layer("Linear").bias_std(1e-6)] }
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
        let Layers { hidden, fc, drop } = &mut self.layers;
        let dropping = cx.training && (hidden.drop.p > 0.0 || drop.p > 0.0);
        if let (false, Some(first), Some(second)) = (dropping, &hidden.fc.bias, &fc.bias) {
            let tape = x.tape();
            let first = [tape.param(&hidden.fc.weight), tape.param(first)];
            let second = [tape.param(&fc.weight), tape.param(second)];
            return x.feed_forward(first, second, residual).checked();
        }
        let x = hidden.fc.forward(x, cx)?;
        let x = hidden.act.forward(x, cx)?;
        let x = hidden.drop.forward(x, cx)?;
        let x = fc.forward(x, cx)?;
        (drop.forward(x, cx)? + residual).checked()
    }
}

impl Module for FFN {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_add(x, x, cx)
    }
}
