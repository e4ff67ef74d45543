//! The head with one linear layer.

use super::{ClsHead, Head};
use crate::base::Result;
use crate::model::{LossDict, Outputs};
use crate::nn::init::{Init, Normal};
use crate::nn::{Forward, Linear, Module, Target, Var};
use crate::parts;

/// Scores by a linear layer, `fc`, whose weights begin as N(0, 0.01²) and whose biases as 0.
pub struct LinearClsHead {
    fc: Linear,
    cls: ClsHead,
    init: Vec<Init>,
}

parts!(LinearClsHead { fc }, init_cfg = init);

impl LinearClsHead {
    /// A layer from `in_channels` features to `num_classes` scores, and the loss of `cls`.
    pub fn new(num_classes: usize, in_channels: usize, cls: ClsHead) -> Self {
        let init = Init::new(Normal { mean: 0.0, std: 0.01 }).layer("Linear");
        Self { fc: Linear::new(in_channels, num_classes), cls, init: vec![init] }
    }

    /// The same with other initial weights.
    #[must_use]
    pub fn init(self, init: Vec<Init>) -> Self {
        Self { init, ..self }
    }
}

impl Module for LinearClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.fc.forward(x, cx)
    }
}

impl Head for LinearClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.cls.loss(scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores, target)
    }
}
